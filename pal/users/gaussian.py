"""A Gaussian population: states are normal around a mean, and answers move the belief by Laplace's method.

For models whose margins are linear in the state. Beside the state each person has an unpredictable liking
for each item (a residual), so that fifty comparisons among ten items do not count as fifty independent
answers. Evidence is the natural parameters of the answers, eta and Lambda: they add up over sets of answers.
Within one set Laplace's approximation is taken at the set's own mode, residuals shared; sets that are added
later are treated as independent of it.

Shapes: n comparisons, users, most (comparisons of the user with the most), units (what a user's answers are
about: items, or margins), s numbers of a state, read (what is kept of a comparison until it is combined with
the user's others), e numbers of evidence (of a state, and the upper triangle of their matrix).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from pal.comparisons import Comparisons, Embeddings
from pal.errors import PalError
from pal.models.base import PreferenceModel, expected_answer, feature_blocks
from pal.users.population import Population, Posterior

STEPS = 100  # of Newton's method at most; it stops where no margin moves by more than CLOSE
CLOSE = 1e-3
LONGEST_STEP = 5.0  # of a margin in one step, which keeps Newton's method from overshooting
SAMPLES = 128  # states that stand for a Gaussian where something is averaged over it
NUMBERS_AT_ONCE = 1 << 18  # of a matrix: few enough to stay in the cache
MOST_ANSWERS = 2000  # of a person that are read at once: the work may grow with their cube
TOGETHER = 1e-6  # of the items of a user's answers, whose mean no comparison tells
OTHERS = 4  # columns of `read` beside features: the two items, the label and the weight


class GaussianPosterior(Posterior):
    """A normal belief about the state; `states` are samples of it, the same for the same belief.

    With `root` R the prior's covariance is R R', and this one's R (L L')^-1 R': `chol`, L, is the Cholesky
    factor of the precision in the space of that root.
    """

    def __init__(
        self, mean: Float[Tensor, "*many s"], root: Float[Tensor, "s s"], chol: Float[Tensor, "*many s s"]
    ) -> None:
        vars(self).update(mean=mean, root=root, chol=chol)

    @cached_property
    def factor(self) -> Float[Tensor, "*many s s"]:
        """F with the covariance F'F; worked out where it is asked for, as it costs more than the mean."""
        return torch.linalg.solve_triangular(self.chol, self.root.T.expand_as(self.chol), upper=False)

    @cached_property
    def covariance(self) -> Float[Tensor, "*many s s"]:
        """Posterior covariance of the state."""
        return self.factor.mT @ self.factor

    @override
    @property
    def sd(self) -> Float[Tensor, "*many s"]:
        return self.factor.square().sum(-2).sqrt()

    @cached_property
    def states(self) -> Float[Tensor, "*many points s"]:  # type: ignore[override]
        """Samples at the quantiles of a scrambled Sobol sequence, each with its mirror image."""
        engine = torch.quasirandom.SobolEngine(self.mean.shape[-1], scramble=True, seed=0)
        uniform = engine.draw(SAMPLES // 2, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        half = torch.special.ndtri(uniform).to(self.mean)
        return self.mean[..., None, :] + torch.cat([half, -half]) @ self.factor

    @cached_property
    def masses(self) -> Float[Tensor, "*many points"]:  # type: ignore[override]
        """Equal shares of the samples."""
        return self.mean.new_full((*self.mean.shape[:-1], SAMPLES), 1 / SAMPLES)


class NormalPopulation(Population):
    """A population whose beliefs are normal, for models whose margins are linear in the state."""

    residual: Tensor | float  # variance of a person's own liking for an item beyond the state

    @override
    def check(self, model: PreferenceModel) -> None:
        if not model.linear:
            raise PalError("population must be points where margins are not linear in the state")

    @override
    def at(self, state: Float[Tensor, " s"]) -> GaussianPosterior:
        exact = state.double()
        eye = torch.eye(len(exact)).to(exact)
        return GaussianPosterior(exact[None], 0 * eye, eye[None])

    @override
    def probability(
        self,
        model: PreferenceModel,
        features: Float[Tensor, "n s"],
        user: Int[Tensor, " n"],
        posterior: GaussianPosterior,
        loss: str = "logistic",
    ) -> Float[Tensor, " n"]:
        """MacKay's (1992) approximation: the mean margin, drawn towards 0 by its variance."""
        exact = features.to(posterior.mean)
        mean = (exact * posterior.mean.index_select(0, user)).sum(1)
        variances = [
            torch.einsum("ni,nij,nj->n", exact[rows], posterior.covariance[user[rows]], exact[rows])
            for rows in torch.arange(len(user), device=user.device).split(1024)
        ]
        variance = torch.cat([mean[:0], *variances]) + 2 * float(self.residual)
        return torch.sigmoid(mean / (1 + torch.pi * variance / 8).sqrt())


class Laplace(NamedTuple):
    """The Gaussian approximation to a person's answers, in the space of their units, at the mode."""

    values: Float[Tensor, "users units"]
    gradient: Float[Tensor, "users units"]  # of the log-likelihood; K times it is how far the values moved
    curvature: Float[Tensor, "users units units"]  # minus its second derivative
    margins: Float[Tensor, "users most"]  # of the answers


@dataclass(frozen=True)
class Answers:
    """Answers of users side by side, padded with answers of weight 0.

    A margin is the value of one unit less that of another. Units are items where these are fewer than the
    answers, so that the work grows with the cube of items; else they are the margins themselves.
    """

    features: Float[Tensor, "users units s"]
    # Residuals that two units have in common. Of margins 2 on the diagonal, +-1 where they share an item.
    shared: Float[Tensor, "users units units"]
    first: Int[Tensor, "users most"]  # the unit of the chosen response
    second: Int[Tensor, "users most"]  # the unit of the other; the number of units where there is none
    label: Float[Tensor, "users most"]  # P(chosen is preferred)
    weight: Float[Tensor, "users most"]  # 0 for padding
    items: Float[Tensor, " users"]  # distinct ones of each user

    def margins(self, values: Float[Tensor, "users units"]) -> Float[Tensor, "users most"]:
        """Of the answers, from the values of units."""
        padded = torch.nn.functional.pad(values, (0, 1))
        return padded.gather(1, self.first) - padded.gather(1, self.second)

    def summed(self, by_answer: Float[Tensor, "users most *n"]) -> Float[Tensor, "users units *n"]:
        """A gradient in margins as one in the values of units."""
        users, units = self.shared.shape[:2]
        into = by_answer.new_zeros(users, units + 1, *by_answer.shape[2:])
        for unit, sign in ((self.first, 1), (self.second, -1)):
            at = unit.view(*unit.shape, *[1] * (by_answer.ndim - 2)).expand_as(by_answer)
            into.scatter_add_(1, at, sign * by_answer)
        return into[:, :-1]

    def crossed(self, by_answer: Float[Tensor, "users most"]) -> Float[Tensor, "users units units"]:
        """A diagonal second derivative in margins as one in the values of units."""
        users, units = self.shared.shape[:2]
        into = by_answer.new_zeros(users, (units + 1) ** 2)
        for a, b, sign in (
            (self.first, self.first, 1),
            (self.second, self.second, 1),
            (self.first, self.second, -1),
            (self.second, self.first, -1),
        ):
            into.scatter_add_(1, a * (units + 1) + b, sign * by_answer)
        return into.view(users, units + 1, units + 1)[:, :-1, :-1]


@dataclass(frozen=True)
class Gaussian(NormalPopulation):
    """States are normal."""

    name = "gaussian"
    evidence_name = "natural_parameters"
    additive = False

    # Without shapes here, so that `check` can name what is wrong with a damaged file.
    centre: Tensor  # mean, (state,)
    covariance: Tensor  # (state, state)
    residual: Tensor  # (1,)
    # How common ties are, (1,), as `pal.models.base.expected_answer` takes it.
    ties: Tensor = torch.zeros(1)  # noqa: RUF009 - never written to

    @override
    @classmethod
    def from_states(cls, states: Float[Tensor, "users s"]) -> "Gaussian":
        """Mean and covariance of states as they are, without a residual; a fit by EM knows better."""
        if not len(states):
            raise PalError("states must hold at least one user, got none; a prior is fitted to seen users")
        exact = states.double()
        apart = exact - exact.mean(0)
        covariance = shrunk(apart.T @ apart, len(states))
        return cls(exact.mean(0).float(), covariance.float(), torch.zeros(1))

    @override
    def tensors(self) -> dict[str, Tensor]:
        return {name: x for name, x in super().tensors().items() if name != "ties" or float(x)}

    @override
    def check(self, model: PreferenceModel) -> None:
        model.check_states(self.centre[None], "population.centre")
        D = model.state_dim
        if tuple(self.covariance.shape) != (D, D) or not torch.equal(self.covariance, self.covariance.T):
            raise PalError(f"population.covariance must be a symmetric ({D}, {D}) matrix, got another")
        if bool((torch.linalg.eigvalsh(self.covariance.double()) < -1e-4).any()):
            raise PalError("population.covariance must have no negative eigenvalue, got one; fit again")
        for name, number in (("residual", self.residual), ("ties", self.ties)):
            if tuple(number.shape) != (1,) or not float(number) >= 0:
                raise PalError(f"population.{name} must be one number of at least 0, got another; fit again")
        super().check(model)

    @cached_property
    def root(self) -> Float[Tensor, "s s"]:
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
        self, model: PreferenceModel, embeddings: Embeddings, comparisons: Comparisons, loss: str = "logistic"
    ) -> Float[Tensor, "n read"]:
        """Features of each comparison, its two items, its label and weight; `total` combines them."""
        q = comparisons.questions
        # An item is a response to a prompt; numbered without gaps, so that float32 holds the numbers.
        both = torch.cat([q.prompt, q.prompt]) * len(embeddings.responses) + torch.cat([q.first, q.second])
        item = torch.unique(both, return_inverse=True)[1]
        blocks = [torch.zeros(0, model.state_dim + OTHERS, device=q.first.device)]
        for block, features, row in feature_blocks(model, embeddings, comparisons):
            turned = features.index_select(0, row) * block.sign[:, None]
            first, second = (item[x].to(turned) for x in (block.question, block.question + len(q)))
            ahead = block.sign > 0
            items = (torch.where(ahead, first, second), torch.where(ahead, second, first))
            blocks.append(torch.cat([turned, torch.stack([*items, block.labels, block.weights], 1)], 1))
        return torch.cat(blocks)

    @override
    def total(
        self, read: Float[Tensor, "n read"], user: Int[Tensor, " n"], n_users: int
    ) -> Float[Tensor, "users e"]:
        D = len(self.centre)
        upper = torch.triu_indices(D, D)
        total = read.new_zeros(n_users, self.evidence_size, dtype=torch.float64)
        residual = float(self.residual)
        for users, answers in side_by_side(read, user, n_users, by_item=residual > 0):
            found = self._laplace(answers)
            # What answers say of the state alone: pseudo-observations of the units, whose noise is that of
            # the answers and of the residuals.
            noise = torch.eye(found.values.shape[1]).to(read) + residual * found.curvature @ answers.shared
            observed = (found.curvature @ found.values[..., None]) + found.gradient[..., None]
            scaled = torch.cat([found.curvature @ answers.features, observed], 2)
            said = answers.features.mT @ torch.linalg.solve(noise, scaled)
            total[users] = torch.cat([said[..., -1], said[:, upper[0], upper[1]]], 1).double()
        return total

    @override
    def posterior(self, evidence: Float[Tensor, "*users e"]) -> GaussianPosterior:
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
    ) -> Float[Tensor, "users s"]:
        prior, centre = self.covariance.to(read), self.centre.to(read)
        states = centre.repeat(n_users, 1)
        for users, answers in side_by_side(read, user, n_users, by_item=float(self.residual) > 0):
            states[users] = centre + moved(answers, self._laplace(answers)) @ prior
        return states

    def _laplace(self, answers: Answers) -> Laplace:
        prior, centre = self.covariance.to(answers.features), self.centre.to(answers.features)
        K = unit_covariance(answers, prior, float(self.residual))
        return laplace(answers, answers.features @ centre, K, ties=float(self.ties))

    @override
    @staticmethod
    def possible(evidence: Float[Tensor, " e"], comparisons: int, before: int) -> bool:
        return True  # sets of answers do not tell which answers were in them


