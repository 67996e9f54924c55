"""What the report shows of a model: users on the simplex, prototypes by their items, the truth where known.

Items are shown as texts, or as small pictures that are part of the page; the gallery shows pairs of which one
picture has a colour filter.
"""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from pal.comparisons import Questions
from pal.models.base import PrototypeModel
from pal.models.ideal_point import IdealPointModel
from pal.serving.saved_model import SavedModel
from pipeline import paths
from pipeline.encoding import images
from pipeline.evaluation.prototypes import prototype_margins
from pipeline.storage.manifests import read_json
from pipeline.study import Study

MAX_USERS = 2000
MAX_QUESTIONS = 20_000
MAX_ITEMS_OF_TRUTH = 5000
MAX_FILTERED = 2000
THUMBNAIL_WIDTH = 96
THUMBNAIL_BYTES = 64_000
PAIR_ITEMS = ("prompt", "chosen", "rejected")


def portrait(
    data: Study, model: SavedModel, items: pl.DataFrame, n_items: int, accuracy: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The report's `users`, `prototypes` and `truth`; empty for a model without prototypes.

    Unseen users stand where all their comparisons put them; without any, at the seen users' mean.

    Args:
        data: The dataset.
        model: The model, fitted on it.
        items: The dataset's items, for display.
        n_items: Items per prototype, most and least preferred.
        accuracy: For seen and unseen, each user's accuracy.
    """
    if not isinstance(model.head, PrototypeModel):
        return {"users": [], "prototypes": [], "truth": None}
    adapt = data.select("unseen", "adapt")
    unseen = model.locate(data.embeddings, adapt, n_users=data.n_users("unseen"))
    weights = {"seen": model.states, "unseen": unseen}
    return {
        "users": [row for half in weights for row in _users(data, half, weights[half], accuracy.get(half))],
        "prototypes": _prototypes(data, model, items, n_items),
        "truth": _truth(data, model, weights),
    }


def _users(
    data: Study, half: str, weights: torch.Tensor, accuracy: np.ndarray | None
) -> list[dict[str, Any]]:
    """Evenly spaced users of one half, at most a thousand."""
    step = max(1, -(-len(weights) // (MAX_USERS // 2)))
    return [
        {
            "user_id": data.user_ids[half][row],
            "users": half,
            "group": None if data.groups is None else data.groups[half][row],
            "weights": [round(w, 4) for w in weights[row].tolist()],
            "accuracy": None
            if accuracy is None or np.isnan(accuracy[row])
            else round(float(accuracy[row]), 4),
        }
        for row in range(0, len(weights), step)
    ]


def _prototypes(data: Study, model: SavedModel, items: pl.DataFrame, n_items: int) -> list[dict[str, Any]]:
    """Per prototype the answers that it prefers most and least to their alternatives, taken alone."""
    if not (items["modality"] != "vector").any():
        return []
    rows = torch.unique(data.select("seen", "train").question)[:MAX_QUESTIONS]
    questions = data.comparisons.questions[rows]
    margins = prototype_margins(data, model, questions)
    row, sign = _sides(data, questions)
    prompt = questions.prompt[row].tolist()
    response = torch.where(sign > 0, questions.first[row], questions.second[row]).tolist()
    prototypes = []
    for k in range(model.config.K):
        score = margins[row, k] * sign
        order = torch.argsort(score, descending=True, stable=True).tolist()
        ends = {}
        for end, by_rank in (("most", order), ("least", order[::-1])):
            first: dict[tuple[int, int], int] = {}  # one response can win over several others
            for i in by_rank:
                first.setdefault((prompt[i], response[i]), i)
            top = list(first.values())[:n_items]
            ends[end] = [(prompt[i], response[i], float(score[i])) for i in top]
        prototypes.append(ends)
    chosen = [answer for ends in prototypes for end in ends.values() for answer in end]
    ids = {data.prompt_ids[prompt] for prompt, _, _ in chosen if prompt >= 0}
    shown = show_items(items, data.dataset, ids | {data.response_ids[response] for _, response, _ in chosen})
    shares = model.states.mean(0)
    return [
        {
            "prototype": k + 1,
            "share": round(float(shares[k]), 4),
            **{end: [_answer(data, shown, *answer) for answer in answers] for end, answers in ends.items()},
        }
        for k, ends in enumerate(prototypes)
    ]


def _sides(data: Study, questions: Questions) -> tuple[torch.Tensor, torch.Tensor]:
    """The answers to show: their questions' rows, and +1 for the first response, -1 for the second.

    Where there are two answers in all, as yes and no, the one chosen less often is shown: what someone says
    yes to tells more than all that is refused.
    """
    answers = torch.unique(torch.cat([questions.first, questions.second]))
    sides = [torch.ones(len(questions), dtype=torch.bool)] * 2
    if len(answers) == 2:
        train = data.select("seen", "train")
        q = train.questions
        chosen = torch.where(train.sign > 0, q.first[train.question], q.second[train.question])
        rare = answers[torch.stack([(chosen == answer).sum() for answer in answers]).argmin()]
        sides = [questions.first == rare, questions.second == rare]
    first, second = (side.nonzero().squeeze(1) for side in sides)
    return torch.cat([first, second]), torch.cat([torch.ones(len(first)), -torch.ones(len(second))])


def _answer(
    data: Study, shown: "dict[str, ShownItem]", prompt: int, response: int, score: float
) -> dict[str, Any]:
    """One answer as the report shows it."""
    question = shown.get(data.prompt_ids[prompt], ShownItem()) if prompt >= 0 else ShownItem()
    answer = shown.get(data.response_ids[response], ShownItem())
    return {
        "prompt": question.text,
        "prompt_image": question.image,
        "response": answer.text or "",
        "image": answer.image,
        "score": round(score, 3),
    }


def _truth(data: Study, model: SavedModel, weights: dict[str, torch.Tensor]) -> dict[str, Any] | None:
    """Orthogonal Procrustes of predicted onto true ideal points of a simulation, in one plane; else None.

    Preferences fix the space up to rotation and scale, so the predicted one is turned onto the true one by
    the items alone; the plane is that of the true points' largest spread.
    """
    path = paths.prepared(data.dataset) / "truth.json"
    if not path.exists() or not isinstance(model.head, IdealPointModel):
        return None
    from scipy.linalg import orthogonal_procrustes

    truth = read_json(path, f"prepare@{data.dataset}")
    matrix = np.array(truth["matrix"])
    with torch.inference_mode():
        items = data.embeddings.responses[:MAX_ITEMS_OF_TRUTH].float()
        ours = model.head.map_responses(items.new_zeros(len(items), 0), items).numpy()
        ideal = {half: model.head.ideal_points(w).numpy() for half, w in weights.items()}
        corners = model.head.ideal_points(torch.eye(model.config.K)).numpy()
    theirs = items.numpy() @ matrix.T
    width = max(ours.shape[1], theirs.shape[1])

    def wide(x: np.ndarray) -> np.ndarray:
        return np.pad(x, ((0, 0), (0, width - x.shape[1])))

    turn, strength = orthogonal_procrustes(wide(ours), wide(theirs))
    scale = strength / (ours**2).sum()
    prototypes = np.array(truth["prototypes"])
    true_users = wide(np.array(truth["weights"]) @ prototypes @ matrix.T)
    centre = true_users.mean(0)
    plane = np.linalg.svd(true_users - centre, full_matrices=False)[2][:2].T

    def flat(x: np.ndarray) -> list[list[float]]:
        return [[round(float(v), 4) for v in row] for row in (x - centre) @ plane]

    true_flat = dict(zip(truth["user_ids"], flat(true_users), strict=True))
    dominant = dict(zip(truth["user_ids"], np.array(truth["weights"]).argmax(1) + 1, strict=True))
    users = [
        {
            "user_id": user,
            "users": half,
            "group": f"nearest prototype {dominant[user]}",
            "true": true_flat[user],
            "predicted": at,
        }
        for half, points in ideal.items()
        for user, at in zip(data.user_ids[half], flat(scale * wide(points) @ turn), strict=True)
    ]
    return {
        "axes": "the two directions in which the true ideal points spread most; predicted points were turned "
        "and scaled onto the true space by the items alone",
        "users": users,
        "prototypes": [{"true": at} for at in flat(wide(prototypes @ matrix.T))],
        "predicted_prototypes": flat(scale * wide(corners) @ turn),
    }


def gallery(data: Study, items: pl.DataFrame, n_pairs: int) -> list[dict[str, Any]]:
    """Test pairs with a colour filter, in turn from every group with the winner and with the loser filtered.

    Args:
        data: The dataset.
        items: Its items table.
        n_pairs: How many to show at most; none are shown where no pair is filtered.
    """
    rows = _in_turn(_filtered_pairs(data), n_pairs)
    wanted = {row[column] for row in rows for column in PAIR_ITEMS if row[column] is not None}
    shown = show_items(items, data.dataset, wanted)
    pairs = []
    for row in rows:
        prompt, chosen, rejected = (shown.get(row[column], ShownItem()) for column in PAIR_ITEMS)
        images = {"prompt": prompt.text, "chosen": chosen.image, "rejected": rejected.image}
        pairs.append({**images, **{key: row[key] for key in ("filtered", "group", "user")}})
    return pairs


def _in_turn(rows: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """Up to n rows, by turns from each group and filter; no prompt twice while others are left."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault((row["group"] or "", row["filtered"]), []).append(row)
    queues = [kinds[kind] for kind in sorted(kinds)]
    taken: list[dict[str, Any]] = []
    prompts: set[str | None] = set()
    while len(taken) < n and any(queues):
        for queue in queues:
            if queue and len(taken) < n:
                fresh = next((i for i, row in enumerate(queue) if row["prompt"] not in prompts), 0)
                taken.append(queue.pop(fresh))
                prompts.add(taken[-1]["prompt"])
    return taken


def _filtered_pairs(data: Study) -> list[dict[str, Any]]:
    """The first filtered test pairs of seen users, of unseen ones where seen users have none."""
    filtered = (data.places["split"] == "test") & data.places["filtered"].is_not_null()
    halves = [half for half in ("seen", "unseen") if (filtered & (data.places["users"] == half)).any()]
    if not halves:
        return []
    half = halves[0]
    rows = (filtered & (data.places["users"] == half)).arg_true()[:MAX_FILTERED]
    pairs = data.comparisons[torch.from_numpy(rows.to_numpy().astype("int64"))]
    q = pairs.questions[pairs.question]
    chosen, rejected = (
        torch.where(pairs.sign > 0, q.first, q.second),
        torch.where(pairs.sign > 0, q.second, q.first),
    )
    columns = (x.tolist() for x in (pairs.user, q.prompt, chosen, rejected))
    return [
        {
            "prompt": data.prompt_ids[prompt] if prompt >= 0 else None,
            "chosen": data.response_ids[chosen],
            "rejected": data.response_ids[rejected],
            "filtered": mark,
            "group": None if data.groups is None else data.groups[half][user],
            "user": data.user_ids[half][user],
        }
        for user, prompt, chosen, rejected, mark in zip(*columns, data.places["filtered"][rows], strict=True)
    ]


@dataclass(frozen=True)
class ShownItem:
    """An item on the page.

    Args:
        text: Its text; None where it is no text.
        image: Its thumbnail as a data URI; None where it is no image, or could not be opened.
    """

    text: str | None = None
    image: str | None = None


def show_items(items: pl.DataFrame, dataset: str, wanted: set[str]) -> dict[str, ShownItem]:
    """Texts and thumbnails of some items, by item id; vectors have neither.

    Args:
        items: The items table.
        dataset: Whose they are.
        wanted: Item ids; others are not opened.
    """
    wanted_items = items.filter(pl.col("item_id").is_in(list(wanted))).with_columns(
        pl.col("modality").cast(pl.String)
    )
    texts = wanted_items.filter(pl.col("modality") == "text")
    shown = {item: ShownItem(text=text) for item, text in texts.select("item_id", "text").iter_rows()}
    pictures = wanted_items.filter(pl.col("modality") == "image")
    if len(pictures):
        thumbnails = images.thumbnails(pictures, dataset, THUMBNAIL_WIDTH)
        shown |= {
            item: ShownItem(image=data_uri(thumbnails.get(item))) for item in pictures["item_id"].to_list()
        }
    return shown


def data_uri(jpeg: bytes | None) -> str | None:
    """A JPEG as a data URI; None for what is missing, no JPEG, or too large to be a thumbnail."""
    if not jpeg or len(jpeg) > THUMBNAIL_BYTES or not jpeg.startswith(b"\xff\xd8\xff"):
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
