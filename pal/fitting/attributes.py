"""Attributes of people in the prior: what country or age say of someone's state before any answer.

They are evidence of the kind that answers are: of a Gaussian a precision and a shift, which move the prior's
mean and narrow it; of points a factor on their masses. So a taste adds them to its answers, and adapting,
scoring and saving know nothing of attributes.

In fitting them the evidence of people's answers is given, the model stays as it is. Of a Gaussian the means
of the states are linear in the attributes, each attribute's effects under a ridge whose strength is learned
(MacKay, 1992), and the covariance about these means is estimated anew (EM). Of points, log-masses are linear
in products of attributes and states. Whether attributes help is judged on people who were left out, by the
likelihood of all their answers, beside the same without attributes.

Shapes: people with answers and attributes, f features (numbers that stand for attributes: one of a number,
one of each value of a category), e numbers of the population's evidence, points, s directions in which the
population varies, scaled to its standard deviations.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor
from typing_extensions import TypedDict

from pal.errors import PalError
from pal.users.gaussian import Gaussian, natural_parameters, shrunk
from pal.users.points import Points
from pal.users.population import Population


class Number(TypedDict):
    """An attribute that is a number."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    mean: float
    sd: Annotated[float, Field(gt=0)]


class Category(TypedDict):
    """An attribute that is one of some values, each with its share of the people."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    shares: dict[str, float]


COLUMNS = TypeAdapter(dict[str, Number | Category])  # by attribute
Attributes = Mapping[str, str | int | float | None]
MOST_VALUES = 20  # of a category that have an effect of their own
FEWEST_NUMBERS = 6  # distinct numbers from which on an attribute is a number and no category


@dataclass(frozen=True)
class AttributePrior:
    """What attributes say of a state."""

    columns: Mapping[str, Any]  # by attribute a `Number` or a `Category`
    # What all people of known attributes have in common, and what each has, (1 + features, evidence).
    effects: Tensor

    @classmethod
    def from_json(cls, columns: Any, effects: Tensor) -> "AttributePrior":
        """The prior of columns that were read from a file, checked."""
        try:
            COLUMNS.validate_python(columns)
        except ValidationError:
            raise PalError(
                "attributes must be shares of values, or a mean and an sd, got others; fit again"
            ) from None
        return cls(columns, effects)

    def evidence(self, people: Sequence[Attributes]) -> Float[Tensor, "people e"]:
        """What the attributes of people say; zeros of someone of whom none is known.

        A value that was not seen in fitting is as one that is not known.
        """
        x = features_of(self.columns, people).to(self.effects)
        known = x.abs().sum(1, keepdim=True) > 0
        return torch.cat([known.to(x), x], 1) @ self.effects

    def check(self, evidence_size: int) -> None:
        """Check that the effects are of such columns, and of a population with so much evidence."""
        shape = (1 + sum(map(_width, self.columns.values())), evidence_size)
        if tuple(self.effects.shape) != shape:
            raise PalError(
                f"attributes.effects must have the shape {shape}, got {tuple(self.effects.shape)}; fit again"
            )


def describe_attributes(people: Sequence[Attributes]) -> dict[str, Any]:
    """The columns that stand for people's attributes; those of one value for all are left out."""
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for person in people for name in person):
        cells = [cell for person in people if (cell := _cell(person, name)) is not None]
        numbers = [number for cell in cells if (number := _number(cell)) is not None]
        counts = Counter(map(str, cells))
        if len(numbers) == len(cells) and len(counts) >= FEWEST_NUMBERS:
            values = torch.tensor(numbers, dtype=torch.float64)
            columns[name] = {"mean": float(values.mean()), "sd": float(values.std())}
        elif len(counts) > 1:
            columns[name] = {
                "shares": {value: n / len(cells) for value, n in counts.most_common(MOST_VALUES)}
            }
    return columns


def features_of(columns: Mapping[str, Any], people: Sequence[Attributes]) -> Float[Tensor, "people f"]:
    """Numbers for attributes, 0 on average: standardised numbers, and values one-hot less their share.

    Attributes that have no column are not read.
    """
    x = torch.zeros(len(people), sum(map(_width, columns.values())), dtype=torch.float64)
    at = 0
    for name, about in columns.items():
        shares = about.get("shares")
        for row, person in enumerate(people):
            cell = _cell(person, name)
            if cell is None:
                continue
            if shares is None:
                if (number := _number(cell)) is None:
                    raise PalError(f"the attribute {name} must be a number, got {cell!r}; or leave it out")
                x[row, at] = (number - about["mean"]) / about["sd"]
            elif str(cell) in shares:
                x[row, at : at + len(shares)] = -torch.tensor(list(shares.values()), dtype=torch.float64)
                x[row, at + list(shares).index(str(cell))] += 1
        at += _width(about)
    return x


