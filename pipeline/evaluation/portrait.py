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
from scipy.linalg import orthogonal_procrustes

from pal.comparisons import Questions
from pal.models.base import PrototypeModel
from pal.models.ideal_point import IdealPointModel
from pal.serving.saved_model import SavedModel
from pipeline import paths
from pipeline.encoding import images
from pipeline.evaluation.predictions import HALVES
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


@dataclass(frozen=True)
class ShownItem:
    """An item on the page: a text, or a thumbnail as a data URI; neither where it could not be opened."""

    text: str | None = None
    image: str | None = None


def portrait(
    data: Study, model: SavedModel, items: pl.DataFrame, n_items: int, accuracy: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The report's `users`, `prototypes` and `truth`; empty for a model without prototypes.

    Unseen users stand where all their comparisons put them; without any, at the seen users' mean. Of many
    users, evenly spaced ones are shown.
    """
    if not isinstance(model.head, PrototypeModel):
        return {"users": [], "prototypes": [], "truth": None}
    adapt = data.select("unseen", "adapt")
    unseen = model.locate(data.embeddings, adapt, n_users=data.n_users("unseen"))
    weights = {"seen": model.states, "unseen": unseen}
    users = []
    for half, states in weights.items():
        right = accuracy.get(half, np.full(len(states), np.nan))
        for row in range(0, len(states), max(1, -(-len(states) // (MAX_USERS // 2)))):
            user = {
                "user_id": data.user_ids[half][row],
                "users": half,
                "group": None if data.groups is None else data.groups[half][row],
                "weights": [round(w, 4) for w in states[row].tolist()],
                "accuracy": None if np.isnan(right[row]) else round(float(right[row]), 4),
            }
            users.append(user)
    prototypes = _prototypes(data, model, items, n_items) if (items["modality"] != "vector").any() else []
    return {"users": users, "prototypes": prototypes, "truth": true_points(data, model, weights)}


def _prototypes(data: Study, model: SavedModel, items: pl.DataFrame, n_items: int) -> list[dict[str, Any]]:
    """Per prototype the answers that it prefers most and least to their alternatives, taken alone."""
    rows = torch.unique(data.select("seen", "train").question)[:MAX_QUESTIONS]
    questions = data.comparisons.questions[rows]
    row, sign = _sides(data, questions)
    score = prototype_margins(data, model, questions)[row] * sign[:, None]
    prompt = questions.prompt[row].tolist()
    response = torch.where(sign > 0, questions.first[row], questions.second[row]).tolist()
    chosen: list[dict[str, list[int]]] = []
    for k in range(model.config.K):
        order = torch.argsort(score[:, k], descending=True, stable=True).tolist()
        ends = {}
        for end, by_rank in (("most", order), ("least", order[::-1])):
            first: dict[tuple[int, int], int] = {}  # one response can win over several others
            for i in by_rank:
                first.setdefault((prompt[i], response[i]), i)
            ends[end] = list(first.values())[:n_items]
        chosen.append(ends)
    every = [i for ends in chosen for end in ends.values() for i in end]
    ids = {data.prompt_ids[prompt[i]] for i in every if prompt[i] >= 0}
    shown = show_items(items, data.dataset, ids | {data.response_ids[response[i]] for i in every})

    def answer(i: int, k: int) -> dict[str, Any]:
        asked = shown.get(data.prompt_ids[prompt[i]], ShownItem()) if prompt[i] >= 0 else ShownItem()
        preferred = shown.get(data.response_ids[response[i]], ShownItem())
        return {
            "prompt": asked.text,
            "prompt_image": asked.image,
            "response": preferred.text or "",
            "image": preferred.image,
            "score": round(float(score[i, k]), 3),
        }

    return [
        {
            "prototype": k + 1,
            "share": round(share, 4),
            **{end: [answer(i, k) for i in answers] for end, answers in ends.items()},
        }
        for k, (share, ends) in enumerate(zip(model.states.mean(0).tolist(), chosen, strict=True))
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


def true_points(data: Study, model: SavedModel, weights: dict[str, torch.Tensor]) -> dict[str, Any] | None:
    """Orthogonal Procrustes of predicted onto true ideal points of a simulation, in one plane; else None.

    Preferences fix the space up to rotation and scale, so the predicted one is turned onto the true one by
    the items alone; the plane is that of the true points' largest spread.
    """
    path = paths.prepared(data.dataset) / "truth.json"
    if not path.exists() or not isinstance(model.head, IdealPointModel):
        return None
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
    """At most `n_pairs` test pairs with a colour filter, in turn from every group and either filtered.

    They are of seen users; of unseen ones where seen users have none.
    """
    filtered = (data.places["split"] == "test") & data.places["filtered"].is_not_null()
    halves = [half for half in HALVES if (filtered & (data.places["users"] == half)).any()]
    if not halves:
        return []
    half = halves[0]
    place = (filtered & (data.places["users"] == half)).arg_true()[:MAX_FILTERED]
    pairs = data.comparisons[torch.from_numpy(place.to_numpy().astype("int64"))]
    q = pairs.questions[pairs.question]
    first, second, is_first = q.first.tolist(), q.second.tolist(), (pairs.sign > 0).tolist()
    rows = [
        {
            "prompt": data.prompt_ids[prompt] if prompt >= 0 else None,
            "chosen": data.response_ids[first[i] if is_first[i] else second[i]],
            "rejected": data.response_ids[second[i] if is_first[i] else first[i]],
            "filtered": data.places["filtered"][place[i]],
            "group": None if data.groups is None else data.groups[half][user],
            "user": data.user_ids[half][user],
        }
        for i, (user, prompt) in enumerate(zip(pairs.user.tolist(), q.prompt.tolist(), strict=True))
    ]
    rows = take_turns(rows, n_pairs)
    wanted = {row[column] for row in rows for column in PAIR_ITEMS if row[column] is not None}
    shown = show_items(items, data.dataset, wanted)
    for row in rows:
        prompt, chosen, rejected = (shown.get(row[column], ShownItem()) for column in PAIR_ITEMS)
        row.update(prompt=prompt.text, chosen=chosen.image, rejected=rejected.image)
    return rows


def take_turns(rows: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
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


def show_items(items: pl.DataFrame, dataset: str, wanted: set[str]) -> dict[str, ShownItem]:
    """Texts and thumbnails of the wanted items, by item id; vectors have neither."""
    some = items.filter(pl.col("item_id").is_in(list(wanted)))
    some = some.with_columns(pl.col("modality").cast(pl.String))
    texts = some.filter(pl.col("modality") == "text")
    shown = {item: ShownItem(text=text) for item, text in texts.select("item_id", "text").iter_rows()}
    pictures = some.filter(pl.col("modality") == "image")
    if len(pictures):
        thumbnails = images.thumbnails(pictures, dataset, THUMBNAIL_WIDTH)
        shown |= {item: ShownItem(image=data_uri(thumbnails.get(item))) for item in pictures["item_id"]}
    return shown


def data_uri(jpeg: bytes | None) -> str | None:
    """A JPEG as a data URI; None for what is missing, no JPEG, or too large to be a thumbnail."""
    if not jpeg or len(jpeg) > THUMBNAIL_BYTES or not jpeg.startswith(b"\xff\xd8\xff"):
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
