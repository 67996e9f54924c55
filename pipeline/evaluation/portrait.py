"""What the report shows of a model: users on the simplex, prototypes in words, and the truth where known."""

from typing import TYPE_CHECKING, Any

import torch

from pal.comparisons import Questions
from pal.models.heads import FixedIdealPoints
from pal.serving.saved_model import SavedModel
from pipeline import paths
from pipeline.evaluation import thumbnails
from pipeline.storage.manifests import read_json
from pipeline.study import Study

if TYPE_CHECKING:
    import polars as pl

MAX_USERS = 2000
MAX_QUESTIONS = 20_000


def portrait(
    data: Study, model: SavedModel, items: "pl.DataFrame", n_items: int, accuracy: dict[str, Any]
) -> dict[str, Any]:
    """The report's `users`, `prototypes` and `truth`.

    Unseen users stand where all their comparisons put them; without any, at the seen users' mean.

    Args:
        data: The dataset.
        model: The model, fitted on it.
        items: The dataset's items, for display.
        n_items: Items per prototype, most and least preferred.
        accuracy: For seen and unseen, each user's accuracy.
    """
    weights = {"seen": model.weights, "unseen": model.locate(
        data.embeddings, data.select("unseen", "adapt"), n_users=data.n_users("unseen")
    )}  # fmt: skip
    users = [row for half in weights for row in _users(data, half, weights[half], accuracy.get(half))]
    return {
        "users": users,
        "prototypes": _prototypes(data, model, items, n_items),
        "truth": _truth(data, model, weights),
    }


def _users(data: Study, half: str, weights: torch.Tensor, accuracy: Any) -> list[dict[str, Any]]:
    """Evenly spaced users of one half, at most a thousand."""
    step = max(1, -(-len(weights) // (MAX_USERS // 2)))
    rows = []
    for row in range(0, len(weights), step):
        right = None if accuracy is None else float(accuracy[row])
        rows.append(
            {
                "user_id": data.user_ids[half][row],
                "users": half,
                "group": None if data.groups is None else data.groups[half][row],
                "weights": [round(w, 4) for w in weights[row].tolist()],
                "accuracy": None if right is None or right != right else round(right, 4),
            }
        )
    return rows


def _prototypes(data: Study, model: SavedModel, items: "pl.DataFrame", n_items: int) -> list[dict[str, Any]]:
    """Per prototype the answers that it prefers most and least to their alternatives, taken alone.

    Where there are two answers in all, as yes and no, the one chosen less often is shown: what someone says
    yes to tells more than all that is refused.
    """
    if not (items["modality"] != "vector").any():
        return []
    asked = torch.unique(data.select("seen", "train").question)[:MAX_QUESTIONS]
    questions = data.comparisons.questions[asked]
    with torch.inference_mode():
        scores = model.head.prototype_margins(model.head.read(data.embeddings, questions))
    row, sign = _sides(data, questions)
    prompt = questions.prompt[row].tolist()
    response = torch.where(sign > 0, questions.first[row], questions.second[row]).tolist()
    ends = []
    for k in range(model.config.K):
        value = scores[row, k] * sign
        order = torch.argsort(value, descending=True, stable=True).tolist()
        at = [_first_of_each(way, prompt, response, n_items) for way in (order, order[::-1])]
        ends.append([[(prompt[i], response[i], float(value[i])) for i in rows] for rows in at])
    shown = thumbnails.show(items, data.dataset, _ids(data, ends))
    shares = model.weights.mean(0)
    return [
        {
            "prototype": k + 1,
            "share": round(float(shares[k]), 4),
            "most": [_item(data, shown, *each) for each in most],
            "least": [_item(data, shown, *each) for each in least],
        }
        for k, (most, least) in enumerate(ends)
    ]


def _sides(data: Study, questions: Questions) -> tuple[torch.Tensor, torch.Tensor]:
    """The answers to show: their questions' rows, and +1 for the first response, -1 for the second."""
    train = data.select("seen", "train")
    answers = torch.unique(torch.cat([questions.first, questions.second]))
    everywhere = torch.ones(len(questions), dtype=torch.bool)
    sides = [(everywhere, 1.0), (everywhere, -1.0)]
    if len(answers) == 2:
        q = train.questions
        chosen = torch.where(train.sign > 0, q.first[train.question], q.second[train.question])
        rare = answers[torch.stack([(chosen == a).sum() for a in answers]).argmin()]
        sides = [(questions.first == rare, 1.0), (questions.second == rare, -1.0)]
    rows = [here.nonzero().squeeze(1) for here, _ in sides]
    signs = [torch.full((len(r),), sign) for r, (_, sign) in zip(rows, sides, strict=True)]
    return torch.cat(rows), torch.cat(signs)


def _first_of_each(order: list[int], prompt: list[int], response: list[int], n: int) -> list[int]:
    """The first n rows with different items: one response can win over several others."""
    found: dict[tuple[int, int], int] = {}
    for row in order:
        if len(found) == n:
            break
        found.setdefault((prompt[row], response[row]), row)
    return list(found.values())


def _ids(data: Study, ends: list[Any]) -> set[str]:
    """Ids of all items to show."""
    rows = [each for pair in ends for end in pair for each in end]
    prompts = {data.prompt_ids[prompt] for prompt, _, _ in rows if prompt >= 0}
    return prompts | {data.response_ids[response] for _, response, _ in rows}


def _item(
    data: Study, shown: dict[str, thumbnails.Shown], prompt: int, response: int, score: float
) -> dict[str, Any]:
    """One answer as the report shows it."""
    nothing = thumbnails.Shown()
    asked = shown.get(data.prompt_ids[prompt], nothing) if prompt >= 0 else nothing
    answer = shown.get(data.response_ids[response], nothing)
    return {
        "prompt": asked.text,
        "prompt_image": asked.image,
        "response": answer.text or "",
        "image": answer.image,
        "score": round(score, 3),
    }


def _truth(data: Study, model: SavedModel, weights: dict[str, torch.Tensor]) -> dict[str, Any] | None:
    """Predicted and true ideal points of a simulation, in one plane.

    Preferences fix the space up to rotation and scale, so the predicted one is turned onto the true one
    (orthogonal Procrustes on the items); the plane is that of the true points' largest spread.
    """
    path = paths.prepared(data.dataset) / "truth.json"
    if not path.exists() or not isinstance(model.head, FixedIdealPoints):
        return None
    import numpy as np
    from scipy.linalg import orthogonal_procrustes

    truth = read_json(path, f"prepare@{data.dataset}")
    matrix = np.array(truth["matrix"])
    with torch.inference_mode():
        items = data.embeddings.responses[:5000].float()
        ours = model.head.map_responses(items.new_zeros(len(items), 0), items).numpy()
        ideal = {half: model.head.ideal_points(w).numpy() for half, w in weights.items()}
        corners = model.head.ideal_points(torch.eye(model.config.K)).numpy()
    theirs = items.numpy() @ matrix.T
    width = max(ours.shape[1], theirs.shape[1])

    def wide(x: "np.ndarray") -> "np.ndarray":
        return np.pad(x, ((0, 0), (0, width - x.shape[1])))

    turn, strength = orthogonal_procrustes(wide(ours), wide(theirs))
    scale = strength / (ours**2).sum()
    prototypes = np.array(truth["prototypes"])
    true_users = wide(np.array(truth["weights"]) @ prototypes @ matrix.T)
    centre = true_users.mean(0)
    plane = np.linalg.svd(true_users - centre, full_matrices=False)[2][:2].T

    def flat(x: "np.ndarray") -> list[list[float]]:
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
