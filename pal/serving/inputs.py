"""Inputs as callers pass them: texts, pictures, embeddings, and comparisons and questions of these.

Shapes used in this module:
    n         items, or comparisons
    distinct  items that differ
    dim       width of an embedding
"""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor

from pal.errors import PalError

Picture: TypeAlias = bytes | Path | Image
Conversation: TypeAlias = Sequence[Mapping[str, Any]]  # messages, each with a role and a content
Item: TypeAlias = str | Conversation | Picture | Tensor | np.ndarray | Sequence[float]
Items: TypeAlias = Item | Collection[Item]  # a list, or a column of a table: see `listed`
ItemList: TypeAlias = Tensor | list[Any]  # what `as_list` returns: embeddings (n, dim), or texts and pictures
Row = TypeVar("Row")

TEXT, IMAGE, VECTOR = "text", "image", "vector"
COLUMNS = ("chosen", "rejected", "label")
FINITE_BLOCK = 8192  # embeddings that are checked at a time, so that nothing of the table's size is allocated


class Place(NamedTuple):
    """Where an item stands: its name in messages, such as `responses[3]`, and what an error about it carries.

    `user` is whose comparison it is, where there are several users.
    """

    name: str
    column: str
    row: int
    user: str | None = None

    def error(self, problem: str) -> PalError:
        """An error that says what is wrong with the item."""
        return PalError(
            f"{self.name} {problem}", row=self.row, column=self.column, user=self.user, problem=problem
        )


Places: TypeAlias = Callable[[int], Place]


def places_in(column: str, start: int = 0) -> Places:
    """Names such as `responses[3]` for the items of one argument, numbered from `start`."""
    return lambda row: Place(f"{column}[{start + row}]", column, start + row)


