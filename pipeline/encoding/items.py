"""A dataset's items as encode reads them, and those that cannot be encoded."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pal.errors import shorten
from pal.files import write_text
from pipeline.storage import tables

DROPPED_COLUMNS = ("item_id", "modality", "file", "row_group", "row", "column", "reason")


def read_items(path: Path, made_by: str) -> dict[str, pl.DataFrame]:
    """The items of a table by modality, in the order of their ids; modalities without an item are left out.

    Raises:
        PipelineError: If the table is missing or damaged.
    """
    items = tables.read_table(path, made_by).sort("item_id")
    parts = {name: items.filter(pl.col("modality").cast(pl.String) == name) for name in tables.MODALITIES}
    return {name: part for name, part in parts.items() if len(part)}


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
