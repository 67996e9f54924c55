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
from jaxtyping import Bool, Float, Int
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

    @property
    def mean(self) -> Float[Tensor, " K"]:
        """The user-balanced mean of the seen users' weights: the zero-shot weights."""
        return self.mass @ self.points

    def weights(self, log_likelihood: Float[Tensor, "users points"]) -> Float[Tensor, "users K"]:
        """Posterior mean weights of users, from their summed log-likelihoods at the points."""
        return torch.softmax(self.mass.log() + log_likelihood, 1) @ self.points


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


def solve_weights(
    margins: Float[Tensor, "n K"],
    user: Int[Tensor, " n"],
    *,
    n_users: int,
    tolerance: float = 1e-5,
    max_rounds: int = 200,
) -> tuple[Float[Tensor, "users K"], Float[Tensor, " users"]]:
    """Maximum-likelihood weights on the simplex, where margins are linear in them; all users at once.

    Minimises the mean of log(1 + exp(-margins @ w)) per user over w >= 0, sum w = 1 by a primal-dual
    interior-point method (Waechter and Biegler 2006, section 2): Newton steps, a K x K system per user, cut
    back until the barrier function falls, and a barrier that is lowered once it is minimised. A user's
    weights do not depend on which others are solved for beside.

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
    answers = _Answers.of(margins.double(), user, n_users)
    w = answers.margins.new_full((n_users, K), 1 / K)
    z = torch.ones_like(w)
    barrier = torch.full_like(w[:, :1], 0.1)
    result, residual = w.clone(), torch.zeros_like(w[:, 0])
    left = torch.arange(n_users, device=w.device)
    for _ in range(max_rounds):
        gradient, hessian = answers.derivatives(w)
        result[left], residual[left] = w, _kkt_residual(w, gradient)
        going = residual[left] > tolerance
        if not bool(going.any()):
            break
        if not bool(going.all()):
            left, w, z, barrier = left[going], w[going], z[going], barrier[going]
            gradient, hessian, answers = gradient[going], hessian[going], answers.of_users(going)
        barrier = _lowered(barrier, w, z, gradient)
        w, z = _newton_step(answers, barrier, w, z, gradient, hessian)
    return result.float(), residual.float()


@dataclass(frozen=True)
class _Answers:
    """Signed margins of many users' comparisons, and the loss that they make of weights.

    Args:
        margins: In favour of the chosen response, at each prototype.
        user: Whose comparison it is.
        share: One over the number of that user's comparisons.
        n_users: Users in all.
    """

    margins: Float[Tensor, "n K"]
    user: Int[Tensor, " n"]
    share: Float[Tensor, " n"]
    n_users: int

    @classmethod
    def of(cls, margins: Float[Tensor, "n K"], user: Int[Tensor, " n"], n_users: int) -> "_Answers":
        count = torch.bincount(user, minlength=n_users).to(margins.dtype)
        return cls(margins, user, 1 / count.index_select(0, user), n_users)

    def of_users(self, keep: Bool[Tensor, " users"]) -> "_Answers":
        """Only these users' answers, users numbered anew."""
        rows = keep.index_select(0, self.user)
        number = keep.cumsum(0) - 1
        return _Answers(self.margins[rows], number[self.user[rows]], self.share[rows], int(keep.sum()))

    def loss(self, w: Float[Tensor, "users K"]) -> Float[Tensor, " users"]:
        """Each user's mean logistic loss."""
        each = LOSSES["logistic"]((self.margins * w.index_select(0, self.user)).sum(1))
        return w.new_zeros(self.n_users).index_add(0, self.user, self.share * each)

    def derivatives(
        self, w: Float[Tensor, "users K"]
    ) -> tuple[Float[Tensor, "users K"], Float[Tensor, "users K K"]]:
        """Gradients and Hessians of the users' losses, summed in one pass."""
        margins, K = self.margins, w.shape[1]
        miss = torch.sigmoid(-(margins * w.index_select(0, self.user)).sum(1))
        curved = (self.share * miss * (1 - miss))[:, None] * margins
        outer = (curved[:, :, None] * margins[:, None, :]).flatten(1)
        each = torch.cat([-(self.share * miss)[:, None] * margins, outer], 1)
        total = w.new_zeros(self.n_users, K + K * K).index_add(0, self.user, each)
        return total[:, :K], total[:, K:].view(-1, K, K)


def _lowered(
    barrier: Float[Tensor, "users 1"],
    w: Float[Tensor, "users K"],
    z: Float[Tensor, "users K"],
    gradient: Float[Tensor, "users K"],
) -> Float[Tensor, "users 1"]:
    """Lower the barrier of users who have as good as reached its minimum."""
    slope = gradient - z
    off = torch.maximum((slope - slope.mean(1, keepdim=True)).abs(), (w * z - barrier).abs())
    near = off.amax(1, keepdim=True) <= 10 * barrier
    return torch.where(near, torch.minimum(0.2 * barrier, barrier**1.5).clamp_min(1e-13), barrier)


def _newton_step(
    answers: _Answers,
    barrier: Float[Tensor, "users 1"],
    w: Float[Tensor, "users K"],
    z: Float[Tensor, "users K"],
    gradient: Float[Tensor, "users K"],
    hessian: Float[Tensor, "users K K"],
) -> tuple[Float[Tensor, "users K"], Float[Tensor, "users K"]]:
    """One primal-dual step, kept inside the cone and cut back until the barrier function falls."""
    # Curvature along (1, ..., 1) changes no step that keeps the sum, and keeps the matrix far from singular.
    curvature = hessian.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    matrix = hessian + curvature + torch.diag_embed(z / w + 1e-13 * curvature[:, 0])
    sides = torch.stack([barrier / w - gradient, torch.ones_like(w)], 2)
    along, across = torch.linalg.solve(matrix, sides).unbind(2)
    # The multiplier of sum w = 1 is chosen so that the step keeps the sum.
    step = along - across * (along.sum(1) / across.sum(1))[:, None]
    dz = barrier / w - z - z / w * step
    w = _descended(answers, barrier, w, _longest(w, step) * step, gradient)
    z = z + _longest(z, dz) * dz
    # Kept near what the barrier implies, z cannot lead the next step astray.
    implied = barrier / w
    return w, torch.minimum(torch.maximum(z, implied / 1e10), implied * 1e10)


def _descended(
    answers: _Answers,
    barrier: Float[Tensor, "users 1"],
    w: Float[Tensor, "users K"],
    step: Float[Tensor, "users K"],
    gradient: Float[Tensor, "users K"],
) -> Float[Tensor, "users K"]:
    """Each user's step, halved until it lowers loss - barrier * sum(log w) as its slope promises (Armijo)."""

    def height(at: Float[Tensor, "users K"]) -> Float[Tensor, " users"]:
        return answers.loss(at) - barrier[:, 0] * at.log().sum(1)

    here, slope = height(w), ((gradient - barrier / w) * step).sum(1)
    slack = 1e-13 * (1 + here.abs())  # what rounding may hide
    share = torch.ones_like(here)
    for _ in range(40):
        short = height(w + share[:, None] * step) > here + 1e-4 * share * slope + slack
        if not bool(short.any()):
            break
        share = torch.where(short, share / 2, share)
    new = w + share[:, None] * step
    return new / new.sum(1, keepdim=True)


def _longest(x: Float[Tensor, "users K"], step: Float[Tensor, "users K"]) -> Float[Tensor, "users 1"]:
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
