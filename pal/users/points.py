"""Points: the empirical distribution of the seen users' states, as at most 128 states with masses.

Evidence is a person's log-likelihood at each point, so that one answer more, or merging two histories, is
exact. With no prior a user's state is the likeliest: the few-shot step of PAL's own texts. Where margins are
linear in weights of prototypes that is a convex problem, solved exactly (`solve_weights`); elsewhere (a
cosine, a distance that is not squared, a hinge) L-BFGS lowers the sum of all users' losses from even weights.

Shapes: n comparisons, users, points of the prior, s numbers of a state, K prototypes, f features kept per
question.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from pal.comparisons import Comparisons, Embeddings
from pal.errors import PalError
from pal.models.base import LOSSES, PreferenceModel, PrototypeModel
from pal.users.population import SLACK, Population, Posterior, log_likelihoods

MAX_POINTS = 128
MAX_ROUNDS, TOLERANCE = 200, 1e-5  # Newton steps of `solve_weights`, and the KKT residual at which it stops


@dataclass(frozen=True)
class Points(Population):
    """Users' states as points with masses."""

    name = "points"
    evidence_name = "log_likelihood"

    # Without shapes here, so that `check` can name what is wrong with a damaged file.
    points: Tensor  # states, (points, state)
    mass: Tensor  # share of users at each, (points,); sums to 1

    @override
    @classmethod
    def from_states(cls, states: Float[Tensor, "users s"], *, max_points: int = MAX_POINTS) -> "Points":
        """The empirical distribution of states, brought to at most `max_points` points.

        Users within a thousandth of each other, far less than a handful of comparisons can tell apart, share
        a point; where that leaves too many, k-means merges them, started from the place of most users and
        then, each time, the place farthest from those taken. No randomness. A point is the mean of its
        users' states, so that the prior's mean is exactly theirs.
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
    @cached_property
    def prior(self) -> Posterior:
        return Posterior(self.points, self.mass)

    @override
    @property
    def evidence_size(self) -> int:
        return len(self.mass)

    @override
    def evidence(
        self, model: PreferenceModel, embeddings: Embeddings, comparisons: Comparisons, loss: str = "logistic"
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
    places: Float[Tensor, "places s"], count: Float[Tensor, " places"], n: int, rounds: int = 25
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


def solve_weights(
    margins: Float[Tensor, "n K"], user: Int[Tensor, " n"], *, n_users: int
) -> tuple[Float[Tensor, "users K"], Float[Tensor, " users"]]:
    """Maximum-likelihood weights on the simplex for margins linear in them, and each user's KKT residual.

    `margins` are in favour of the chosen response at each prototype (`PrototypeModel.prototype_margins` times
    the sign); a user without comparisons gets even weights. Minimises the mean of log(1 + exp(-margins @ w))
    per user over w >= 0, sum w = 1 by a primal-dual interior-point method (Waechter and Biegler 2006, section
    2): Newton steps, a K x K system per user, cut back until the barrier function falls, and a barrier that
    is lowered once it is minimised. A user's weights do not depend on which others are solved for beside. The
    residual is the largest move that a projected unit gradient step makes.
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

    def barrier_function(w: Float[Tensor, "left K"]) -> Float[Tensor, " left"]:
        each = LOSSES["logistic"]((margins * w.index_select(0, user)).sum(1))
        loss = w.new_zeros(len(w)).index_add(0, user, share * each)
        return loss - barrier[:, 0] * w.log().sum(1)

    for _ in range(MAX_ROUNDS):
        miss = torch.sigmoid(-(margins * w.index_select(0, user)).sum(1))
        curved = (share * miss * (1 - miss))[:, None] * margins
        outer = (curved[:, :, None] * margins[:, None, :]).flatten(1)
        each = torch.cat([-(share * miss)[:, None] * margins, outer], 1)
        total = w.new_zeros(len(w), K + K * K).index_add(0, user, each)
        gradient, hessian = total[:, :K], total[:, K:].view(-1, K, K)
        off = (w - project_to_simplex(w - gradient)).abs().amax(1)
        result[left], residual[left] = w, off
        going = off > TOLERANCE
        if not bool(going.any()):
            break
        if not bool(going.all()):  # go on with the users who are not solved yet
            left, w, z, barrier = left[going], w[going], z[going], barrier[going]
            gradient, hessian = gradient[going], hessian[going]
            rows, number = going.index_select(0, user), going.cumsum(0) - 1
            margins, share, user = margins[rows], share[rows], number[user[rows]]
        # Lower the barrier of users who have as good as reached its minimum.
        dual = gradient - z
        off = torch.maximum((dual - dual.mean(1, keepdim=True)).abs(), (w * z - barrier).abs())
        lower = torch.minimum(0.2 * barrier, barrier**1.5).clamp_min(1e-13)
        barrier = torch.where(off.amax(1, keepdim=True) <= 10 * barrier, lower, barrier)
        slope = gradient - barrier / w
        step = _newton_step(w, z, slope, hessian)
        dz = barrier / w - z - z / w * step
        step = _longest(w, step) * step
        # Halve each user's step until it lowers the barrier function as its slope promises (Armijo).
        before, promise = barrier_function(w), (slope * step).sum(1)
        slack = 1e-13 * (1 + before.abs())  # what rounding may hide
        fraction = torch.ones_like(before)
        for _ in range(40):
            after = barrier_function(w + fraction[:, None] * step)
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