def _width(about: Mapping[str, Any]) -> int:
    return len(about.get("shares", "1"))


def _cell(person: Attributes, name: str) -> Any:
    cell = person.get(name)
    return None if cell is None or not str(cell).strip() else cell


def _number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


FEWEST = 20  # people with attributes, below which nothing can be told
FOLDS = 5
ROUNDS = 8
MOST_PEOPLE = 2000  # that are read
STARTS = 1.0  # variance of an effect in the first round, in variances of the population
LEAST, LEAST_WITHIN = 1e-4, 1e-2  # variance of an effect; variance that attributes leave, of the population's
PENALTY = 0.05  # on squares of what attributes do to log-masses
NUMBERS_AT_ONCE = 1 << 24

Effects = Float[Tensor, "one_and_f e"]


def fit_attributes(
    population: Population,
    evidence: Float[Tensor, "people e"],
    people: Sequence[Attributes],
    seed: int = 0,
    *,
    judged: bool = True,
) -> tuple[AttributePrior | None, str]:
    """The prior that depends on attributes, or None where it does not help strangers; and a sentence.

    `population` is the prior of everyone; the evidence is that of each person's answers. Unless this is
    `judged`, in folds of people that the seed deals, attributes are taken.
    """
    columns = describe_attributes(people)
    x = features_of(columns, people)
    kind = KINDS.get(type(population))
    order = torch.randperm(len(people), generator=torch.Generator().manual_seed(seed))
    known = order[(x[order].abs().sum(1) > 0)][:MOST_PEOPLE]
    names = ", ".join(dict.fromkeys(name for person in people for name in person))
    if kind is None or not bool(population.prior.sd.any()):
        return None, f"attributes ({names}) are not in the prior, which has one state for everyone"
    if len(known) < FEWEST:
        return None, f"attributes ({names}) are not in the prior: fewer than {FEWEST} people have any"
    fitted = kind(population, evidence[known].double(), x[known])
    said = f"attributes ({names}) are in the prior"
    if judged:
        gains = torch.zeros(len(known), dtype=torch.float64)
        for fold in range(FOLDS):
            out = torch.arange(len(known)) % FOLDS == fold
            with_them, without = fitted.fit(~out), fitted.fit(~out, blind=True)
            gains[out] = fitted.likelihood(out, with_them) - fitted.likelihood(out, without)
        gain, error = float(gains.mean()), float(gains.std()) / len(gains) ** 0.5
        by = f"log-likelihood of a held-out person's answers {gain:+.3f} ± {error:.3f} nats"
        if gain <= error:
            return None, f"attributes ({names}) are not in the prior: {by}"
        said = f"{said}: {by}"
    effects = fitted.effects(fitted.fit(torch.ones(len(known), dtype=torch.bool)))
    return AttributePrior(columns, effects.float()), said


