"""One reward for many people: their mean, the worst group's, or a quantile of the population.

A policy serves everybody at once, so what it is trained on must say whom it is for. PAL's rewards of
different people stand on one scale, that of the preference space, but comparisons fix each person's only up
to a constant: the mean is not touched by that, worst and quantile are. `centred` takes each group's mean
over the responses to a prompt away first, so that these compare what a response *gains* a group.

Shapes used in this module:
    n       responses
    groups  places that rewards are taken at
    state   numbers of a user's state
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pal.errors import PalError
from pal.models.base import PrototypeModel
from pal.serving.items import Items
from pal.serving.model import RewardModel, User
from pal.serving.questions import read_prompts
from pal.users.taste import Taste

Kind = Literal["mean", "worst", "quantile"]


@dataclass(frozen=True)
class Aggregate:
    """How rewards of many become one; made by `mean`, `worst` or `quantile`.

    Args:
        kind: mean, worst or quantile.
        groups: Whose rewards: states, one a row, or users (ids, tastes, states, None), by name or not.
            None stands for the population where users stand (mean, quantile) or the K prototypes (worst).
        share: Of the population, in [0, 1]; quantile alone.
        centred: Whether each group's mean over the responses to one prompt is taken away first.
    """

    kind: Kind = "mean"
    groups: Tensor | Mapping[str, User] | Sequence[User] | None = None
    share: float = 0.5
    centred: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("mean", "worst", "quantile"):
            raise PalError(f"an aggregate must be mean, worst or quantile, got {self.kind!r}")
        if not isinstance(self.share, Real) or isinstance(self.share, bool) or not 0 <= self.share <= 1:
            raise PalError(f"a quantile's share must lie in [0, 1], got {self.share!r}; 0 is the worst off")
        groups = self.groups
        if groups is not None and not isinstance(groups, Tensor | Mapping | list | tuple):
            raise PalError(f"groups must be states, a mapping or a list, got {type(groups).__name__}")
        if groups is not None and not len(groups):
            raise PalError("groups must hold at least one, got none; leave them out for the population")

    @classmethod
    def mean(cls, groups: Any = None) -> "Aggregate":
        """The average reward, of the population or of given groups alike."""
        return cls("mean", groups)

    @classmethod
    def worst(cls, groups: Any = None, *, centred: bool = False) -> "Aggregate":
        """The reward of the group that likes a response least: maximised, this is max-min."""
        return cls("worst", groups, centred=centred)

    @classmethod
    def quantile(cls, share: float, groups: Any = None, *, centred: bool = False) -> "Aggregate":
        """The least reward that at least this share of people do not exceed: 0 is the worst off's."""
        return cls("quantile", groups, share, centred)

    @property
    def name(self) -> str:
        """In a word: `mean`, `worst`, `quantile_0.1`."""
        return f"quantile_{self.share:g}" if self.kind == "quantile" else self.kind

    def points(self, model: RewardModel) -> tuple[Float[Tensor, "groups state"], Float[Tensor, " groups"]]:
        """Where rewards are taken, and the share of people at each; shares sum to 1.

        Raises:
            PalError: If a group is unknown to the model, or a state is none of this model.
        """
        if self.groups is None:
            K = model.head.state_dim
            if self.kind == "worst" and isinstance(model.head, PrototypeModel):
                return torch.eye(K), torch.full((K,), 1 / K)
            prior = model.population.prior
            return prior.states, prior.masses
        given = self.groups
        if not isinstance(given, Tensor):
            users = list(given.values() if isinstance(given, Mapping) else given)
            given = torch.stack([state_of(model, user) for user in users])
        model.head.check_states(given, "groups")
        return given.float(), torch.full((len(given),), 1 / len(given))

    def of(
        self, rewards: Float[Tensor, "n groups"], mass: Float[Tensor, " groups"], prompts: Sequence[Hashable]
    ) -> Float[Tensor, " n"]:
        """One reward per response.

        Args:
            rewards: Each response's at each place.
            mass: Share of people at each place.
            prompts: What each response answers; only which are equal matters, and that only if centred.
        """
        if self.centred:
            place: dict[Hashable, int] = {}
            at = torch.tensor([place.setdefault(one, len(place)) for one in prompts], dtype=torch.long)
            count = torch.bincount(at, minlength=len(place)).clamp_min(1)[:, None]
            total = rewards.new_zeros(len(place), rewards.shape[1]).index_add(0, at, rewards)
            rewards = rewards - (total / count)[at]
        return combined(self.kind, self.share, rewards, mass)


def combined(
    kind: Kind, share: float, rewards: Float[Tensor, "n groups"], mass: Float[Tensor, " groups"]
) -> Float[Tensor, " n"]:
    """One reward per response from those at each place; see `Aggregate`."""
    if kind == "mean":
        return rewards @ mass
    if kind == "worst":
        return rewards.amin(1)
    order = rewards.argsort(1)
    below = mass.double()[order].cumsum(1)
    reached = below >= share - 1e-6  # masses are float32 and may sum to a little less than 1
    reached &= mass[order] > 0
    reached[:, -1] = True
    return rewards.gather(1, order.gather(1, reached.int().argmax(1, keepdim=True)))[:, 0]


def rewards_at(
    model: RewardModel, prompts: Items | None, responses: Items, points: Float[Tensor, "groups state"]
) -> Float[Tensor, "n groups"]:
    """Rewards of responses at several places, everything encoded once.

    Args:
        model: Whose.
        prompts: One per response, or one for all; as `RewardModel.score` takes them.
        responses: What is scored.
        points: States.
    """
    rows = model.reader.read(responses, "responses", model.response_dim)
    table = rows.block(0, len(rows))
    rows = read_prompts(model, model.reader, prompts, len(table), lambda row: f"prompts[{row}]")
    asked = None if rows is None else rows.block(0, len(table))
    return torch.stack([model.score(asked, table, user=point) for point in points], 1).cpu()


def state_of(model: RewardModel, user: User) -> Float[Tensor, " state"]:
    """The state of one user, however given.

    Raises:
        PalError: If the user is unknown, or a taste another model's.
    """
    if isinstance(user, Tensor):
        model.head.check_states(user[None], "the user's state")
        return user.float()
    if user is None or isinstance(user, str):
        return model.state_of(user)
    if not isinstance(user, Taste):
        raise PalError(f"a user must be an id, a Taste, a state or None, got {type(user).__name__}")
    return user.with_model(model).state
