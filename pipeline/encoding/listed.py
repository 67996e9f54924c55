"""A dataset's items as encode takes them: ids packed and in order, other columns read when they are needed.

Nothing here makes a Python object per item: two million items are 64 MB of ids, and their texts' bytes once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.storage import shards, tables

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa

IMAGE_COLUMNS = ["item_id", "file", "row_group", "row", "column", "filter"]


@dataclass(frozen=True)
class Items:
    """The items of one modality, by id.

    Args:
        ids: Their ids (`shards.packed`), ascending.
        rows: Where each stands in the table.
        path: The table.
        made_by: The stage that wrote it.
    """

    ids: "np.ndarray"
    rows: "np.ndarray"
    path: Path
    made_by: str

    def texts(self) -> "Texts":
        """Their texts."""
        import pyarrow as pa
        import pyarrow.compute as pc

        column = tables.read_arrow(self.path, self.made_by, ["text"]).column("text")
        # With 64-bit offsets the column is one piece however long it is; without, 2 GB would be the most.
        whole = pc.cast(column, pa.large_string()).combine_chunks()
        return Texts(whole, self.rows)

    def images(self) -> "pl.DataFrame":
        """Where the bytes of images lie, one row an item, in the order of the ids."""
        return tables.read_table(self.path, self.made_by, IMAGE_COLUMNS)[self.rows]

    def vectors(self) -> "pl.Series":
        """Vectors of items that are vectors already, as lists, in the order of the ids."""
        return tables.read_table(self.path, self.made_by, ["vector"])["vector"][self.rows]


@dataclass(frozen=True)
class Texts:
    """Texts outside Python's memory.

    Args:
        column: All of the table's.
        rows: Where each item's stands.
    """

    column: "pa.LargeStringArray"
    rows: "np.ndarray"

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, items: "np.ndarray | slice") -> list[str]:
        """The texts of some items, in their order; empty where the table has none."""
        import pyarrow as pa

        return [text or "" for text in self.column.take(pa.array(self.rows[items])).to_pylist()]


def read(path: Path, made_by: str) -> dict[str, Items]:
    """The items of a table, by modality, those without an item left out.

    Raises:
        PipelineError: If it is missing or damaged, or an id is none.
    """
    import numpy as np

    table = tables.read_arrow(path, made_by, ["item_id", "modality"])
    ids = shards.packed(_fixed(table.column("item_id")))
    codes, names = tables.codes(table.column("modality"))
    del table
    order = np.arange(len(ids)) if (ids[1:] > ids[:-1]).all() else np.argsort(ids, kind="stable")
    found = {}
    for modality in tables.MODALITIES:
        rows = order[codes[order] == names.index(modality)] if modality in names else order[:0]
        if len(rows):
            found[modality] = Items(ids[rows], rows, path, made_by)
    return found


def _fixed(column: "pa.ChunkedArray") -> "np.ndarray | list[str]":
    """Texts of 32 bytes each as an array of them, without a Python object each; others as they are."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    width = 2 * shards.ID_BYTES
    if not len(column) or not pc.all(pc.equal(pc.binary_length(column), width)).as_py():
        return column.to_pylist()
    flat = [chunk.cast(pa.binary()).cast(pa.binary(width)) for chunk in column.chunks if len(chunk)]
    parts = [np.frombuffer(c.buffers()[1], f"S{width}", len(c), c.offset * width) for c in flat]
    return np.concatenate(parts)