class _OfGaussian:
    """A regression of states that are normal about their means on people's features x."""

    def __init__(
        self, population: Gaussian, evidence: Float[Tensor, "people e"], x: Float[Tensor, "people f"]
    ) -> None:
        self.x, self.centre = x, population.centre.double()
        values, vectors = torch.linalg.eigh(population.covariance.double())
        kept = values > LEAST * values[-1]
        self.root = vectors[:, kept] * values[kept].sqrt()
        self.inverse = vectors[:, kept] / values[kept].sqrt()
        D = len(self.centre)
        self.upper = torch.triu_indices(D, D)
        shift, precision = [], []
        for block in evidence.split(max(1, NUMBERS_AT_ONCE // (D * D))):
            eta, matrix = natural_parameters(block, D)
            precision.append(self.root.T @ matrix @ self.root)
            shift.append((eta - matrix @ self.centre) @ self.root)
        self.shift, self.precision = torch.cat(shift), torch.cat(precision)

    def fit(self, rows: Tensor, *, blind: bool = False) -> tuple[Tensor, Tensor]:
        """Effects of features on the mean, (features, state), and the covariance that they leave."""
        x, h, P = self.x[rows], self.shift[rows], self.precision[rows]
        n, d = h.shape
        x = x[:, :0] if blind else x
        F = x.shape[1]
        effects, within = x.new_zeros(F, d), torch.eye(d).to(h)
        variance = x.new_full((F,), STARTS)
        for _ in range(ROUNDS):
            inverse = torch.linalg.inv(within)
            spread = torch.linalg.inv(P + inverse)
            if F:
                # Of the mean the log-likelihood is quadratic: q'm - m'W m / 2.
                W = inverse - inverse @ spread @ inverse
                q = (spread @ h[..., None])[..., 0] @ inverse
                pairs = (x[:, :, None] * x[:, None, :]).flatten(1)
                curvature = (pairs.T @ W.flatten(1)).view(F, F, d, d).permute(0, 2, 1, 3)
                curvature = curvature.reshape(F * d, F * d)
                curvature.diagonal().add_((1 / variance).repeat_interleave(d))
                chol = torch.linalg.cholesky(curvature)
                effects = torch.cholesky_solve((x.T @ q).flatten()[:, None], chol).view(F, d)
                unsure = torch.cholesky_inverse(chol).diagonal().view(F, d).sum(1)
                determined = (d - unsure / variance).clamp_min(1e-3)
                variance = (effects.square().sum(1) / determined).clamp(LEAST, 100.0)
            mean = x @ effects
            found = (spread @ (h + mean @ inverse)[..., None])[..., 0]
            scatter = (found - mean).T @ (found - mean) + spread.sum(0)
            values, vectors = torch.linalg.eigh(shrunk(scatter, n))
            within = (vectors * values.clamp(LEAST_WITHIN, 1 - 1e-6)) @ vectors.T
        return effects, within

    def likelihood(self, rows: Tensor, fitted: tuple[Tensor, Tensor]) -> Float[Tensor, " people"]:
        """Logarithm of the likelihood of each one's answers, up to what attributes do not change."""
        effects, within = fitted
        inverse = torch.linalg.inv(within)
        mean = self.x[rows][:, : len(effects)] @ effects
        chol = torch.linalg.cholesky(self.precision[rows] + inverse)
        pulled = self.shift[rows] + mean @ inverse
        half = torch.linalg.solve_triangular(chol, pulled[..., None], upper=False)[..., 0]
        logs = chol.diagonal(dim1=1, dim2=2).log().sum(1) + torch.logdet(within) / 2
        return half.square().sum(1) / 2 - ((mean @ inverse) * mean).sum(1) / 2 - logs

    def effects(self, fitted: tuple[Tensor, Tensor]) -> Effects:
        """As evidence: the precision that makes the covariance the one within, and shifts of the mean."""
        effects, within = fitted
        inverse = torch.linalg.inv(within)
        added = self.inverse @ (inverse - torch.eye(len(within)).to(within)) @ self.inverse.T
        all_alike = torch.cat([added @ self.centre, added[self.upper[0], self.upper[1]]])
        shifts = effects @ inverse @ self.inverse.T
        rest = shifts.new_zeros(len(shifts), self.upper.shape[1])
        return torch.cat([all_alike[None], torch.cat([shifts, rest], 1)])


class _OfPoints:
    """Masses of points that depend on attributes; see `_OfGaussian`."""

    def __init__(
        self, population: Points, evidence: Float[Tensor, "people points"], x: Float[Tensor, "people f"]
    ) -> None:
        self.x, self.read = x, evidence
        self.log_masses = population.mass.double().log()
        self.states = (population.points - population.mean).double()

    def fit(self, rows: Tensor, *, blind: bool = False) -> Float[Tensor, "f s"]:
        """What a feature does to the log-mass of a point, by each number of its state."""
        effects = self.x.new_zeros(self.x.shape[1], self.states.shape[1]).requires_grad_(not blind)
        if blind:
            return effects
        descent = torch.optim.LBFGS([effects], max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            descent.zero_grad()
            total = PENALTY * effects.square().sum() - self.likelihood(rows, effects).sum()
            total.backward()
            return total

        with torch.enable_grad():
            descent.step(loss)
        return effects.detach()

    def likelihood(self, rows: Tensor, effects: Float[Tensor, "f s"]) -> Float[Tensor, " people"]:
        """Logarithm of the likelihood of each one's answers."""
        prior = torch.log_softmax(self.log_masses + self.x[rows] @ effects @ self.states.T, 1)
        return torch.logsumexp(prior + self.read[rows], 1)

    def effects(self, fitted: Float[Tensor, "f s"]) -> Effects:
        """As evidence: what is added to log-masses."""
        shifts = fitted @ self.states.T
        return torch.cat([shifts.new_zeros(1, shifts.shape[1]), shifts])


KINDS = {Gaussian: _OfGaussian, Points: _OfPoints}
