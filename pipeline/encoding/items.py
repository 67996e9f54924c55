"""A dataset's items as encode reads them, and those that cannot be encoded.

Nothing here makes a Python object per item: two million items are 64 MB of ids, and their texts' bytes once.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pal.encoders import vector_store
from pal.errors import shorten
from pal.files import write_text
from pipeline.storage import tables

IMAGE_COLUMNS = ["item_id", "file", "row_group", "row", "column", "filter"]
DROPPED_COLUMNS = ("item_id", "modality", "file", "row_group", "row", "column", "reason")


@dataclass(frozen=True)
class Items:
    """The items of one modality, by id.

    Args:
        ids: Their ids (`vector_store.packed`), ascending.
        rows: The row of each in the table.
        path: The table.
        made_by: The stage that wrote it.
    """

    ids: np.ndarray
    rows: np.ndarray
    path: Path
    made_by: str

    def texts(self) -> pa.LargeStringArray:
        """Their texts in Arrow's memory, in the order of the ids; empty where the table has none."""
        column = tables.read_arrow(self.path, self.made_by, ["text"]).column("text")
        # With 64-bit offsets the column is one chunk however long it is; without, 2 GB would be the most.
        texts = pc.cast(column, pa.large_string()).combine_chunks()
        return texts.take(pa.array(self.rows)).fill_null("")

    def images(self) -> pl.DataFrame:
        """Where the bytes of images lie, one row an item, in the order of the ids."""
        return tables.read_table(self.path, self.made_by, IMAGE_COLUMNS)[self.rows]

    def vectors(self) -> pl.Series:
        """Vectors of items that are vectors already, as lists, in the order of the ids."""
        return tables.read_table(self.path, self.made_by, ["vector"])["vector"][self.rows]


def read_items(path: Path, made_by: str) -> dict[str, Items]:
    """The items of a table, by modality; modalities without an item are left out.

    Raises:
        PipelineError: If the table is missing or damaged, or an id is not one.
    """
    table = tables.read_arrow(path, made_by, ["item_id", "modality"])
    column = table.column("item_id")
    width = 2 * vector_store.ID_BYTES
    if len(column) and pc.all(pc.equal(pc.binary_length(column), width)).as_py():
        chunks = [c.cast(pa.binary()).cast(pa.binary(width)) for c in column.chunks if len(c)]
        buffers = [np.frombuffer(c.buffers()[1], f"S{width}", len(c), c.offset * width) for c in chunks]
        ids = vector_store.packed(np.concatenate(buffers))
    else:  # texts of other lengths, which `packed` refuses
        ids = vector_store.packed(column.to_pylist())
    codes, names = tables.codes(table.column("modality"))
    order = np.argsort(ids, kind="stable")
    items = {}
    for modality in tables.MODALITIES:
        rows = order[codes[order] == names.index(modality)] if modality in names else order[:0]
        if len(rows):
            items[modality] = Items(ids[rows], rows, path, made_by)
    return items


@dataclass(frozen=True)
class BadItem:
    """An item that could not be encoded.

    Args:
        item_id: Its id.
        modality: text or image.
        reason: Why, in a phrase.
        text: A text's own words.
        file: The sha256 of the raw file that holds an image, and where in it:
        row_group: the row group,
        row: the row in it,
        column: and the column; None where the file is the image.
    """

    item_id: str
    modality: str
    reason: str
    text: str | None = None
    file: str | None = None
    row_group: int | None = None
    row: int | None = None
    column: str | None = None

    def described(self, names: dict[str, str]) -> str:
        """A text in quotes, an image by its file's name and its place in it.

        Args:
            names: The raw files' names by their sha256.
        """
        if self.text is not None:
            return f"the text {shorten(self.text)}"
        name = names.get(self.file or "", self.file)
        if self.row is None:
            return f"the image {name}"
        return f"the image in {self.column}, row {self.row} of row group {self.row_group}, of {name}"


def write_dropped(path: Path, items: list[BadItem]) -> None:
    """List dropped items as CSV, one row an item; a header alone where nothing was dropped."""
    rows = [[getattr(item, column) for column in DROPPED_COLUMNS] for item in items]
    write_text(path, pl.DataFrame(rows, dict.fromkeys(DROPPED_COLUMNS), orient="row").write_csv())
