"""Adapting: locate new users from a handful of comparisons, everything else frozen.

The prior is where the seen users' weights lie, as at most 128 points of the simplex with masses. A user's
log-likelihoods at these points simply add up over comparisons, so one comparison more, or merging two
histories, is exact. `solve_weights` is the other road where margins are linear in the weights.

Shapes used in this module:
    n       comparisons
    users   users to locate
    points  points of the prior
    K       prototypes
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig
from pal.errors import PalError
from pal.fitting.fit import read_blocks
from pal.fitting.losses import LOSSES, expected_loss
from pal.models.heads import Head

MAX_POINTS = 128


@dataclass(frozen=True)
class Prior:
    """Where users are expected before they answered anything.

    Args:
        points: Points of the simplex.
        mass: Share of users at each point; sums to 1.
    """

    points: Float[Tensor, "points K"]
    mass: Float[Tensor, " points"]

    @classmethod
    def of(cls, weights: Float[Tensor, "users K"], *, max_points: int = MAX_POINTS) -> "Prior":
        """The empirical distribution of users' weights, brought to at most `max_points` points.

        Users who stand within a thousandth of each other, far less than a handful of comparisons can tell
        apart, share a point; where that leaves too many, k-means merges them, started from the place of most
        users and then, each time, the place farthest from those taken. No randomness. A point is the mean of
        its users' weights, so that the prior's mean is exactly theirs.

        Raises:
            PalError: If there are no users.
        """
        if not len(weights):
            raise PalError("weights must hold at least one user, got none; a prior is where users stand")
        exact = weights.double()
        places, home = torch.unique((exact * 1000).round(), dim=0, return_inverse=True)
        if len(places) > max_points:
            home = _merged(places, torch.bincount(home).double(), max_points)[home]
        count = torch.bincount(home).double()
        points = exact.new_zeros(len(count), exact.shape[1]).index_add(0, home, exact) / count[:, None]
        return cls((points / points.sum(1, keepdim=True)).float(), (count / count.sum()).float())

    @cached_property
    def log_mass(self) -> Float[Tensor, " points"]:
        """Logarithms of the masses, kept: torch takes these in threads, which cost more than they save."""
        return self.mass.log()

    @property
    def mean(self) -> Float[Tensor, " K"]:
        """The user-balanced mean of the seen users' weights: the zero-shot weights."""
        return self.mass @ self.points

    def posterior(self, log_likelihood: Float[Tensor, "users points"]) -> Float[Tensor, "users points"]:
        """Share of each user's belief at each point, from the summed log-likelihoods there."""
        return torch.softmax(self.log_mass + log_likelihood, 1)

    def weights(self, log_likelihood: Float[Tensor, "users points"]) -> Float[Tensor, "users K"]:
        """Posterior mean weights of users, from their summed log-likelihoods at the points."""
        return self.posterior(log_likelihood) @ self.points.to(log_likelihood.dtype)


def _merged(
    places: Float[Tensor, "places K"], count: Float[Tensor, " places"], n: int, rounds: int = 25
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
        home = torch.cdist(places, centres).argmin(1)
        mass = count.new_zeros(n).index_add(0, home, count)
        sums = torch.zeros_like(centres).index_add(0, home, places * count[:, None])
        centres = torch.where(mass[:, None] > 0, sums / mass.clamp_min(1)[:, None], centres)
    home = torch.cdist(places, centres).argmin(1)
    return torch.unique(home, return_inverse=True)[1]


def comparison_log_likelihoods(
    head: Head,
    prior: Prior,
    embeddings: Embeddings,
    comparisons: Comparisons,
    loss: str = "logistic",
) -> Float[Tensor, "n points"]:
    """Log-likelihood of each comparison at each point of the prior.

    Args:
        head: A head in evaluation mode.
        prior: Where to look.
        embeddings: What the comparisons' questions point into.
        comparisons: Answers of users to locate; one of weight 2 counts as two.
        loss: The loss the head was fitted with; minus a hinge loss serves as a pseudo-log-likelihood.
    """
    parts = []
    for block, read, place in read_blocks(head, embeddings, comparisons):
        margin = head.margins_at(read, prior.points).index_select(0, place) * block.sign[:, None]
        label = None if block.label is None else block.label[:, None]
        likelihood = -expected_loss(LOSSES[loss], margin, label)
        parts.append(likelihood if block.weight is None else likelihood * block.weight[:, None])
    return torch.cat(parts) if parts else prior.mass.new_zeros(0, len(prior.mass))


def adapt(
    head: Head,
    prior: Prior,
    embeddings: Embeddings,
    comparisons: Comparisons,
    *,
    n_users: int,
    config: FitConfig | None = None,
) -> Float[Tensor, "users K"]:
    """Locate users by their comparisons; head and prior stay as they are.

    Args:
        head: A head in evaluation mode.
        prior: From the seen users' weights.
        embeddings: What the comparisons' questions point into.
        comparisons: The new users' answers; `user` counts from 0 to `n_users` - 1.
        n_users: Users to locate.
        config: How the head was fitted; its loss is read.

    Raises:
        PalError: If a row number points outside its table.

    Returns:
        Posterior mean weights; a user without comparisons gets the prior's mean, the zero-shot weights.
    """
    comparisons.check(embeddings, n_users=n_users, needs_prompts=head.needs_prompts)
    loss = "logistic" if config is None else config.loss
    with torch.no_grad():  # not inference_mode: what leaves it could never be fitted with again
        each = comparison_log_likelihoods(head, prior, embeddings, comparisons, loss)
        total = each.new_zeros(n_users, each.shape[1]).index_add(0, comparisons.user, each)
        return prior.weights(total)
