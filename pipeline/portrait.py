"""What the report shows of a model: users on the simplex, prototypes in words, and the truth where known."""

from typing import Any

import torch

from pal.heads import FixedIdealPoints
from pal.model import RewardModel
from pipeline import layout, study
from pipeline.files import read_json
from pipeline.study import Study

MAX_USERS = 2000
MAX_QUESTIONS = 20_000


def portrait(data: Study, model: RewardModel, n_items: int, accuracy: dict[str, Any]) -> dict[str, Any]:
    """The report's `users`, `prototypes` and `truth`.

    Args:
        data: The dataset.
        model: The model, fitted on it.
        n_items: Items per prototype, most and least preferred.
        accuracy: For seen and unseen, each user's accuracy.
    """
    weights = {"seen": model.weights, "unseen": model.adapt(
        data.embeddings, data.select("unseen", "adapt"), n_users=data.n_users("unseen")
    )}  # fmt: skip
    users = [row for half in weights for row in _users(data, half, weights[half], accuracy.get(half))]
    return {
        "users": users,
        "prototypes": _prototypes(data, model, n_items),
        "truth": _truth(data, model, weights),
    }


def _users(data: Study, half: str, weights: torch.Tensor, accuracy: Any) -> list[dict[str, Any]]:
    """Evenly spaced users of one half, at most a thousand."""
    step = -(-len(weights) // (MAX_USERS // 2))
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


def _prototypes(data: Study, model: RewardModel, n_items: int) -> list[dict[str, Any]]:
    """Per prototype the answers that it prefers most and least to their alternatives, taken alone.

    Where there are two answers in all, as yes and no, the one chosen less often is shown: what someone says
    yes to tells more than all that is refused.
    """
    texts = study.texts(data.dataset)
    if not texts:
        return []
    train = data.select("seen", "train")
    asked = torch.unique(train.question)[:MAX_QUESTIONS]
    questions = train.questions[asked]
    with torch.inference_mode():
        scores = model.head.prototype_margins(model.head.read(data.embeddings, questions))
    answers = torch.unique(torch.cat([questions.first, questions.second]))
    if len(answers) == 2:
        chosen = torch.where(
            train.sign > 0, train.questions.first[train.question], train.questions.second[train.question]
        )
        rare = answers[torch.stack([(chosen == a).sum() for a in answers]).argmin()]
        sides = [(questions.first == rare, 1.0), (questions.second == rare, -1.0)]
    else:
        everywhere = torch.ones(len(questions), dtype=torch.bool)
        sides = [(everywhere, 1.0), (everywhere, -1.0)]
    rows, signs = zip(*((here.nonzero().squeeze(1), sign) for here, sign in sides), strict=True)
    row = torch.cat(rows)
    sign = torch.cat([torch.full((len(r),), s) for r, s in zip(rows, signs, strict=True)])
    response = torch.where(sign > 0, questions.first[row], questions.second[row])
    shares = model.weights.mean(0)

    def show(at: int, k: int, value: torch.Tensor) -> dict[str, Any]:
        prompt = int(questions.prompt[row[at]])
        return {
            "prompt": texts.get(data.prompt_ids[prompt]) if prompt >= 0 else None,
            "response": texts.get(data.response_ids[int(response[at])], ""),
            "score": round(float(value), 3),
        }

    found = []
    for k in range(model.config.K):
        value = scores[row, k] * sign
        order = torch.argsort(value, descending=True, stable=True).tolist()
        found.append(
            {
                "prototype": k + 1,
                "share": round(float(shares[k]), 4),
                "most": [show(at, k, value[at]) for at in order[:n_items]],
                "least": [show(at, k, value[at]) for at in order[::-1][:n_items]],
            }
        )
    return found


def _truth(data: Study, model: RewardModel, weights: dict[str, torch.Tensor]) -> dict[str, Any] | None:
    """Predicted and true ideal points of a simulation, in one plane.

    Preferences fix the space up to rotation and scale, so the predicted one is turned onto the true one
    (orthogonal Procrustes on the items); the plane is that of the true points' largest spread.
    """
    path = layout.prepared(data.dataset) / "truth.json"
    if not path.exists() or not isinstance(model.head, FixedIdealPoints):
        return None
    import numpy as np
    from scipy.linalg import orthogonal_procrustes

    truth = read_json(path, f"prepare@{data.dataset}")
    matrix = np.array(truth["matrix"])
    with torch.inference_mode():
        items = data.embeddings.responses[:5000]
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
