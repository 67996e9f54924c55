"""Aggregated rewards of many people: mean, worst group, quantile, median, or who wins most duels.

A policy serves everybody at once, so its reward must say whom it is for. Rewards of different people are on
one scale, that of the preference space, but comparisons determine each person's only up to a constant. The
mean does not depend on these constants; worst and quantile do. `centred` subtracts each group's mean over the
responses to a prompt first, so that they compare what a response *gains* a group.

Shapes: n responses, groups (states that rewards are taken for).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.errors import PalError
from pal.models.base import PrototypeModel
from pal.serving.reward_model import RewardModel, User

Kind = Literal["mean", "worst", "quantile", "median", "minimax"]


@dataclass(frozen=True)
class Aggregate:
    """How rewards of many become one.

    By `mean`, the average; `worst`, the reward of the group that likes a response least (maximised, this is
    max-min); `quantile`, the least reward that at least this share of people do not exceed; `median`; or
    `minimax`, the least share of people who prefer a response to another one to the same prompt. The response
    with the most is the minimax winner (Simpson 1969, Kramer 1977): the one that loses least in its worst
    duel, and the Condorcet winner where there is one. A single response has 0.5.
    """

    kind: Kind = "mean"
    # Whose rewards: states, one a row, or users (ids, tastes, states, None). By default the population's; for
    # the worst of a model with prototypes, these.
    groups: Tensor | Sequence[User] | None = None
    share: float = 0.5  # of the population, in [0, 1]; quantile alone
    centred: bool = False  # whether each group's mean over the responses to one prompt is subtracted first

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise PalError(f"an aggregate must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if not isinstance(self.share, Real) or isinstance(self.share, bool) or not 0 <= self.share <= 1:
            raise PalError(f"a quantile's share must lie in [0, 1], got {self.share!r}; 0 is the worst off")
        if self.groups is not None and not isinstance(self.groups, Tensor | list | tuple):
            raise PalError(f"groups must be states or a list, got {type(self.groups).__name__}")
        if self.groups is not None and not len(self.groups):
            raise PalError("groups must hold at least one, got none; leave them out for the population")

    @property
    def name(self) -> str:
        """In a word: `mean`, `worst`, `quantile_0.1`."""
        return f"quantile_{self.share:g}" if self.kind == "quantile" else self.kind

    def states(self, model: RewardModel) -> tuple[Float[Tensor, "groups state"], Float[Tensor, " groups"]]:
        """States that rewards are taken for, and the share of people at each; shares sum to 1."""
        if self.groups is None:
            if self.kind == "worst" and isinstance(model.head, PrototypeModel):
                K = model.head.state_dim
                return torch.eye(K), torch.full((K,), 1 / K)
            prior = model.population.prior
            return prior.states, prior.masses
        states = model.states_of(list(self.groups), len(self.groups))
        return states, torch.full((len(states),), 1 / len(states))

    def combine(
        self, rewards: Float[Tensor, "n groups"], mass: Float[Tensor, " groups"], prompts: Sequence[Hashable]
    ) -> Float[Tensor, " n"]:
        """One reward per response from those for each state; of prompts only which are equal matters."""
        numbers = {prompt: n for n, prompt in enumerate(dict.fromkeys(prompts))}
        number = torch.tensor([numbers[prompt] for prompt in prompts], dtype=torch.long)
        if self.kind == "minimax":
            return _least_share(rewards, mass, number)
        if self.centred:
            count = torch.bincount(number, minlength=len(numbers))[:, None]
            total = rewards.new_zeros(len(numbers), rewards.shape[1]).index_add(0, number, rewards)
            rewards = rewards - (total / count)[number]
        if self.kind == "mean":
            return rewards @ mass
        if self.kind == "worst":
            return rewards.amin(1)
        share = 0.5 if self.kind == "median" else self.share
        order = rewards.argsort(1)
        below = mass.double()[order].cumsum(1)
        reached = below >= share - 1e-6  # masses are float32 and may sum to a little less than 1
        reached &= mass[order] > 0
        reached[:, -1] = True
        return rewards.gather(1, order.gather(1, reached.int().argmax(1, keepdim=True)))[:, 0]


def _least_share(
    rewards: Float[Tensor, "n groups"], mass: Float[Tensor, " groups"], number: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Of each response the least share who prefer it to another one of the same prompt."""
    least = torch.full((len(rewards),), 0.5)
    for prompt in range(int(number.max()) + 1 if len(number) else 0):
        rows = (number == prompt).nonzero()[:, 0]
        if len(rows) > 1:
            duels = torch.stack([torch.sigmoid(rewards[row] - rewards[rows]) @ mass for row in rows])
            duels.fill_diagonal_(1.0)
            least[rows] = duels.amin(1)
    return least


def rewards_for(
    model: RewardModel,
    prompts: Any,
    responses: Any,
    users: User | Aggregate | list[User],
    prompt_of: Sequence[Hashable] | None = None,
) -> Float[Tensor, " n"]:
    """Rewards for one user, for a user of each response, or for an aggregate.

    `prompt_of` tells which prompts are equal, for a centred aggregate; by default `prompts` themselves do.
    """
    read = prompts if model.reads_prompts else None
    if not isinstance(users, Aggregate):
        return model.score(read, responses, user=users)
    states, mass = users.states(model)
    return users.combine(model.score_states(read, responses, states), mass, prompt_of or prompts)
