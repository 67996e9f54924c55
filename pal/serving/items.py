"""Items as a caller hands them over, one or many: texts, pictures or embeddings.

Shapes used in this module:
    n         items
    distinct  items that differ
    dim       width of an embedding
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor

from pal.errors import PalError

Picture: TypeAlias = bytes | Path | Image
Item: TypeAlias = str | Picture | Tensor | np.ndarray | Sequence[float]
Items: TypeAlias = Item | Sequence[Item]
Where: TypeAlias = Callable[[int], str]

TEXT, IMAGE, VECTOR = "text", "image", "vector"
CALLED = {TEXT: "texts", IMAGE: "pictures", VECTOR: "embeddings"}


@dataclass(frozen=True)
class Rows:
    """Embeddings of a list of items, those that repeat held once.

    Args:
        table: One embedding per distinct item, of any float type.
        row: Each item's row of the table; None where it is the item's own number.
    """

    table: Float[Tensor, "distinct dim"]
    row: Int[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return len(self.table) if self.row is None else len(self.row)

    @property
    def rows(self) -> Int[Tensor, " n"]:
        """Each item's row of the table."""
        return torch.arange(len(self.table)) if self.row is None else self.row

    def block(self, start: int, stop: int) -> Float[Tensor, "n dim"]:
        """Embeddings of items `start` to `stop`."""
        if self.row is None:
            return self.table[start:stop]
        return self.table.index_select(0, self.row[start:stop].to(self.table.device))

    def repeated(self, n: int) -> "Rows":
        """One item as often as `n` others."""
        return Rows(self.table, torch.zeros(n, dtype=torch.long)) if len(self) == 1 else self


def kind_of(item: object) -> str:
    """Whether an item is a text, an image or a vector.

    Raises:
        PalError: If it is none of these.
    """
    if isinstance(item, str):
        return TEXT
    if isinstance(item, bytes | Path | Image):
        return IMAGE
    if isinstance(item, Tensor | np.ndarray) or (isinstance(item, list | tuple) and _numbers(item)):
        return VECTOR
    raise PalError(
        "an item must be a text, a picture (bytes, a Path or a PIL image) or an embedding, got "
        f"{type(item).__name__}"
    )


def listed(items: Items) -> Tensor | list[Any]:
    """Items as a list of texts and pictures, or as one table of embeddings; one item is a list of one.

    Raises:
        PalError: If something else is among them, or embeddings are mixed with other items.
    """
    if isinstance(items, Tensor) and items.dim() == 2:
        return items
    if isinstance(items, Tensor | np.ndarray):
        table = _tensor(items)
        return table[None] if table.dim() == 1 else table
    if not isinstance(items, list | tuple):
        kind_of(items)
        return [items]
    if items and _numbers(items):
        return _tensor(items)[None]
    vectors = sum(kind_of(item) == VECTOR for item in items)
    if vectors and vectors < len(items):
        raise PalError("items must be all embeddings or none, got both; encode all, or leave it to the model")
    return _stacked(items) if vectors else list(items)


def count_of(items: Tensor | list[Any]) -> int:
    """How many; of a tensor ten times as fast as by `len`."""
    return items.shape[0] if isinstance(items, Tensor) else len(items)


def checked(table: Tensor, dim: int, where: Where) -> Tensor:
    """A table of embeddings, if it can be one: finite, and as wide as the model reads.

    Finite is looked at block by block: nothing of the table's size is made.

    Raises:
        PalError: Naming the first embedding that cannot be used.
    """
    if table.dim() != 2 or table.shape[1] != dim:
        raise PalError(
            f"embeddings must have the shape (n, {dim}) for {where(0)}, got {tuple(table.shape)}; use the "
            "encoder that the model was fitted with"
        )
    if not table.is_floating_point():
        raise PalError(f"embeddings must be floats for {where(0)}, got {table.dtype}; convert them")
    first = table[:1] if table.stride(0) == 0 else table
    for start in range(0, len(first), 8192):
        refuse_infinite(first[start : start + 8192], start, where)
    return table


def refuse_infinite(block: Float[Tensor, "n dim"], start: int, where: Where) -> None:
    """Look for NaN and infinity in a block; one sum of all tells in nearly every case.

    Raises:
        PalError: Naming the first item.
    """
    if bool(torch.isfinite(block.sum(dtype=torch.float32))):
        return
    wrong = (~torch.isfinite(block.float()).all(1)).nonzero()
    if len(wrong):
        raise PalError(
            f"embeddings must be finite, got NaN or infinity in {where(start + int(wrong[0]))}; encode it "
            "again or leave it out"
        )


def _numbers(items: Sequence[Any]) -> bool:
    return bool(items) and isinstance(items[0], Real) and not isinstance(items[0], bool)


def _tensor(vector: Any) -> Tensor:
    if isinstance(vector, Tensor):
        return vector
    try:
        array = np.ascontiguousarray(vector, None if isinstance(vector, np.ndarray) else "f4")
        with warnings.catch_warnings():  # nothing is written to it here
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.as_tensor(array)
    except (TypeError, ValueError) as error:
        raise PalError(f"an embedding must be numbers, got something else ({error})") from None


def _stacked(items: Sequence[Any]) -> Tensor:
    vectors = [_tensor(item) for item in items]
    shapes = {tuple(vector.shape) for vector in vectors}
    if len(shapes) > 1 or vectors[0].dim() != 1:
        raise PalError(f"embeddings in a list must be vectors of one width, got the shapes {sorted(shapes)}")
    return torch.stack(vectors)
