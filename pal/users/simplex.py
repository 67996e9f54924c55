"""Maximum-likelihood weights on the simplex where margins are linear in them: a convex problem, exactly.

Shapes used in this module:
    n       comparisons
    users   users to solve for
    K       prototypes
"""

import torch
from jaxtyping import Float, Int
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
            (`PrototypeModel.prototype_margins` times the sign).
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
    share = 1 / torch.bincount(user, minlength=n_users).to(margins.dtype).index_select(0, user)
    w = margins.new_full((n_users, K), 1 / K)
    z = torch.ones_like(w)
    barrier = torch.full_like(w[:, :1], 0.1)
    result, residual = w.clone(), torch.zeros_like(w[:, 0])
    left = torch.arange(n_users, device=w.device)

    def loss(w: Float[Tensor, "left K"]) -> Float[Tensor, " left"]:
        each = LOSSES["logistic"]((margins * w.index_select(0, user)).sum(1))
        return w.new_zeros(len(w)).index_add(0, user, share * each)

    for _ in range(max_rounds):
        miss = torch.sigmoid(-(margins * w.index_select(0, user)).sum(1))
        curved = (share * miss * (1 - miss))[:, None] * margins
        outer = (curved[:, :, None] * margins[:, None, :]).flatten(1)
        each = torch.cat([-(share * miss)[:, None] * margins, outer], 1)
        total = w.new_zeros(len(w), K + K * K).index_add(0, user, each)
        gradient, hessian = total[:, :K], total[:, K:].view(-1, K, K)
        off = (w - project_to_simplex(w - gradient)).abs().amax(1)
        result[left], residual[left] = w, off
        going = off > tolerance
        if not bool(going.any()):
            break
        if not bool(going.all()):  # go on with the users who are not solved yet
            left, w, z, barrier = left[going], w[going], z[going], barrier[going]
            gradient, hessian = gradient[going], hessian[going]
            rows, number = going.index_select(0, user), going.cumsum(0) - 1
            margins, share, user = margins[rows], share[rows], number[user[rows]]
        # Lower the barrier of users who have as good as reached its minimum.
        slope = gradient - z
        off = torch.maximum((slope - slope.mean(1, keepdim=True)).abs(), (w * z - barrier).abs())
        lower = torch.minimum(0.2 * barrier, barrier**1.5).clamp_min(1e-13)
        barrier = torch.where(off.amax(1, keepdim=True) <= 10 * barrier, lower, barrier)
        # Curvature along (1, ..., 1) changes no step that keeps the sum, and keeps the matrix regular.
        curvature = hessian.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        matrix = hessian + curvature + torch.diag_embed(z / w + 1e-13 * curvature[:, 0])
        sides = torch.stack([barrier / w - gradient, torch.ones_like(w)], 2)
        along, across = torch.linalg.solve(matrix, sides).unbind(2)
        # The multiplier of sum w = 1 is chosen so that the step keeps the sum.
        step = along - across * (along.sum(1) / across.sum(1))[:, None]
        dz = barrier / w - z - z / w * step
        step = _longest(w, step) * step
        # Halve each user's step until it lowers the barrier function as its slope promises (Armijo).
        before = loss(w) - barrier[:, 0] * w.log().sum(1)
        promise = ((gradient - barrier / w) * step).sum(1)
        slack = 1e-13 * (1 + before.abs())  # what rounding may hide
        fraction = torch.ones_like(before)
        for _ in range(40):
            new = w + fraction[:, None] * step
            after = loss(new) - barrier[:, 0] * new.log().sum(1)
            short = after > before + 1e-4 * fraction * promise + slack
            if not bool(short.any()):
                break
            fraction = torch.where(short, fraction / 2, fraction)
        w = w + fraction[:, None] * step
        w = w / w.sum(1, keepdim=True)
        z = z + _longest(z, dz) * dz
        # Kept near what the barrier implies, z cannot lead the next step astray.
        implied = barrier / w
        z = torch.minimum(torch.maximum(z, implied / 1e10), implied * 1e10)
    return result.float(), residual.float()


def _longest(x: Float[Tensor, "users K"], step: Float[Tensor, "users K"]) -> Float[Tensor, "users 1"]:
    """The longest share of a step, at most 1, that keeps each row positive with a little to spare."""
    ratio = torch.where(step < 0, -x / step, torch.inf).amin(1, keepdim=True)
    return (0.995 * ratio).clamp(max=1.0)


def project_to_simplex(x: Float[Tensor, "n K"]) -> Float[Tensor, "n K"]:
    """The nearest point of the simplex to each row (Held, Wolfe and Crowder 1974)."""
    ordered = x.sort(1, descending=True).values
    excess = ordered.cumsum(1) - 1
    count = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)
    last = ((ordered - excess / count) > 0).sum(1, keepdim=True) - 1
    return (x - excess.gather(1, last) / (last + 1)).clamp_min(0)
