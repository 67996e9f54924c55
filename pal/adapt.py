"""Adapting: locate new users from a handful of comparisons, everything else frozen.

The prior is where the seen users' weights lie, as at most 128 points of the simplex with masses. A user's
log-likelihoods at these points simply add up over comparisons, so one comparison more, or merging two
histories, is exact. `solve_weights` is the other road where margins are linear in the weights: the convex
maximum-likelihood problem on the simplex, solved to optimality.

Shapes used in this module:
    n       comparisons
    users   users to locate
    points  points of the prior
    K       prototypes
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig
from pal.errors import PalError
from pal.fit import read_blocks
from pal.heads import Head
from pal.losses import LOSSES, expected_loss

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

        Where users stand at more places than that, places are merged by k-means, started from the place of
        most users and then, each time, the place farthest from those taken. No randomness.
        """
        # A thousandth is far below what a handful of comparisons can tell apart.
        places, home = torch.unique((weights * 1000).round() / 1000, dim=0, return_inverse=True)
        count = torch.bincount(home, minlength=len(places)).to(weights.dtype)
        if len(places) <= max_points:
            points, mass = places, count
        else:
            points, mass = _merge(places, count, max_points)
        return cls(points / points.sum(1, keepdim=True), mass / mass.sum())

    @property
    def mean(self) -> Float[Tensor, " K"]:
        """The user-balanced mean of the seen users' weights: the zero-shot weights."""
        return self.mass @ self.points

    def weights(self, log_likelihood: Float[Tensor, "users points"]) -> Float[Tensor, "users K"]:
        """Posterior mean weights of users, from their summed log-likelihoods at the points."""
        return torch.softmax(self.mass.log() + log_likelihood, 1) @ self.points


def _merge(
    places: Float[Tensor, "places K"], count: Float[Tensor, " places"], n: int, rounds: int = 25
) -> tuple[Float[Tensor, "n K"], Float[Tensor, " n"]]:
    """Weighted k-means. Written out, since a library's runs in threads whose sums differ from run to run."""
    centres = places[count.argmax()][None]
    nearest = (places - centres[0]).square().sum(1)
    for _ in range(n - 1):
        centres = torch.cat([centres, places[nearest.argmax()][None]])
        nearest = torch.minimum(nearest, (places - centres[-1]).square().sum(1))
    for _ in range(rounds):
        home = torch.cdist(places, centres).argmin(1)
        mass = count.new_zeros(n).index_add(0, home, count)
        sums = torch.zeros_like(centres).index_add(0, home, places * count[:, None])
        centres = torch.where(mass[:, None] > 0, sums / mass.clamp_min(1e-12)[:, None], centres)
    home = torch.cdist(places, centres).argmin(1)
    mass = count.new_zeros(n).index_add(0, home, count)
    return centres[mass > 0], mass[mass > 0]


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
        comparisons: Answers of users to locate.
        loss: The loss the head was fitted with; minus a hinge loss serves as a pseudo-log-likelihood.
    """
    parts = []
    for block, read, place in read_blocks(head, embeddings, comparisons):
        margin = head.margins_at(read, prior.points).index_select(0, place) * block.sign[:, None]
        label = None if block.label is None else block.label[:, None]
        parts.append(-expected_loss(LOSSES[loss], margin, label))
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

    Returns:
        Posterior mean weights; a user without comparisons gets the prior's mean, the zero-shot weights.
    """
    loss = "logistic" if config is None else config.loss
    with torch.inference_mode():
        each = comparison_log_likelihoods(head, prior, embeddings, comparisons, loss)
        total = each.new_zeros(n_users, each.shape[1]).index_add(0, comparisons.user, each)
        return prior.weights(total)


