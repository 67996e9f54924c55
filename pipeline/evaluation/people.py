"""Whether people differ in a way that the model has learned: the test of `plurality`, for both halves."""

from typing import Any

import torch

from pal.evaluation.plurality import plurality_test
from pal.serving.saved_model import SavedModel
from pipeline.evaluation.headline import rounded
from pipeline.evaluation.locating import locate
from pipeline.params import Evaluate
from pipeline.study import Study

NOT_TESTED: dict[str, float | None] = {"gain": None, "differ_p": None}


def differ(data: Study, model: SavedModel, users: str, knobs: Evaluate) -> dict[str, Any]:
    """Whether users' own weights foretell their test answers better than weights dealt among them.

    Seen users have their weights from training, unseen ones from the headline shots of the first draw.
    Weights are dealt among users who are known by about as many comparisons, up to a factor of two. Nulls
    where there is nothing to deal: fewer than two users, or none that can be located.
    """
    held_out = data.select(users, "test")
    known = data.select(users, "train" if users == "seen" else "adapt")
    n_users = data.n_users(users)
    if n_users < 2 or not len(held_out) or not len(known):
        return dict(NOT_TESTED)
    counts = torch.bincount(known.user, minlength=n_users)
    weights = model.weights
    if users == "unseen":
        weights = locate(data, model, knobs)[knobs.headline_shots][0]
        counts = counts.clamp_max(knobs.headline_shots)
    test = plurality_test(
        model.head,
        weights,
        data.embeddings,
        held_out,
        loss=model.fit_config.loss,
        strata=(counts + 1).log2().long(),
        seed=knobs.seed,
    )
    return {"gain": rounded(test.gain), "differ_p": rounded(test.p_value)}
