"""A taste: the evidence that one person's answers give of their state, and the posterior that follows.

Evidence adds up over answers: one answer more is a sum, two histories merge by a sum, and forgetting an
answer is a difference. Numbers are held as multiples of 2^-24, whose sums floating point does not round, so
that tastes add up exactly in any order. The evidence of one answer depends by rounding, about 1e-6 nats, on
the answers that it is computed with: of one that is computed anew to be forgotten no more than this is left.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import add, sub
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from pal.config import registered
from pal.errors import PalError
from pal.files import expanded, write_bytes
from pal.users import POPULATIONS
from pal.users.population import Population, Posterior

FORMAT = "pal-taste"
VERSION = 1
UNIT = 2.0**-24
SHOWN = 8  # numbers of a state in its repr
LARGEST = 2**53  # units up to which a float holds every whole number
LONGEST = 1_000_000  # characters of a file; 128 points take some 1,500, a Gaussian in 65 dimensions 25,000


@runtime_checkable
class FittedModel(Protocol):
    """What a taste belongs to: a saved model."""

    fingerprint: str
    population: Population


@dataclass(frozen=True)
class Taste:
    """One person's evidence, for one model."""

    model: str  # its fingerprint
    kind: str  # the name of its population
    # Summed over all answers, whole multiples of 2^-24; of `points` log-likelihoods in nats at each.
    evidence: tuple[float, ...]
    comparisons: int  # answers that went in
    # None for a taste that was read without its model.
    population: Population | None = field(default=None, compare=False, repr=False)

    @classmethod
    def empty(cls, model: FittedModel) -> "Taste":
        """Someone of whom nothing is known: the prior itself."""
        population = model.population
        none = (0.0,) * population.evidence_size
        return cls(model.fingerprint, population.name, none, 0, population)

    def __add__(self, other: Any) -> "Taste":
        """Both histories together; tastes of different models are refused."""
        return self._combined(other, add)

    def __radd__(self, other: Any) -> "Taste":
        """So that `sum(tastes)`, which starts from 0, adds up."""
        return self if isinstance(other, int) and other == 0 else self._combined(other, add)

    def __sub__(self, other: Any) -> "Taste":
        """The history without another, which must be part of it."""
        rest = self._combined(other, sub)
        if rest.comparisons < 0:
            raise PalError(
                f"a taste of {self.comparisons} comparisons cannot forget {other.comparisons}; "
                "take away only what went in"
            )
        left = torch.tensor(rest.evidence, dtype=torch.float64)
        # What is left may differ by rounding of the answers taken away, as by another machine.
        if not registered(POPULATIONS, self.kind).possible(left, rest.comparisons, self.comparisons):
            raise PalError("the comparisons to forget are not among these; take away only what went in")
        return rest if rest.comparisons else replace(rest, evidence=(0.0,) * len(rest.evidence))

    def _combined(self, other: Any, how: Callable[[Any, Any], Any]) -> "Taste":
        if not isinstance(other, Taste):
            raise PalError(f"a taste adds up with tastes alone, got {type(other).__name__}; adapt makes one")
        if self.model != other.model or len(self.evidence) != len(other.evidence):
            raise PalError(
                f"tastes must belong to one model, got {self.model} and {other.model}; adapt both to one"
            )
        total = tuple(map(how, self.evidence, other.evidence))
        count = how(self.comparisons, other.comparisons)
        return Taste(self.model, self.kind, total, count, self.population or other.population)

    def with_model(self, model: FittedModel) -> "Taste":
        """The same, with its model's population at hand; a taste of another model is refused."""
        if self.model != model.fingerprint or len(self.evidence) != model.population.evidence_size:
            raise PalError(
                f"the taste must be of this model, {model.fingerprint}, got one of {self.model}; adapt to "
                "the user's comparisons with this model"
            )
        return self if self.population is model.population else replace(self, population=model.population)

    @property
    def posterior(self) -> Posterior:
        """Belief about the person's state, in float64; an error if the taste was read without its model."""
        if self.population is None:
            raise PalError(
                "the taste must have its model at hand, got it without; read it by Taste.load(path, model)"
            )
        return self.population.posterior(torch.tensor(self.evidence, dtype=torch.float64))

    @property
    def state(self) -> Float[Tensor, " state"]:
        """Posterior mean state; the population's mean where there are no comparisons."""
        return self.posterior.mean.float()

    def to_json(self) -> str:
        """One line of JSON of about 1 KB; nothing in it names the person or what was compared."""
        about = {"format": FORMAT, "version": VERSION, "model": self.model, "comparisons": self.comparisons}
        name = registered(POPULATIONS, self.kind).evidence_name
        about |= {"unit": "2^-24 nats", name: [round(value / UNIT) for value in self.evidence]}
        return json.dumps(about, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes, model: FittedModel | None = None) -> "Taste":
        """What `to_json` wrote, the same to the last bit; without its model it shows no state.

        What is no taste, from a newer version, or made for another model is a PalError.
        """
        if len(text) > LONGEST:
            raise PalError(f"a taste must have at most {LONGEST:,} characters, got more")
        try:
            about = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PalError(f"a taste must be JSON, got something else ({error})") from None
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise PalError(f"a taste must be of the format {FORMAT!r}, got another; adapt to make one")
        version, fingerprint, count = (about.get(name) for name in ("version", "model", "comparisons"))
        if type(version) is not int or version < 1:
            raise PalError(f"a taste must give a version of at least 1, got {version!r}")
        if version > VERSION:
            raise PalError(
                f"a taste must have a version of at most {VERSION}, got {version}; install a newer pal"
            )
        if not isinstance(fingerprint, str) or type(count) is not int or count < 0:
            raise PalError(
                f"a taste must name its model and count its comparisons, got {fingerprint!r} and {count!r}"
            )
        names = {registered(POPULATIONS, kind).evidence_name: kind for kind in POPULATIONS}
        name = next((name for name in names if name in about), "log_likelihood")
        units = about.get(name)
        if type(units) is not list or not all(type(unit) is int and abs(unit) < LARGEST for unit in units):
            raise PalError(f"a taste's {name} must be a list of whole numbers below 2^53, got others")
        taste = cls(fingerprint, names[name], tuple(unit * UNIT for unit in units), count)
        return taste if model is None else taste.with_model(model)

    def save(self, path: Path | str) -> None:
        """Write it to a file, whole or not at all."""
        write_bytes(expanded(path), (self.to_json() + "\n").encode("ascii"))

    @classmethod
    def load(cls, path: Path | str, model: FittedModel | None = None) -> "Taste":
        """Read a file that `save` wrote; see `from_json`."""
        try:
            with expanded(path).open("rb") as file:
                text = file.read(LONGEST + 1)
        except OSError as error:
            raise PalError(f"{path} cannot be read ({error.strerror}); it must be a saved taste") from None
        try:
            return cls.from_json(text, model)
        except PalError as error:
            raise PalError(f"{path} cannot be used: {error}") from None

    def __repr__(self) -> str:
        counted = f"{self.comparisons:,} comparisons"
        if self.population is None:
            return f"Taste({counted}, model {self.model[:8]}, read without it)"
        posterior = self.posterior
        numbers = list(zip(posterior.mean.tolist(), posterior.sd.tolist(), strict=True))
        shown = ", ".join(f"{mean:.2f} ± {sd:.2f}" for mean, sd in numbers[:SHOWN])
        return f"Taste({counted}, state {shown}{', …' if len(numbers) > SHOWN else ''})"


def sum_evidence(model: FittedModel, read: Float[Tensor, "n read"], counts: Sequence[int]) -> list[Taste]:
    """The tastes of several people from what was read of their comparisons, `counts` of each, in order."""
    population, fingerprint = model.population, model.fingerprint
    user = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(list(counts), dtype=torch.long))
    if population.additive:
        read = to_units(read)  # each answer on its own, so that sums are exact
    totals = to_units(population.total(read, user, len(counts))).tolist()
    return [
        Taste(fingerprint, population.name, tuple(total), count, population)
        for total, count in zip(totals, counts, strict=True)
    ]


def to_units(evidence: Float[Tensor, "n evidence"]) -> Float[Tensor, "n evidence"]:
    """Evidence at whole multiples of 2^-24, so that sums are exact; NaN and infinity are refused."""
    if not bool(torch.isfinite(evidence).all()):
        raise PalError("evidence must be finite, got NaN or infinity; look for it in the embeddings")
    return evidence.double().div(UNIT).round().mul(UNIT)