def natural_parameters(
    evidence: Float[Tensor, "*users e"], n: int
) -> tuple[Float[Tensor, "*users s"], Float[Tensor, "*users s s"]]:
    """Evidence as eta and Lambda: the precision times the state that answers ask for, and the precision."""
    upper = torch.triu_indices(n, n)
    matrix = evidence.new_zeros(*evidence.shape[:-1], n, n)
    matrix[..., upper[0], upper[1]] = evidence[..., n:]
    return evidence[..., :n], matrix + matrix.triu(1).mT


def side_by_side(
    read: Float[Tensor, "n read"], user: Int[Tensor, " n"], n_users: int, *, by_item: bool
) -> Iterator[tuple[Int[Tensor, " users"], Answers]]:
    """Users' answers in blocks of users with about as many units, each block in bounded memory.

    Users without answers are in none. Of a user with more than 2,000 the first 2,000 are read. `by_item`: a
    margin is the reward of one item less that of another, whoever is asked, so that items may be units.
    """
    order = torch.argsort(user, stable=True)
    counts = torch.bincount(user, minlength=n_users)
    place = torch.arange(len(user), device=user.device) - (counts.cumsum(0) - counts)[user[order]]
    order = order[place < MOST_ANSWERS]
    counts = counts.clamp_max(MOST_ANSWERS)
    starts = counts.cumsum(0) - counts
    D = read.shape[1] - OTHERS
    # A user's items, numbered anew for each.
    width = int(read[:, D : D + 2].max()) + 1 if len(read) else 1
    named = user[order, None] * width + read[order, D : D + 2].long()
    cells, item = torch.unique(named, return_inverse=True)
    items = torch.bincount(cells // width, minlength=n_users)
    item = item - (items.cumsum(0) - items)[user[order], None]
    fewer = (items < counts) & by_item
    for of_items in (False, True):
        size = torch.where(fewer == of_items, items if of_items else counts, 0)
        by_size = torch.argsort(size, stable=True)
        by_size = by_size[size[by_size] > 0]
        at = 0
        while at < len(by_size):
            # As many users as fit with the largest of them; the smallest is at least half as large.
            stop = at + int(
                torch.searchsorted(size[by_size[at:]], max(2 * int(size[by_size[at]]), 8), right=True)
            )
            units = int(size[by_size[stop - 1]])
            stop = min(stop, at + max(1, NUMBERS_AT_ONCE // (units * (units + D))))
            users = by_size[at:stop]
            at, units = stop, int(size[users].max())
            slot = torch.arange(int(counts[users].max()), device=user.device)
            inside = slot < counts[users][:, None]
            rows = (starts[users][:, None] + slot).clamp_max(len(order) - 1)
            table = torch.where(inside[..., None], read[order[rows]], 0)
            first, second = item[rows, 0], item[rows, 1]
            answers = Answers(
                features=table[:, :units, :D],
                shared=torch.eye(units).to(read).expand(len(users), -1, -1),
                first=torch.where(inside, first if of_items else slot, units),
                second=torch.where(inside & of_items, second, units),
                label=table[..., D + 2],
                weight=table[..., D + 3],
                items=items[users].to(read),
            )
            if of_items:
                # The items' features from those of questions, their differences; their mean does not matter.
                one = answers.crossed(inside.double()) + TOGETHER * answers.shared
                difference = answers.summed(table[..., :D].double())
                features = torch.linalg.solve(one, difference).to(read)
                yield users, replace(answers, features=features)
            else:
                same = [
                    (x[:, :, None] == y[:, None, :]).to(read)
                    for x, y in ((first, first), (second, second), (first, second), (second, first))
                ]
                shared = (same[0] + same[1] - same[2] - same[3]) * inside[:, :, None] * inside[:, None, :]
                yield users, replace(answers, shared=shared)


def unit_covariance(
    answers: Answers, covariance: Float[Tensor, "s s"], residual: float
) -> Float[Tensor, "users units units"]:
    """Prior covariance of the values of each user's units, from the state's and the residuals."""
    return answers.features @ covariance @ answers.features.mT + residual * answers.shared


def laplace(
    answers: Answers,
    start: Float[Tensor, "users units"],
    K: Float[Tensor, "users units units"],
    moves: Float[Tensor, "users units"] | None = None,
    ties: float = 0.0,
) -> Laplace:
    """The mode of units' values with prior mean `start` and covariance K, by Newton's method.

    Rasmussen and Williams (2006), section 3.4: K is never inverted, so that answers may repeat. `moves` is
    where to begin, such as the gradient at the mode under another K; `ties` is the population's.
    """
    label, weight = answers.label, answers.weight
    a = torch.zeros_like(start) if moves is None else moves
    values = start + (K @ a[..., None])[..., 0]
    eye = torch.eye(K.shape[1]).to(K)

    def derivatives() -> Laplace:
        margins = answers.margins(values)
        answer = expected_answer(margins, ties)
        gradient = answers.summed(weight * (label - answer.label))
        return Laplace(values, gradient, answers.crossed(weight * answer.variance), margins)

    for _ in range(STEPS):
        _, gradient, curvature, _ = derivatives()
        pull = (curvature @ (values - start)[..., None])[..., 0] + gradient
        target = torch.linalg.solve(eye + curvature @ K, pull)
        step = (K @ (target - a)[..., None])[..., 0]
        size = answers.margins(step).abs().amax(1, keepdim=True)
        share = (LONGEST_STEP / size.clamp_min(LONGEST_STEP)).clamp_max(1)
        values, a = values + share * step, a + share * (target - a)
        if float(size.max()) < CLOSE:
            break
    return derivatives()


def moved(answers: Answers, found: Laplace) -> Float[Tensor, "users s"]:
    """How far answers move each user's state from the mean; times the prior covariance."""
    return (found.gradient[:, None] @ answers.features)[:, 0]


def shrunk(scatter: Float[Tensor, "s s"], n: float, weight: float = 20.0) -> Float[Tensor, "s s"]:
    """A covariance from the sum of squares of n people, shrunk to a multiple of the identity.

    `weight` is how many people that multiple counts for.
    """
    eye = torch.eye(len(scatter)).to(scatter)
    return (scatter + weight * scatter.diagonal().mean() / n * eye) / (n + weight)
