"""Attributes of people in the prior: what country or age say of someone's state before any answer.

They are evidence of the kind that answers are: of a Gaussian a precision and a shift, which move the prior's
mean and narrow it; of points a factor on their masses. So a taste adds them to its answers, and adapting,
scoring and saving know nothing of attributes.

Shapes used in this module:
    people    people whose attributes are known
    features  numbers that stand for attributes: one of a number, one of each value of a category
    evidence  numbers of evidence of the population
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pal.errors import PalError

Attributes = Mapping[str, str | int | float | None]
MOST_VALUES = 20  # of a category that have an effect of their own
FEWEST_NUMBERS = 6  # distinct numbers from which on an attribute is a number and no category


@dataclass(frozen=True)
class AttributePrior:
    """What attributes say of a state.

    Args:
        columns: By attribute `{"shares": {value: share of the people}}`, or `{"mean": ..., "sd": ...}` of a
            number.
        effects: The evidence that all people of known attributes have in common, and that of each feature,
            (1 + features, evidence).
    """

    columns: Mapping[str, Any]
    effects: Tensor

    @classmethod
    def from_json(cls, columns: Any, effects: Tensor) -> "AttributePrior":
        """The prior of columns that were read from a file.

        Raises:
            PalError: If they are no columns.
        """
        good = isinstance(columns, dict) and all(
            isinstance(about, dict)
            and (
                (
                    {"mean", "sd"} == about.keys()
                    and all(type(number) in (int, float) for number in about.values())
                    and about["sd"] > 0
                )
                or (
                    {"shares"} == about.keys()
                    and isinstance(about["shares"], dict)
                    and all(type(share) in (int, float) for share in about["shares"].values())
                )
            )
            for about in columns.values()
        )
        if not good:
            raise PalError("attributes must be shares of values, or a mean and an sd, got others; fit again")
        return cls(columns, effects)

    def evidence(self, people: Sequence[Attributes]) -> Float[Tensor, "people evidence"]:
        """What the attributes of people say; zeros of someone of whom none is known.

        A value that was not seen in fitting is as one that is not known.

        Raises:
            PalError: If what should be a number is none.
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


def features_of(columns: Mapping[str, Any], people: Sequence[Attributes]) -> Float[Tensor, "people features"]:
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
