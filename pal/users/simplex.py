"""The exact road to a user's weights where margins are linear in them: a convex problem on the simplex.

Shapes used in this module:
    n       comparisons
    users   users to solve for
    K       prototypes
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pal.errors import PalError
from pal.models.losses import LOSSES


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