@dataclass(frozen=True)
class ItemEmbeddings:
    """Embeddings of a list of items; an item that repeats is stored once.

    `row` is each item's row of `table`, which may be of any float type; None where item i is row i.
    """

    table: Float[Tensor, "distinct dim"]
    row: Int[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return len(self.table) if self.row is None else len(self.row)

    @property
    def rows(self) -> Int[Tensor, " n"]:
        """Each item's row of the table."""
        return torch.arange(len(self.table), device=self.table.device) if self.row is None else self.row

    def __getitem__(self, items: slice) -> "ItemEmbeddings":
        """Some of the items."""
        if self.row is None:
            return ItemEmbeddings(self.table[items])
        return ItemEmbeddings(self.table, self.row[items])

    def tensor(self) -> Float[Tensor, "n dim"]:
        """One embedding per item, repeated where items repeat."""
        return self.table if self.row is None else self.table[self.row.to(self.table.device)]

    def distinct(self) -> tuple[Float[Tensor, "distinct dim"], Int[Tensor, " n"]]:
        """Embeddings that differ, and each item's row of them.

        Of items that are rows of a table these are exact; otherwise only neighbours are compared.
        """
        if self.row is not None:
            rows, row = torch.unique(self.row, return_inverse=True)
            return self.table[rows.to(self.table.device)], row
        table = self.table
        if not bool((table[1:, 0] == table[:-1, 0]).any()):  # the first number settles most cases
            return table, self.rows
        new = torch.ones(len(table), dtype=torch.bool, device=table.device)
        new[1:] = (table[1:] - table[:-1]).abs_().amax(1) != 0  # takes half the time of comparing
        return table[new], new.long().cumsum(0) - 1

    def repeated(self, n: int) -> "ItemEmbeddings":
        """One item repeated n times; several items as they are."""
        return ItemEmbeddings(self.table, torch.zeros(n, dtype=torch.long)) if len(self) == 1 else self


@dataclass(frozen=True)
class Preference:
    """One comparison: this response is preferred to that one, as answers to this prompt.

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


@dataclass(frozen=True)
class Question:
    """One question that may be asked: which of two responses is preferred.

    Args:
        prompt: What both answer; None where the model reads no prompts.
        first: A response.
        second: The other.
    """

    prompt: Item | None
    first: Item
    second: Item


@dataclass(frozen=True)
class Preferences:
    """Comparisons of one person as columns, for embeddings in bulk.

    Args:
        prompts: One per comparison, or one for all; None where the model reads no prompts.
        chosen: One per comparison: a list of texts and pictures, or embeddings (n, dim).
        rejected: The other responses, aligned.
        label: P(chosen is preferred) of each; None stands for all ones.
    """

    prompts: Items | None
    chosen: Items
    rejected: Items
    label: Tensor | Sequence[float] | None = None


def listed(column: Any) -> Any:
    """A table's column, as of pandas, polars, Arrow or `datasets`, as a list; anything else as it is.

    Tables and mappings are no columns: their elements are their names.
    """
    if isinstance(column, np.ndarray):
        return column.tolist() if column.dtype.kind in "OSTU" else column
    if isinstance(column, Tensor | Mapping | str | bytes | list | tuple) or hasattr(column, "columns"):
        return column
    if any(not hasattr(column, f"__{name}__") for name in ("len", "iter", "getitem")):
        return column
    if hasattr(column, "column_names"):
        return column
    return column.to_pylist() if hasattr(column, "to_pylist") else list(column)


def as_list(items: Items) -> ItemList:
    """Items as a list of texts and pictures, or as one table of embeddings; one item is a list of one."""
    items = listed(items)
    if isinstance(items, Tensor | np.ndarray):
        table = _as_tensor(items)
        return table[None] if table.dim() == 1 else table
    if not isinstance(items, list | tuple):
        kind_of(items)
        return [items]
    if items and isinstance(items[0], Mapping):  # one conversation
        return [items]
    if items and _is_number(items[0]):
        return _as_tensor(items)[None]
    n_vectors = sum(kind_of(item) == VECTOR for item in items)
    if not n_vectors:
        return list(items)
    if n_vectors < len(items):
        raise PalError("items must be all embeddings or none, got both; encode all, or leave it to the model")
    vectors = [_as_tensor(item) for item in items]
    shapes = {tuple(vector.shape) for vector in vectors}
    if len(shapes) > 1 or vectors[0].dim() != 1:
        raise PalError(f"embeddings in a list must be vectors of one width, got the shapes {sorted(shapes)}")
    return torch.stack(vectors)


def kind_of(item: object) -> str:
    """Whether an item is a text (or a conversation, which is read as one), an image or a vector."""
    if isinstance(item, str) or (isinstance(item, list | tuple) and item and isinstance(item[0], Mapping)):
        return TEXT
    if isinstance(item, bytes | Path | Image):
        return IMAGE
    if isinstance(item, Tensor | np.ndarray) or (
        isinstance(item, list | tuple) and item and _is_number(item[0])
    ):
        return VECTOR
    raise PalError(
        "an item must be a text, messages, a picture (bytes, a Path or a PIL image) or an embedding, got "
        f"{type(item).__name__}"
    )


def concatenate(lists: Sequence[ItemList]) -> ItemList:
    """Several lists of items as one; all must be embeddings of one width, or none."""
    lists = [items for items in lists if len(items)]
    if not any(isinstance(items, Tensor) for items in lists):
        return [item for items in lists for item in items]
    if len({items.shape[1:] if isinstance(items, Tensor) else None for items in lists}) > 1:
        raise PalError("items must be all embeddings of one width or none, got several kinds")
    return torch.cat(lists) if len(lists) > 1 else lists[0]


def check_embeddings(table: Tensor, dim: int, places: Places) -> None:
    """Refuse a table of embeddings that is not finite floats of the model's width."""
    if table.dim() != 2 or table.shape[1] != dim:
        raise places(0).error(
            f"must be an embedding of {dim} numbers, got a table of the shape {tuple(table.shape)}; use the "
            "encoder that the model was fitted with"
        )
    if not table.is_floating_point():
        raise places(0).error(f"must be an embedding of floats, got {table.dtype}; convert it")
    for start in range(0, len(table), FINITE_BLOCK):
        block = table[start : start + FINITE_BLOCK]
        # One sum settles nearly every case; a sum of finite numbers may still overflow.
        if not bool(torch.isfinite(block.sum(dtype=torch.float32))):
            for row in (~torch.isfinite(block.float()).all(1)).nonzero()[:, 0].tolist():
                raise places(start + row).error(
                    "must be finite, got NaN or infinity; encode it again or leave it out"
                )


def as_row(kind: type[Row], given: Any, place: str) -> Row:
    """A `Preference` or `Question` from itself, from a mapping of its names, or from a tuple in their order.

    A mapping may leave out `prompt` and `label`.
    """
    if isinstance(given, kind):
        return given
    names = [field.name for field in fields(kind)]
    if isinstance(given, Mapping):
        extra, missing = given.keys() - set(names), set(names[1:3]) - given.keys()
        if extra or missing:
            wrong = f"{min(map(str, extra))!r} too" if extra else f"no {min(missing)!r}"
            raise PalError(f"{place} must have the names {', '.join(names)} and no other, got {wrong}")
        return kind(**{"prompt": None, **given})
    if isinstance(given, list | tuple) and 3 <= len(given) <= len(names):
        return kind(*given)
    raise PalError(
        f"{place} must be a {kind.__name__}, a mapping with {', '.join(names)}, or a tuple of these, got "
        f"{type(given).__name__}"
    )


def as_columns(comparisons: Any, *, needs_prompts: bool) -> Preferences:
    """Comparisons as columns of equal length: lists or tables, with labels as float32 or None for all ones.

    Prompts are left out where they are not needed.
    """
    columns = comparisons if isinstance(comparisons, Preferences) else _columns_of_rows(comparisons)
    chosen, rejected = as_list(columns.chosen), as_list(columns.rejected)
    n, label = len(chosen), None
    if columns.label is not None:
        try:
            label = torch.as_tensor(listed(columns.label), dtype=torch.float32).reshape(-1)
        except (TypeError, ValueError, RuntimeError) as error:
            raise PalError(f"label must be numbers in [0, 1], got something else ({error})") from None
        for row in (~((label >= 0) & (label <= 1))).nonzero()[:1, 0].tolist():  # so that NaN is refused
            raise Place(f"label of comparison {row}", "label", row).error(
                f"must lie in [0, 1], got {float(label[row]):g}; 1 is chosen preferred, 0.5 a tie"
            )
    if len(rejected) != n or (label is not None and label.shape != (n,)):
        raise PalError(
            f"rejected and labels must be as many as the {n} chosen, got {len(rejected)} and "
            f"{n if label is None else tuple(label.shape)}"
        )
    if columns.prompts is None or not needs_prompts:
        return Preferences(None, chosen, rejected, label)
    prompts = as_list(columns.prompts)
    if len(prompts) not in (1, n):
        raise PalError(f"prompts must be one, or one for each of {n} chosen, got {len(prompts)}")
    if len(prompts) != n:
        prompts = prompts.expand(n, -1) if isinstance(prompts, Tensor) else prompts * n
    return Preferences(prompts, chosen, rejected, label)


def _columns_of_rows(comparisons: Any) -> Preferences:
    if isinstance(comparisons, Preference | Mapping | str | bytes) or not hasattr(comparisons, "__iter__"):
        raise PalError(f"comparisons must be a list, got {type(comparisons).__name__}; put it in a list")
    rows = [as_row(Preference, given, f"comparison {row}") for row, given in enumerate(comparisons)]
    without_prompt = [number for number, row in enumerate(rows) if row.prompt is None]
    if without_prompt and len(without_prompt) < len(rows):
        raise PalError(
            f"comparisons must all have a prompt or none, got none in comparison {without_prompt[0]}; add it",
            row=without_prompt[0],
            column="prompt",
        )
    prompts = None if without_prompt or not rows else [row.prompt for row in rows]
    return Preferences(prompts, *([getattr(row, side) for row in rows] for side in COLUMNS))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _as_tensor(vector: Any) -> Tensor:
    if isinstance(vector, Tensor | np.ndarray) and not vector.ndim:
        raise PalError("an embedding must be a list of numbers, got a single number; give one of dimension 1")
    if isinstance(vector, Tensor):
        if vector.layout != torch.strided or vector.is_meta:
            got = "one on the meta device" if vector.is_meta else f"one of the layout {vector.layout}"
            raise PalError(f"an embedding must be a dense tensor with its numbers, got {got}; use to_dense()")
        return vector
    try:
        array = np.ascontiguousarray(vector, None if isinstance(vector, np.ndarray) else "f4")
        with warnings.catch_warnings():  # of arrays that cannot be written to, as columns of a file are
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.as_tensor(array)
    except (TypeError, ValueError) as error:
        raise PalError(f"an embedding must be numbers, got something else ({error})") from None
