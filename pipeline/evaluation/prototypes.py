"""Stability of prototypes over seeds, users outside their hull, and the test of plurality, for the report.

Stability is about the model that is evaluated: further fits, which train makes from other seeds, are compared
with it and serve nothing else.
"""

from typing import Any

import numpy as np
import torch

from pal.comparisons import Questions
from pal.evaluation.prototypes import dead_prototypes, match_prototypes, outside_hull, plurality_test
from pal.models.base import PrototypeModel, feature_blocks
from pal.serving.reward_model import RewardModel
from pipeline import paths
from pipeline.evaluation.predictions import locate, margins_by, rounded, without_ties
from pipeline.params import Evaluate
from pipeline.study import Study

MAX_QUESTIONS = 20_000


def plurality(
    data: Study, model: RewardModel, users: str, knobs: Evaluate, *, items: str = "all", test: str = ""
) -> dict[str, float | str | None]:
    """Permutation test of whether users' own states predict their test answers better than shuffled ones.

    Seen users have their states from training, unseen ones from the headline shots of the first draw.

    Args:
        data: The dataset.
        model: The model evaluated.
        users: seen or unseen.
        knobs: Shots and seed.
        items: Judged on all items, or on known or new ones alone.
        test: Of which named test set; empty for all.

    Returns:
        differ_p, and where it is null, why: nulls both where there is nothing to shuffle, fewer than two
        users, or none that can be located.
    """
    held_out = data.select(
        users, "test", items if items != "all" else None, **({"test": test} if test else {})
    )
    known = data.select(users, "train" if users == "seen" else "adapt")
    if data.n_users(users) < 2 or not len(held_out) or not len(known):
        return {"differ_p": None, "why": None}
    states = model.states
    if users == "unseen":
        states = locate(data, model, knobs)[knobs.headline_shots][0]
    p_value = plurality_test(model.head, states, data.embeddings, held_out, seed=knobs.seed).p_value
    return {
        "differ_p": rounded(p_value),
        "why": "users are asked of different things" if p_value is None else None,
    }


def stability(data: Study, model: RewardModel) -> dict[str, Any] | None:
    """What the report says of a model's prototypes; None for one prototype, or a model without.

    Returns:
        seeds (further fits), agreement (of matched prototypes; by prototype too), same_groups (adjusted Rand
        index of the users' nearest prototypes), same_answers (share of test questions on which a user's
        rewards prefer the same response), true_groups (adjusted Rand index with the true groups), n_groups,
        dead (prototypes), outside (seen and unseen users, and of how many). None where something is not
        known.
    """
    if not isinstance(model.head, PrototypeModel) or model.config.K == 1:
        return None
    others = [RewardModel.load(path) for path in paths.further_fits(paths.models(data.dataset))]
    groups, nearest = data.groups and data.groups["seen"], model.states.argmax(1).numpy()
    names = ("agreement", "by_prototype", "same_groups", "same_answers")
    return {
        "seeds": len(others),
        **(_agreement(data, model, others) if others else dict.fromkeys(names)),
        "true_groups": same_groups(np.array(groups), nearest) if groups else None,
        "n_groups": len(set(groups)) if groups else None,
        "dead": [k + 1 for k, dead in enumerate(dead_prototypes(model.states).tolist()) if dead],
        "outside": _outside(data, model),
    }


def same_groups(one: np.ndarray, other: np.ndarray) -> float:
    """Adjusted Rand index of two groupings of the same users."""
    from sklearn.metrics import adjusted_rand_score  # as long to import as numpy, polars and pydantic

    return rounded(adjusted_rand_score(one, other))


def _agreement(data: Study, model: RewardModel, others: list[RewardModel]) -> dict[str, Any]:
    """Agreement of the model with fits from other seeds: of prototypes, users' groups and answers."""
    rows = torch.unique(data.select("seen", "train").question)[:MAX_QUESTIONS]
    questions, test = data.comparisons.questions[rows], data.select("seen", "test")
    margins, shares = prototype_margins(data, model, questions), model.states.mean(0)
    (ours,) = margins_by(model, [model.states], data, test)
    agreement, groups, answers = [], [], []
    for other in others:
        theirs_at = prototype_margins(data, other, questions)
        agreement.append(match_prototypes(margins, theirs_at, shares, other.states.mean(0)).agreement)
        nearest = (fit.states.argmax(1).numpy() for fit in (model, other))
        groups.append(same_groups(*nearest))
        (theirs,) = margins_by(other, [other.states], data, test)
        answers.append(float(((ours > 0) == (theirs > 0)).double().mean()))
    by_prototype = torch.stack(agreement).mean(0)
    return {
        "agreement": rounded(float(by_prototype @ shares.double())),
        "by_prototype": [rounded(each) for each in by_prototype.tolist()],
        "same_groups": rounded(float(np.mean(groups))),
        "same_answers": rounded(float(np.mean(answers))),
    }


def prototype_margins(data: Study, model: RewardModel, questions: Questions) -> torch.Tensor:
    """(questions, K): the margin of each question's first response at each prototype."""
    with torch.inference_mode():
        return model.head.prototype_margins(model.head.question_features(data.embeddings, questions))


def _outside(data: Study, model: RewardModel) -> dict[str, dict[str, Any]] | None:
    """Users whose located answers are 20 times likelier outside the prototypes' convex hull.

    None for models whose margin is not linear in the weights.
    """
    if not model.head.linear or model.fit_config.loss != "logistic":
        return None
    counts = {}
    for half, split in (("seen", "train"), ("unseen", "adapt")):
        pairs, _ = without_ties(data.select(half, split))
        margins = [torch.zeros(0, model.config.K)]
        with torch.inference_mode():
            for block, features, place in feature_blocks(model.head, data.embeddings, pairs):
                at_prototypes = model.head.prototype_margins(features).index_select(0, place)
                margins.append(at_prototypes * block.sign[:, None])
        outside = outside_hull(torch.cat(margins).clone(), pairs.user, n_users=data.n_users(half))
        who = [data.user_ids[half][row] for row in outside.nonzero()[:, 0].tolist()]
        counts[half] = {"users": len(who), "of": int((torch.bincount(pairs.user) > 0).sum()), "who": who}
    return counts
