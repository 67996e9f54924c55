"""A taste: all that is kept of one person, log-likelihoods on the prior's points.

Answers add up: one more is a sum, two histories merge by a sum, and forgetting one is a difference. Numbers
are held as multiples of 2^-24 nats, whose sums floating point does not round, so that all three are exact in
any order, and forgetting leaves no trace.

Shapes used in this module:
    n       comparisons
    points  points of the prior
    K       prototypes
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from operator import add, sub
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pal.errors import PalError
from pal.files import write_bytes
from pal.serving.saved_model import SavedModel
from pal.users.adapt import Prior
from pal.users.taste_html import drawn

FORMAT = "pal-taste"
VERSION = 1
UNIT = 2.0**-24
LARGEST = 2**53  # units up to which a float holds every whole number
LONGEST = 100_000  # characters of a file; 128 points take some 1,500
SLACK = 1e-3  # nats that the same comparison may differ by between machines


@dataclass(frozen=True)
class Uncertainty:
    """How well a taste is known.

    Args:
        sd: Posterior standard deviation of each weight, 0 to 0.5.
        effective_points: Places where this person may well stand: the exponential of the posterior's
            entropy, from 1 (known) to the number of the prior's points.
    """

    sd: Float[Tensor, " K"]
    effective_points: float


@dataclass(frozen=True)
class Taste:
    """One person's place in a model, as far as answers tell.

    Args:
        model: The fingerprint of the model that it belongs to.
        log_likelihood: Of all answers at each of the prior's points, in nats, whole multiples of 2^-24.
        comparisons: Answers that went in.
        prior: The model's prior; None for a taste that was read without its model.
    """

    model: str
    log_likelihood: tuple[float, ...]
    comparisons: int
    prior: Prior | None = field(default=None, compare=False, repr=False)

    @classmethod
    def none(cls, model: SavedModel) -> "Taste":
        """Someone of whom nothing is known: the prior itself."""
        return cls(model.fingerprint, (0.0,) * len(model.prior.mass), 0, model.prior)

    def plus(self, log_likelihoods: Float[Tensor, "n points"]) -> "Taste":
        """With more comparisons, given by their log-likelihoods at the prior's points.

        Raises:
            PalError: If they are not finite, or not on as many points.
        """
        if log_likelihoods.shape[1] != len(self.log_likelihood):
            points = (len(self.log_likelihood), log_likelihoods.shape[1])
            raise PalError("log_likelihoods must be on {} points, got {}".format(*points))
        more = in_units(log_likelihoods).sum(0).mul(UNIT).tolist()
        total = tuple(map(add, self.log_likelihood, more))
        return replace(self, log_likelihood=total, comparisons=self.comparisons + len(log_likelihoods))

    def __add__(self, other: "Taste") -> "Taste":
        """Both histories together.

        Raises:
            PalError: If they belong to different models.
        """
        return self._combined(other, add)

    def __sub__(self, other: "Taste") -> "Taste":
        """The history without another that is part of it.

        Raises:
            PalError: If they belong to different models, or the other is no part of this one.
        """
        rest = self._combined(other, sub)
        if rest.comparisons < 0:
            raise PalError(
                f"a taste of {self.comparisons} comparisons cannot forget {other.comparisons}; "
                "take away only what went in"
            )
        # No answer is likelier than certain: what is left is never above 0, and 0 where nothing is left.
        above = max(map(abs, rest.log_likelihood) if not rest.comparisons else rest.log_likelihood)
        if above > SLACK * max(1, self.comparisons):
            raise PalError("the comparisons to forget are not among these; take away only what went in")
        return rest if rest.comparisons else replace(rest, log_likelihood=(0.0,) * len(rest.log_likelihood))

    def _combined(self, other: "Taste", how: Callable[[Any, Any], Any]) -> "Taste":
        if self.model != other.model or len(self.log_likelihood) != len(other.log_likelihood):
            raise PalError(
                f"tastes must belong to one model, got {self.model} and {other.model}; adapt both to one"
            )
        total = tuple(map(how, self.log_likelihood, other.log_likelihood))
        count = how(self.comparisons, other.comparisons)
        return Taste(self.model, total, count, self.prior or other.prior)

    def bound(self, model: SavedModel) -> "Taste":
        """The same, with its model's prior at hand.

        Raises:
            PalError: If it was made for another model.
        """
        if self.model != model.fingerprint or len(self.log_likelihood) != len(model.prior.mass):
            raise PalError(
                f"the taste must be of this model, {model.fingerprint}, got one of {self.model}; adapt to "
                "the user's comparisons with this model"
            )
        return self if self.prior is model.prior else replace(self, prior=model.prior)

    @property
    def posterior(self) -> Float[Tensor, " points"]:
        """Share of belief at each of the prior's points; float64, sums to 1.

        Raises:
            PalError: If it was read without its model.
        """
        return self._prior.posterior(torch.tensor(self.log_likelihood, dtype=torch.float64)[None])[0]

    @property
    def weights(self) -> Float[Tensor, " K"]:
        """Posterior mean weights; the zero-shot weights where there are no comparisons.

        Raises:
            PalError: If it was read without its model.
        """
        return (self.posterior @ self._prior.points.double()).float()

    @property
    def uncertainty(self) -> Uncertainty:
        """Standard deviation of each weight, and effective number of points.

        Raises:
            PalError: If it was read without its model.
        """
        belief, points = self.posterior, self._prior.points.double()
        variance = belief @ (points - belief @ points).square()
        entropy = torch.special.entr(belief).sum()
        return Uncertainty(variance.sqrt().float(), float(entropy.exp()))

    @property
    def _prior(self) -> Prior:
        if self.prior is None:
            raise PalError(
                "the taste must have its model at hand, got it without; read it by Taste.load(path, model)"
            )
        return self.prior

    def to_json(self) -> str:
        """One line of JSON of about 1 KB; nothing in it names the person or what was compared."""
        about = {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "comparisons": self.comparisons,
            "unit": "2^-24 nats",
            "log_likelihood": [round(value / UNIT) for value in self.log_likelihood],
        }
        return json.dumps(about, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes, model: SavedModel | None = None) -> "Taste":
        """What `to_json` wrote, the same to the last bit.

        Args:
            text: The JSON.
            model: Its model, without which it can be merged and scored with, but shows no weights.

        Raises:
            PalError: If it is no taste, from a newer version, or made for another model.
        """
        taste = _read(text)
        return taste if model is None else taste.bound(model)

    def save(self, path: Path | str) -> None:
        """Write it to a file, whole or not at all."""
        write_bytes(Path(path), (self.to_json() + "\n").encode("ascii"))

    @classmethod
    def load(cls, path: Path | str, model: SavedModel | None = None) -> "Taste":
        """Read a file that `save` wrote; see `from_json`.

        Raises:
            PalError: If the file cannot be read, or is no taste of the model.
        """
        try:
            with Path(path).open("rb") as file:
                text = file.read(LONGEST + 1)
        except OSError as error:
            raise PalError(f"{path} cannot be read ({error.strerror}); it must be a saved taste") from None
        try:
            return cls.from_json(text, model)
        except PalError as error:
            raise PalError(f"{path} cannot be used: {error}") from None

    def __repr__(self) -> str:
        known = f"{self.comparisons:,} comparisons"
        if self.prior is None:
            return f"Taste({known}, model {self.model[:8]}, read without it)"
        weights, sd = self.weights.tolist(), self.uncertainty.sd.tolist()
        shown = ", ".join(f"{w:.2f} ± {s:.2f}" for w, s in zip(weights, sd, strict=True))
        return f"Taste({known}, weights {shown})"

    def _repr_html_(self) -> str:
        """A bar per prototype, for notebooks."""
        if self.prior is None:
            return drawn(self.comparisons, self.model, [], [], None)
        found = self.uncertainty
        return drawn(
            self.comparisons, self.model, self.weights.tolist(), found.sd.tolist(), found.effective_points
        )


def in_units(log_likelihoods: Float[Tensor, "n points"]) -> Float[Tensor, "n points"]:
    """Log-likelihoods in whole units of 2^-24 nats, as float64.

    Raises:
        PalError: If one is not finite.
    """
    if not bool(torch.isfinite(log_likelihoods).all()):
        raise PalError("log-likelihoods must be finite, got NaN or infinity; look for it in the embeddings")
    return log_likelihoods.double().div(UNIT).round()


def _read(text: str | bytes) -> Taste:
    if len(text) > LONGEST:
        raise PalError(f"a taste must have at most {LONGEST:,} characters, got more")
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PalError(f"a taste must be JSON, got something else ({error})") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise PalError(f"a taste must be of the format {FORMAT!r}, got another; adapt to make one")
    version, model, count = (about.get(name) for name in ("version", "model", "comparisons"))
    if type(version) is not int or version < 1:
        raise PalError(f"a taste must give a version of at least 1, got {version!r}")
    if version > VERSION:
        raise PalError(
            f"a taste must have a version of at most {VERSION}, got {version}; install a newer pal"
        )
    if not isinstance(model, str) or type(count) is not int or count < 0:
        raise PalError(f"a taste must name its model and count its comparisons, got {model!r} and {count!r}")
    units = about.get("log_likelihood")
    if not isinstance(units, list) or not all(type(unit) is int and abs(unit) < LARGEST for unit in units):
        raise PalError("a taste's log_likelihood must be a list of whole numbers below 2^53, got others")
    return Taste(model, tuple(unit * UNIT for unit in units), count)
