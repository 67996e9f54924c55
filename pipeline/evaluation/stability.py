"""Whether prototypes can be trusted: the same from other seeds, used by somebody, and users between them.

Everything is said of the model that is evaluated; further fits, which train makes from other seeds, are held
against it and serve nothing else.
"""

from typing import Any

import numpy as np
import torch

from pal.comparisons import Comparisons, Questions
from pal.evaluation.stability import adjusted_rand, dead, match, outside
from pal.fitting.fit import read_blocks
from pal.serving.saved_model import SavedModel
from pipeline import paths
from pipeline.evaluation.answers import decided, margins_by
from pipeline.study import Study

MAX_QUESTIONS = 20_000


def of(data: Study, model: SavedModel) -> dict[str, Any] | None:
    """What the report says of a model's prototypes; None for one prototype.

    Returns:
        seeds (further fits), agreement (of matched prototypes; by prototype too), same_groups (adjusted Rand
        index of the users' nearest prototypes), same_answers (share of test questions on which a user's
        rewards prefer the same response), true_groups (adjusted Rand index with the true groups), n_groups,
        dead (prototypes), outside (seen and unseen users, and of how many). None where something is not
        known.
    """
    if model.config.K == 1:
        return None
    others = [SavedModel.load(path) for path in paths.further_fits(paths.models(data.dataset))]
    return {
        **_held_against(data, model, others),
        **_true_groups(data, model),
        "dead": [k + 1 for k, unused in enumerate(dead(model.weights).tolist()) if unused],
        "outside": _outside(data, model),
    }


def _held_against(data: Study, model: SavedModel, others: list[SavedModel]) -> dict[str, Any]:
    names = ("agreement", "by_prototype", "same_groups", "same_answers")
    if not others:
        return {"seeds": 0, **dict.fromkeys(names)}
    asked = torch.unique(data.select("seen", "train").question)[:MAX_QUESTIONS]
    questions, test = data.comparisons.questions[asked], data.select("seen", "test")
    here, shares = _at_prototypes(data, model, questions), model.weights.mean(0)
    (ours,) = margins_by(model, [model.weights], data, test)
    agreement, groups, answers = [], [], []
    for other in others:
        at = _at_prototypes(data, other, questions)
        agreement.append(match(here, at, shares, other.weights.mean(0)).agreement)
        groups.append(adjusted_rand(_nearest(model.weights), _nearest(other.weights)))
        (theirs,) = margins_by(other, [other.weights], data, test)
        answers.append(float(((ours > 0) == (theirs > 0)).double().mean()))
    by_prototype = torch.stack(agreement).mean(0)
    return {
        "seeds": len(others),
        "agreement": _short(by_prototype @ shares.double()),
        "by_prototype": [_short(each) for each in by_prototype],
        "same_groups": _short(np.mean(groups)),
        "same_answers": _short(np.mean(answers)),
    }


def _at_prototypes(data: Study, model: SavedModel, questions: Questions) -> torch.Tensor:
    with torch.inference_mode():
        return model.head.prototype_margins(model.head.read(data.embeddings, questions))


def _true_groups(data: Study, model: SavedModel) -> dict[str, Any]:
    """Agreement of seen users' nearest prototypes with their true groups, and how many groups there are."""
    groups = data.groups and data.groups["seen"]
    if not groups:
        return {"true_groups": None, "n_groups": None}
    return {
        "true_groups": _short(adjusted_rand(np.array(groups), _nearest(model.weights))),
        "n_groups": len(set(groups)),
    }


def _nearest(weights: torch.Tensor) -> np.ndarray:
    return weights.argmax(1).numpy()


def _outside(data: Study, model: SavedModel) -> dict[str, dict[str, int]] | None:
    """Users outside the hull, by the answers that located them; None where margins bend with the weights."""
    if not model.head.linear or model.fit_config.loss != "logistic":
        return None
    found = {}
    for half, split in (("seen", "train"), ("unseen", "adapt")):
        pairs, _ = decided(data.select(half, split))
        n_users = data.n_users(half)
        away = outside(_signed(data, model, pairs), pairs.user, n_users=n_users)
        found[half] = {"users": int(away.sum()), "of": int((torch.bincount(pairs.user) > 0).sum())}
    return found


def _signed(data: Study, model: SavedModel, pairs: Comparisons) -> torch.Tensor:
    """Margins in favour of the chosen response at each prototype."""
    parts = [torch.zeros(0, model.config.K)]
    with torch.inference_mode():
        for block, read, place in read_blocks(model.head, data.embeddings, pairs):
            parts.append(model.head.prototype_margins(read).index_select(0, place) * block.sign[:, None])
    return torch.cat(parts).clone()


def _short(value: Any) -> float:
    return round(float(value), 6)