def _newton_step(
    w: Float[Tensor, "users K"],
    z: Float[Tensor, "users K"],
    slope: Float[Tensor, "users K"],
    hessian: Float[Tensor, "users K K"],
) -> Float[Tensor, "users K"]:
    """The step of the weights that keeps their sum, down the slope of the barrier function."""
    # Curvature along (1, ..., 1) changes no step that keeps the sum, and keeps the matrix regular.
    curvature = hessian.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    matrix = hessian + curvature + torch.diag_embed(z / w + 1e-13 * curvature[:, 0])
    along, across = torch.linalg.solve(matrix, torch.stack([-slope, torch.ones_like(w)], 2)).unbind(2)
    # The multiplier of sum w = 1 is chosen so that the step keeps the sum.
    return along - across * (along.sum(1) / across.sum(1))[:, None]


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


STEPS = 100  # of L-BFGS at most


def free_weights(
    model: PrototypeModel,
    features: Float[Tensor, "n f"],
    sign: Float[Tensor, " n"],
    user: Int[Tensor, " n"],
    *,
    n_users: int,
    loss: str = "logistic",
) -> Float[Tensor, "users s"]:
    """The weights under which each user's answers have the least mean loss; even ones without answers.

    `features` are of each comparison's question; `sign` is 1 where its first response was chosen, else -1.
    """
    if model.linear and loss == "logistic":
        margins = model.prototype_margins(features) * sign[:, None]
        return solve_weights(margins, user, n_users=n_users)[0]
    share = 1 / torch.bincount(user, minlength=n_users).to(features).index_select(0, user)
    free = features.new_zeros(n_users, model.state_dim)
    with torch.inference_mode(False), torch.enable_grad():
        # Copies, since tensors that inference mode made cannot be differentiated through.
        fixed, kept, sign, user = (x.clone() for x in (features.detach(), share, sign, user))
        free = free.clone().requires_grad_()
        descent = torch.optim.LBFGS([free], max_iter=STEPS, line_search_fn="strong_wolfe")

        def total() -> Tensor:
            descent.zero_grad()
            states = model.free_to_states(free).index_select(0, user)
            each = (kept * LOSSES[loss](model.margin(fixed, states) * sign)).sum()
            each.backward(inputs=[free])
            return each

        descent.step(total)
    return model.free_to_states(free.detach())
