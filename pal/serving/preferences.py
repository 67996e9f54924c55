"""What one person preferred to what, as a caller hands it over.

Shapes used in this module:
    n       comparisons
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import Tensor

from pal.errors import PalError
from pal.serving.items import Item, Items

Row = TypeVar("Row")


@dataclass(frozen=True)
class Preference:
    """One comparison: this response rather than that one, to this prompt.

    Args:
        prompt: What both answer; None where the model reads no prompts.
        chosen: The response that was preferred.
        rejected: The other.
        label: P(chosen is preferred), in [0, 1]; 0.5 is a tie.
    """

    prompt: Item | None
    chosen: Item
    rejected: Item
    label: float = 1.0

    @classmethod
    def of(cls, given: Any, where: str = "a comparison") -> "Preference":
        """A comparison from a mapping or a tuple.

        Args:
            given: A `Preference`, a mapping with these names, or (prompt, chosen, rejected[, label]).
            where: What it is called in messages.

        Raises:
            PalError: If it is none of these, or a label is not in [0, 1].
        """
        given = row_of(cls, given, where, required=("chosen", "rejected"))
        if not isinstance(given.label, Real) or not 0 <= given.label <= 1:
            raise PalError(f"label must lie in [0, 1] in {where}, got {given.label!r}; 0.5 is a tie")
        return given


def row_of(kind: type[Row], given: Any, where: str, *, required: tuple[str, ...]) -> Row:
    """A dataclass from itself, a mapping with its names, or a tuple in their order.

    Args:
        kind: The dataclass.
        given: One of these.
        where: What it is called in messages.
        required: Names that a mapping must have; the others may be left out.

    Raises:
        PalError: If it is none of these, or a mapping has too many names or too few.
    """
    names = [each.name for each in fields(kind)]
    if isinstance(given, Mapping):
        extra = sorted(map(str, given.keys() - set(names)))
        missing = [name for name in required if name not in given]
        if extra or missing:
            wrong = f"{extra[0]!r} too" if extra else f"no {missing[0]!r}"
            raise PalError(f"{where} must have the names {', '.join(names)} and no other, got {wrong}")
        return kind(**{"prompt": None, **given})
    if isinstance(given, list | tuple) and 3 <= len(given) <= len(names):
        return kind(*given)
    if not isinstance(given, kind):
        raise PalError(
            f"{where} must be a {kind.__name__}, a mapping with {', '.join(names)}, or a tuple of these, got "
            f"{type(given).__name__}"
        )
    return given


@dataclass(frozen=True)
class Preferences:
    """One person's comparisons as columns, for embeddings in bulk.

    Args:
        prompts: One per comparison, or one for all; None where the model reads no prompts.
        chosen: One per comparison: a list of texts and pictures, or embeddings (n, dim).
        rejected: The other ones, aligned.
        label: P(chosen is preferred) of each; None stands for all ones.
    """

    prompts: Items | None
    chosen: Items
    rejected: Items
    label: Tensor | Sequence[float] | None = None

    @classmethod
    def of(cls, given: Any) -> "Preferences":
        """Columns from any list of comparisons (see `Preference.of`); columns stay as they are.

        Raises:
            PalError: If something else is among them.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, Preference | Mapping | str | bytes) or not hasattr(given, "__iter__"):
            raise PalError(f"comparisons must be a list, got {type(given).__name__}; put it in a list")
        rows = [Preference.of(one, f"comparison {number}") for number, one in enumerate(given)]
        without = [number for number, row in enumerate(rows) if row.prompt is None]
        if without and len(without) < len(rows):
            raise PalError(
                f"comparisons must all have a prompt or none, got none in comparison {without[0]}; add it"
            )
        return cls(
            None if without or not rows else [row.prompt for row in rows],
            [row.chosen for row in rows],
            [row.rejected for row in rows],
            [row.label for row in rows],
        )

    @property
    def labels(self) -> Tensor | None:
        """The labels as float32; None where all are ones.

        Raises:
            PalError: If one is not in [0, 1].
        """
        if self.label is None:
            return None
        label = torch.as_tensor(self.label, dtype=torch.float32)
        if not bool(((label >= 0) & (label <= 1)).all()):
            raise PalError("label must lie in [0, 1]; 1 is chosen preferred, 0.5 a tie")
        return label
