"""Points: the empirical distribution of the seen users' states, as at most 128 states with masses.

Evidence is a person's log-likelihood at each point, so that one answer more, or merging two histories, is
exact.

Shapes used in this module:
    n       comparisons
    users   users
    points  points of the prior
    state   numbers of a user's state
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from pal.comparisons import Comparisons, Embeddings
from pal.errors import PalError
from pal.models.base import PreferenceModel
from pal.users.population import SLACK, Population, Posterior, log_likelihoods

MAX_POINTS = 128


@dataclass(frozen=True)
class Points(Population):
    """Users' states as points with masses.

    Args:
        points: States, (points, state).
        mass: Share of users at each, (points,); sums to 1.
    """

    name = "points"
    evidence_name = "log_likelihood"

    # Without shapes here, so that `check` can name what is wrong with a damaged file.
    points: Tensor
    mass: Tensor

    @override
    @classmethod
    def from_states(cls, states: Float[Tensor, "users state"], *, max_points: int = MAX_POINTS) -> "Points":
        """The empirical distribution of states, brought to at most `max_points` points.

        Users within a thousandth of each other, far less than a handful of comparisons can tell apart, share
        a point; where that leaves too many, k-means merges them, started from the place of most users and
        then, each time, the place farthest from those taken. No randomness. A point is the mean of its
        users' states, so that the prior's mean is exactly theirs.

        Raises:
            PalError: If there are no users.
        """
        if not len(states):
            raise PalError("states must hold at least one user, got none; a prior is fitted to seen users")
        exact = states.double()
        places, place = torch.unique((exact * 1000).round(), dim=0, return_inverse=True)
        if len(places) > max_points:
            place = _merged(places, torch.bincount(place).double(), max_points)[place]
        count = torch.bincount(place).double()
        points = exact.new_zeros(len(count), exact.shape[1]).index_add(0, place, exact) / count[:, None]
        if bool((states >= 0).all()) and bool(((exact.sum(1) - 1).abs() < 1e-4).all()):
            points = points / points.sum(1, keepdim=True)  # shares in float32 do not quite sum to 1
        return cls(points.float(), (count / count.sum()).float())

    @override
    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Points":
        return cls(tensors["points"], tensors["mass"])

    @override
    def tensors(self) -> dict[str, Tensor]:
        return {"points": self.points, "mass": self.mass}

    @override
    def coarsened(self, n_users: int, fewest: int) -> "Points":
        """The same points where each has enough of the `n_users`; else each least one is merged into another.

        A merged point is the mean of its users' states, so the prior's mean stays.
        """
        points, users = self.points.double(), self.mass.double() * n_users
        while len(users) > 1 and float(users.min()) < fewest - 0.5:
            least = int(users.argmin())
            others = torch.arange(len(users)) != least
            nearest = int((points[others] - points[least]).square().sum(1).argmin())
            point, count = points[least], users[least]
            points, users = points[others], users[others]
            points[nearest] += (point - points[nearest]) * count / (users[nearest] + count).clamp_min(1e-12)
            users[nearest] += count
        if len(users) == len(self.mass):
            return self
        return Points(points.float(), (users / users.sum()).float())

    @override
    def check(self, model: PreferenceModel) -> None:
        model.check_states(self.points, "population.points")
        shares = tuple(self.mass.shape) == (len(self.points),) and not bool((self.mass < 0).any())
        if not shares or not abs(float(self.mass.sum()) - 1) <= 1e-4:  # so that NaN is refused
            raise PalError("population.mass must be shares of the points that sum to 1, got others")

    @override
    @property
    def mean(self) -> Float[Tensor, " state"]:
        """The user-balanced mean of the seen users' states."""
        return self.mass @ self.points

    @override
    @cached_property
    def prior(self) -> Posterior:
        return Posterior(self.points, self.mass)

    @override
    @property
    def evidence_size(self) -> int:
        return len(self.mass)

    @override
    def evidence(
        self,
        model: PreferenceModel,
        embeddings: Embeddings,
        comparisons: Comparisons,
        loss: str = "logistic",
    ) -> Float[Tensor, "n points"]:
        """Log-likelihood of each comparison at each point."""
        return log_likelihoods(model, self.points, embeddings, comparisons, loss)

    @override
    def posterior(self, evidence: Float[Tensor, "*users points"]) -> Posterior:
        return self.prior.reweighted(evidence)

    @override
    @staticmethod
    def possible(evidence: Float[Tensor, " points"], comparisons: int, before: int) -> bool:
        # No answer is likelier than certain, so what is left is at most 0, and 0 where no answer is left.
        above = evidence.max() if comparisons else evidence.abs().max()
        return float(above) <= SLACK * max(1, before)


def _merged(
    places: Float[Tensor, "places state"], count: Float[Tensor, " places"], n: int, rounds: int = 25
) -> Int[Tensor, " places"]:
    """Weighted k-means: which of at most `n` groups each place belongs to.

    Written out, since a library's runs in threads whose sums differ from run to run.
    """
    centres = places[count.argmax()][None]
    nearest = (places - centres[0]).square().sum(1)
    for _ in range(n - 1):
        centres = torch.cat([centres, places[nearest.argmax()][None]])
        nearest = torch.minimum(nearest, (places - centres[-1]).square().sum(1))
    for _ in range(rounds):
        group = torch.cdist(places, centres).argmin(1)
        mass = count.new_zeros(n).index_add(0, group, count)
        sums = torch.zeros_like(centres).index_add(0, group, places * count[:, None])
        centres = torch.where(mass[:, None] > 0, sums / mass.clamp_min(1)[:, None], centres)
    group = torch.cdist(places, centres).argmin(1)
    return torch.unique(group, return_inverse=True)[1]
