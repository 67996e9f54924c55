"""The paper's objective: mean loss over comparisons, with free or given states of the users.

Shapes used in this module:
    n      comparisons
    users  users
    state  numbers of a user's state
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from pal.comparisons import Comparisons, Embeddings, distinct_rows
from pal.config import FitConfig
from pal.fitting.objective import Objective
from pal.models.base import PreferenceModel
from pal.models.losses import LOSSES, expected_loss, weighted_mean


class PerComparison(Objective):
    """Mean loss over comparisons, a free state for each user (PAL, section 2.3).

    For a model with prototypes the free numbers are logits of the users' weights; they start at zero with a
    little noise (D16), everyone an even mix, or as `weights_start` says.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        train: Comparisons,
        config: FitConfig,
        n_users: int,
        model: PreferenceModel,
    ) -> None:
        super().__init__(embeddings, train, config)
        self.free = nn.Parameter(config.logit_init_std * torch.randn(n_users, model.state_dim))

    @override
    def loss(self, model: PreferenceModel, batch: Comparisons, done: float) -> Float[Tensor, ""]:
        if len(self.free) <= len(batch):  # map whichever is fewer: users or comparisons
            states = model.free_to_states(self.free).index_select(0, batch.user)
        else:
            states = model.free_to_states(self.free.index_select(0, batch.user))
        return pairwise_loss(self, model, batch, states)

    @override
    def states(self, model: PreferenceModel) -> Float[Tensor, "users state"]:
        return model.free_to_states(self.free).detach()


class FixedStates(Objective):
    """Mean loss over comparisons, the users' states given: one prototype for all, or known groups."""

    def __init__(
        self,
        embeddings: Embeddings,
        train: Comparisons,
        config: FitConfig,
        states: Float[Tensor, "users state"],
    ) -> None:
        super().__init__(embeddings, train, config)
        self.register_buffer("given", states.clone())

    @override
    def loss(self, model: PreferenceModel, batch: Comparisons, done: float) -> Float[Tensor, ""]:
        return pairwise_loss(self, model, batch, self.given.index_select(0, batch.user))

    @override
    def states(self, model: PreferenceModel) -> Float[Tensor, "users state"]:
        return self.given


def pairwise_loss(
    objective: Objective, model: PreferenceModel, batch: Comparisons, states: Float[Tensor, "n state"]
) -> Float[Tensor, ""]:
    """Mean loss of a batch's margins under aligned states, plus the bound loss where the config sets it."""
    config = objective.config
    distinct, row = distinct_rows(batch.question, len(batch.questions))
    features = objective.question_features(model, batch.questions[distinct]).index_select(0, row)
    margin = model.margin(features, states) * batch.sign
    loss = weighted_mean(expected_loss(LOSSES[config.loss], margin, batch.label), batch.weight)
    if not config.bound_loss:
        return loss
    # Summed, not averaged, over the batch, as in the authors' code (D13).
    return loss + config.bound_loss * torch.relu(model.ideal_lengths(features, states) - config.bound).sum()