def solve_weights(
    margins: Float[Tensor, "n K"],
    user: Int[Tensor, " n"],
    *,
    n_users: int,
    tolerance: float = 1e-5,
    max_rounds: int = 40,
) -> tuple[Float[Tensor, "users K"], Float[Tensor, " users"]]:
    """Maximum-likelihood weights on the simplex, for heads whose margins are linear in them; all users at once.

    Minimises the mean of log(1 + exp(-margins @ w)) per user over w >= 0, sum w = 1 by a primal-dual
    interior-point method: Newton steps on the perturbed optimality conditions, a K x K system per user.

    Args:
        margins: Each comparison's margin in favour of the chosen response at each prototype
            (`Head.prototype_margins` times the sign).
        user: Whose comparison it is, from 0 to `n_users` - 1.
        n_users: Users to solve for; one without comparisons gets even weights.
        tolerance: Largest KKT residual to stop at.
        max_rounds: Newton steps at most.

    Returns:
        Weights, and each user's KKT residual: the largest move that a projected unit gradient step makes.

    Raises:
        PalError: If a margin is not finite.
    """
    if not bool(torch.isfinite(margins).all()):
        raise PalError("margins must be finite, got NaN or infinity; check the embeddings")
    K = margins.shape[1]
    margins = margins.double()
    share = (1 / torch.bincount(user, minlength=n_users).double()).index_select(0, user)
    w = margins.new_full((n_users, K), 1 / K)
    z = torch.ones_like(w)
    residual = torch.full_like(w[:, 0], float("inf"))
    for _ in range(max_rounds):
        gradient, hessian = _derivatives(margins, share, user, w)
        residual = _kkt_residual(w, gradient)
        if bool((residual <= tolerance).all()):
            break
        w, z = _newton_step(w, z, gradient, hessian)
    return w.float(), residual.float()


def _derivatives(
    margins: Float[Tensor, "n K"], share: Float[Tensor, " n"], user: Int[Tensor, " n"], w: Tensor
) -> tuple[Float[Tensor, "users K"], Float[Tensor, "users K K"]]:
    miss = torch.sigmoid(-(margins * w.index_select(0, user)).sum(1))
    gradient = torch.zeros_like(w).index_add(0, user, -(share * miss)[:, None] * margins)
    curved = (share * miss * (1 - miss))[:, None] * margins
    outer = (curved[:, :, None] * margins[:, None, :]).flatten(1)
    K = w.shape[1]
    return gradient, w.new_zeros(len(w), K * K).index_add(0, user, outer).view(-1, K, K)


def _newton_step(w: Tensor, z: Tensor, gradient: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
    """One primal-dual step towards a tenth of the present complementarity, kept inside the cone."""
    K = w.shape[1]
    target = 0.1 * (w * z).sum(1, keepdim=True) / K
    matrix = hessian + torch.diag_embed(z / w)
    sides = torch.stack([target / w - gradient, torch.ones_like(w)], 2)
    along, across = torch.linalg.solve(matrix, sides).unbind(2)
    # The multiplier of sum w = 1 is chosen so that the step keeps the sum.
    step = along - across * (along.sum(1) / across.sum(1))[:, None]
    dz = target / w - z - z / w * step
    w = w + _longest(w, step) * step
    return w / w.sum(1, keepdim=True), z + _longest(z, dz) * dz


def _longest(x: Tensor, step: Tensor) -> Tensor:
    """The longest share of a step, at most 1, that keeps each row positive with a little to spare."""
    ratio = torch.where(step < 0, -x / step, torch.inf).amin(1, keepdim=True)
    return (0.995 * ratio).clamp(max=1.0)


def _kkt_residual(w: Tensor, gradient: Tensor) -> Float[Tensor, " users"]:
    return (w - project_to_simplex(w - gradient)).abs().amax(1)


def project_to_simplex(x: Float[Tensor, "n K"]) -> Float[Tensor, "n K"]:
    """The nearest point of the simplex to each row (Held, Wolfe and Crowder 1974)."""
    ordered = x.sort(1, descending=True).values
    excess = ordered.cumsum(1) - 1
    count = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)
    last = ((ordered - excess / count) > 0).sum(1, keepdim=True) - 1
    return (x - excess.gather(1, last) / (last + 1)).clamp_min(0)
