"""A Gaussian population: states are normal around a mean, and answers move the belief by Laplace's method.

For models whose margins are linear in the state. Beside the state each person has an unpredictable liking
for each item (a residual), so that fifty comparisons among ten items do not count as fifty independent
answers. Evidence is the natural parameters of the answers, eta and Lambda: they add up over sets of answers.
Within one set Laplace's approximation is taken at the set's own mode, residuals shared; sets that are added
later are treated as independent of it.

Shapes used in this module:
    n         comparisons
    users     users
    most      comparisons of the user with the most
    state     numbers of a user's state
    read      what is kept of a comparison until it is combined with the user's others
    evidence  state, and the upper triangle of a (state, state) matrix
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from pal.comparisons import Comparisons, Embeddings
from pal.errors import PalError
from pal.models.base import PreferenceModel, feature_blocks
from pal.models.losses import expected_answer
from pal.users.population import Population, Posterior

STEPS = 12  # of Newton's method at most; it stops where no margin moves by more than CLOSE
CLOSE = 1e-3
LONGEST_STEP = 5.0  # of a margin in one step, which keeps Newton's method from overshooting
SAMPLES = 128  # states that stand for a Gaussian where something is averaged over it
NUMBERS_AT_ONCE = 1 << 18  # of a matrix: few enough to stay in the cache
MOST_ANSWERS = 2000  # of a person that are read at once: the work grows with their cube
OTHERS = 4  # columns of `read` beside features: the two items, the label and the weight


class GaussianPosterior(Posterior):
    """A normal belief about the state; `states` are samples of it, the same for the same belief.

    Args:
        mean: Its mean.
        root: A root R of the prior's covariance R R'.
        chol: Cholesky factor of the precision in the space of that root: the covariance is R (L L')^-1 R'.
    """

    root: Tensor
    chol: Tensor

    def __init__(
        self,
        mean: Float[Tensor, "*many state"],
        root: Float[Tensor, "state state"],
        chol: Float[Tensor, "*many state state"],
    ) -> None:
        for name, value in (("_mean", mean), ("root", root), ("chol", chol)):
            object.__setattr__(self, name, value)

    @override
    @property
    def mean(self) -> Float[Tensor, "*many state"]:
        return self._mean  # type: ignore[attr-defined]

    @cached_property
    def factor(self) -> Float[Tensor, "*many state state"]:
        """F with the covariance F'F; worked out where it is asked for, as it costs more than the mean."""
        return torch.linalg.solve_triangular(self.chol, self.root.T.expand_as(self.chol), upper=False)

    @cached_property
    def covariance(self) -> Float[Tensor, "*many state state"]:
        """Posterior covariance of the state."""
        return self.factor.mT @ self.factor

    @override
    @property
    def sd(self) -> Float[Tensor, "*many state"]:
        return self.factor.square().sum(-2).sqrt()

    @cached_property
    def states(self) -> Float[Tensor, "*many points state"]:  # type: ignore[override]
        """Samples at the quantiles of a scrambled Sobol sequence, each with its mirror image."""
        engine = torch.quasirandom.SobolEngine(self.mean.shape[-1], scramble=True, seed=0)
        uniform = engine.draw(SAMPLES // 2, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        half = torch.special.ndtri(uniform).to(self.mean)
        return self.mean[..., None, :] + torch.cat([half, -half]) @ self.factor

    @cached_property
    def masses(self) -> Float[Tensor, "*many points"]:  # type: ignore[override]
        """Equal shares of the samples."""
        return self.mean.new_full((*self.mean.shape[:-1], SAMPLES), 1 / SAMPLES)


def certain(state: Float[Tensor, " state"]) -> GaussianPosterior:
    """The belief about someone whose state is known, as a table of one."""
    exact = state.double()
    eye = torch.eye(len(exact)).to(exact)
    return GaussianPosterior(exact[None], 0 * eye, eye[None])


class Laplace(NamedTuple):
    """The Gaussian approximation to a person's answers, in the space of their margins.

    Args:
        gradient: Of the log-likelihood at the mode; K times it is how far the margins moved.
        curvature: Minus its second derivative.
        margins: Of the mode.
    """

    gradient: Float[Tensor, "users most"]
    curvature: Float[Tensor, "users most"]
    margins: Float[Tensor, "users most"]


@dataclass(frozen=True)
class Answers:
    """Answers of users side by side, padded with answers of weight 0.

    Args:
        features: Of each question, turned so that the chosen response is the first.
        shared: Residuals that two answers have in common: 2 on the diagonal, +-1 where they share an item.
        label: P(chosen is preferred).
        weight: 0 for padding.
        items: Distinct items of each user.
    """

    features: Float[Tensor, "users most state"]
    shared: Float[Tensor, "users most most"]
    label: Float[Tensor, "users most"]
    weight: Float[Tensor, "users most"]
    items: Float[Tensor, " users"]


@dataclass(frozen=True)
class Gaussian(Population):
    """States are normal.

    Args:
        centre: Mean, (state,).
        covariance: (state, state).
        residual: Variance of a person's own liking for an item beyond the state, (1,).
        ties: How common ties are, (1,), as `pal.models.losses.expected_answer` takes it.
    """

    name = "gaussian"
    evidence_name = "natural_parameters"
    additive = False

    # Without shapes here, so that `check` can name what is wrong with a damaged file.
    centre: Tensor
    covariance: Tensor
    residual: Tensor
    ties: Tensor = torch.zeros(1)  # noqa: RUF009 - never written to

    @override
    @classmethod
    def from_states(cls, states: Float[Tensor, "users state"]) -> "Gaussian":
        """Mean and covariance of states as they are, without a residual; a fit by EM knows better."""
        if not len(states):
            raise PalError("states must hold at least one user, got none; a prior is fitted to seen users")
        exact = states.double()
        apart = exact - exact.mean(0)
        covariance = shrunk(apart.T @ apart, len(states))
        return cls(exact.mean(0).float(), covariance.float(), torch.zeros(1))

    @override
    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Gaussian":
        return cls(**tensors)

    @override
    def tensors(self) -> dict[str, Tensor]:
        found = {"centre": self.centre, "covariance": self.covariance, "residual": self.residual}
        return {**found, "ties": self.ties} if float(self.ties) else found

    @override
    def check(self, model: PreferenceModel) -> None:
        model.check_states(self.centre[None], "population.centre")
        D = model.state_dim
        if tuple(self.covariance.shape) != (D, D) or not torch.equal(self.covariance, self.covariance.T):
            raise PalError(f"population.covariance must be a symmetric ({D}, {D}) matrix, got another")
        if bool((torch.linalg.eigvalsh(self.covariance.double()) < -1e-4).any()):
            raise PalError("population.covariance must have no negative eigenvalue, got one; fit again")
        if tuple(self.residual.shape) != (1,) or not float(self.residual) >= 0:
            raise PalError("population.residual must be one number of at least 0, got another; fit again")
        if tuple(self.ties.shape) != (1,) or not float(self.ties) >= 0:
            raise PalError("population.ties must be one number of at least 0, got another; fit again")
        if not model.linear:
            raise PalError("population must be points where margins are not linear in the state")

    @override
    @property
    def mean(self) -> Float[Tensor, " state"]:
        return self.centre

    @cached_property
    def root(self) -> Float[Tensor, "state state"]:
        """A root of the covariance, in float64; also where the covariance is singular."""
        values, vectors = torch.linalg.eigh(self.covariance.double())
        return vectors * values.clamp_min(0).sqrt()

    @override
    @cached_property
    def prior(self) -> GaussianPosterior:
        return GaussianPosterior(self.centre.double(), self.root, torch.eye(len(self.centre)).to(self.root))

    @override
    @property
    def evidence_size(self) -> int:
        D = len(self.centre)
        return D + D * (D + 1) // 2

    @override
    def evidence(
        self,
        model: PreferenceModel,
        embeddings: Embeddings,
        comparisons: Comparisons,
        loss: str = "logistic",
    ) -> Float[Tensor, "n read"]:
        """Features of each comparison, its two items, its label and weight; `total` combines them."""
        q = comparisons.questions
        # An item is a response to a prompt; numbered without gaps, so that float32 holds the numbers.
        both = torch.cat([q.prompt, q.prompt]) * len(embeddings.responses) + torch.cat([q.first, q.second])
        item = torch.unique(both, return_inverse=True)[1]
        blocks = []
        for block, features, row in feature_blocks(model, embeddings, comparisons):
            turned = features.index_select(0, row) * block.sign[:, None]
            ones = torch.ones_like(turned[:, 0])
            first, second = (item[x].to(turned) for x in (block.question, block.question + len(q)))
            label, weight = (ones if x is None else x for x in (block.label, block.weight))
            ahead = block.sign > 0
            items = (torch.where(ahead, first, second), torch.where(ahead, second, first))
            blocks.append(torch.cat([turned, torch.stack([*items, label, weight], 1)], 1))
        none = torch.zeros(0, model.state_dim + OTHERS, device=q.first.device)
        return torch.cat(blocks) if blocks else none

    @override
    def total(
        self, read: Float[Tensor, "n read"], user: Int[Tensor, " n"], n_users: int
    ) -> Float[Tensor, "users evidence"]:
        D = len(self.centre)
        upper = torch.triu_indices(D, D)
        total = read.new_zeros(n_users, self.evidence_size, dtype=torch.float64)
        prior, centre = self.covariance.to(read), self.centre.to(read)
        residual = float(self.residual)
        for users, answers in side_by_side(read, user, n_users):
            K = margin_covariance(answers, prior, residual)
            found = laplace(answers, answers.features @ centre, K, ties=float(self.ties))
            root = found.curvature.sqrt()
            # What answers say of the state alone: pseudo-observations of the margins, whose noise is that of
            # the answer and of the residuals.
            observed = root * found.margins + found.gradient / root.clamp_min(1e-9)
            noise = torch.eye(root.shape[1]).to(root) + residual * _outer(root) * answers.shared
            chol = torch.linalg.cholesky(noise)
            scaled = root[..., None] * answers.features
            half = torch.linalg.solve_triangular(chol, scaled, upper=False)
            seen = torch.linalg.solve_triangular(chol, observed[..., None], upper=False)
            matrix = half.mT @ half
            said = torch.cat([(half.mT @ seen)[..., 0], matrix[:, upper[0], upper[1]]], 1)
            total[users] = said.double()
        return total

    @override
    def posterior(self, evidence: Float[Tensor, "*users evidence"]) -> GaussianPosterior:
        D = len(self.centre)
        exact = evidence.double()
        shift, matrix = natural_parameters(exact, D)
        # In the space of the prior's root, so that a singular covariance is no special case.
        root, centre = self.root.to(exact), self.centre.to(exact)
        inner = torch.eye(D).to(exact) + root.T @ matrix @ root
        chol = torch.linalg.cholesky(inner)
        pulled = (shift - matrix @ centre) @ root
        mean = centre + torch.cholesky_solve(pulled[..., None], chol)[..., 0] @ root.T
        return GaussianPosterior(mean, root, chol)

    @override
    def locate(
        self, read: Float[Tensor, "n read"], user: Int[Tensor, " n"], n_users: int
    ) -> Float[Tensor, "users state"]:
        prior, centre = self.covariance.to(read), self.centre.to(read)
        states = centre.repeat(n_users, 1)
        for users, answers in side_by_side(read, user, n_users):
            K = margin_covariance(answers, prior, float(self.residual))
            found = laplace(answers, answers.features @ centre, K, ties=float(self.ties))
            states[users] = centre + moved(answers, found) @ prior
        return states

    @override
    def at(self, state: Float[Tensor, " state"]) -> GaussianPosterior:
        return certain(state)

    @override
    def probability(
        self,
        model: PreferenceModel,
        features: Float[Tensor, "n features"],
        user: Int[Tensor, " n"],
        posterior: GaussianPosterior,  # type: ignore[override]
        loss: str = "logistic",
    ) -> Float[Tensor, " n"]:
        return expected_probability(features, user, posterior, self.residual)

    @override
    @staticmethod
    def possible(evidence: Float[Tensor, " evidence"], comparisons: int, before: int) -> bool:
        return True  # sets of answers do not tell which answers were in them


def natural_parameters(
    evidence: Float[Tensor, "*users evidence"], n: int
) -> tuple[Float[Tensor, "*users state"], Float[Tensor, "*users state state"]]:
    """Evidence as eta and Lambda: the precision times the state that answers ask for, and the precision."""
    upper = torch.triu_indices(n, n)
    matrix = evidence.new_zeros(*evidence.shape[:-1], n, n)
    matrix[..., upper[0], upper[1]] = evidence[..., n:]
    return evidence[..., :n], matrix + matrix.triu(1).mT


def expected_probability(
    features: Float[Tensor, "n state"],
    user: Int[Tensor, " n"],
    posterior: GaussianPosterior,
    residual: Float[Tensor, "1"] | float = 0.0,
) -> Float[Tensor, " n"]:
    """MacKay's (1992) approximation: the mean margin, drawn towards 0 by its variance."""
    exact = features.to(posterior.mean)
    mean = (exact * posterior.mean.index_select(0, user)).sum(1)
    variances = [
        torch.einsum("ni,nij,nj->n", exact[rows], posterior.covariance[user[rows]], exact[rows])
        for rows in torch.arange(len(user), device=user.device).split(1024)
    ]
    variance = torch.cat([mean[:0], *variances]) + 2 * float(residual)
    return torch.sigmoid(mean / (1 + torch.pi * variance / 8).sqrt())


def side_by_side(
    read: Float[Tensor, "n read"], user: Int[Tensor, " n"], n_users: int
) -> Iterator[tuple[Int[Tensor, " users"], Answers]]:
    """Users' answers in blocks of users with about as many, each block in bounded memory.

    Users without answers are in none. Of a user with more than 2,000 the first 2,000 are read.
    """
    counts = torch.bincount(user, minlength=n_users)
    order = torch.argsort(user, stable=True)
    starts = counts.cumsum(0) - counts
    by_count = torch.argsort(counts, stable=True)
    by_count = by_count[counts[by_count] > 0]
    D = read.shape[1] - OTHERS
    at = 0
    while at < len(by_count):
        # As many users as fit with the longest of them; the shortest is at least half as long.
        least = int(counts[by_count[at]])
        stop = at + int(torch.searchsorted(counts[by_count[at:]], max(2 * least, 8), right=True))
        longest = min(int(counts[by_count[stop - 1]]), MOST_ANSWERS)
        stop = min(stop, at + max(1, NUMBERS_AT_ONCE // (longest * (longest + D))))
        users = by_count[at:stop]
        at = stop
        length = counts[users].clamp_max(MOST_ANSWERS)
        most = int(length.max())
        place = torch.arange(most, device=user.device)
        inside = place < length[:, None]
        rows = order[(starts[users][:, None] + place).clamp_max(len(order) - 1)]
        table = torch.where(inside[..., None], read[rows], 0)
        first, second = table[..., D], table[..., D + 1]
        same = [
            (x[:, :, None] == y[:, None, :]).to(read)
            for x, y in ((first, first), (second, second), (first, second), (second, first))
        ]
        shared = (same[0] + same[1] - same[2] - same[3]) * inside[:, :, None] * inside[:, None, :]
        both = torch.where(torch.cat([inside, inside], 1), torch.cat([first, second], 1), -1).sort(1).values
        items = ((both[:, 1:] != both[:, :-1]) & (both[:, 1:] >= 0)).sum(1) + (both[:, 0] >= 0)
        yield users, Answers(table[..., :D], shared, table[..., D + 2], table[..., D + 3], items.to(read))


def margin_covariance(
    answers: Answers, covariance: Float[Tensor, "state state"], residual: float
) -> Float[Tensor, "users most most"]:
    """Prior covariance of the margins of each user's answers, from the state's and the residuals."""
    return answers.features @ covariance @ answers.features.mT + residual * answers.shared


def laplace(
    answers: Answers,
    start: Float[Tensor, "users most"],
    K: Float[Tensor, "users most most"],
    gradient: Float[Tensor, "users most"] | None = None,
    ties: float = 0.0,
) -> Laplace:
    """The mode of margins with prior mean `start` and covariance K, by Newton's method.

    Rasmussen and Williams (2006), algorithm 3.1: K is never inverted, so that answers may repeat. `gradient`
    is where to begin, such as that of the mode under another K; `ties` is the population's.
    """
    label, weight = answers.label, answers.weight
    a = torch.zeros_like(start) if gradient is None else gradient
    f = start + (K @ a[..., None])[..., 0]
    eye = torch.eye(K.shape[1]).to(K)
    for _ in range(STEPS):
        answer = expected_answer(f, ties)
        gradient, curvature = weight * (label - answer.label), weight * answer.variance
        root = curvature.sqrt()
        b = curvature * (f - start) + gradient
        chol = torch.linalg.cholesky(torch.addcmul(eye, _outer(root), K))
        right = root * (K @ b[..., None])[..., 0]
        target = b - root * torch.cholesky_solve(right[..., None], chol)[..., 0]
        step = (K @ (target - a)[..., None])[..., 0]
        size = step.abs().amax(1, keepdim=True)
        share = (LONGEST_STEP / size.clamp_min(LONGEST_STEP)).clamp_max(1)
        f, a = f + share * step, a + share * (target - a)
        if float(size.max()) < CLOSE:
            break
    answer = expected_answer(f, ties)
    return Laplace(weight * (label - answer.label), weight * answer.variance, f)


def moved(answers: Answers, found: Laplace) -> Float[Tensor, "users state"]:
    """How far answers move each user's state from the mean; times the prior covariance."""
    return (found.gradient[:, None] @ answers.features)[:, 0]


def shrunk(
    scatter: Float[Tensor, "state state"], n: float, weight: float = 20.0
) -> Float[Tensor, "state state"]:
    """A covariance from the sum of squares of n people, shrunk to a multiple of the identity.

    `weight` is how many people that multiple counts for.
    """
    eye = torch.eye(len(scatter)).to(scatter)
    return (scatter + weight * scatter.diagonal().mean() / n * eye) / (n + weight)


def _outer(x: Float[Tensor, "users most"]) -> Float[Tensor, "users most most"]:
    return x[:, :, None] * x[:, None, :]
