"""Items that cannot be encoded: which, where they come from, and why."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from pal.errors import shorten
from pal.files import write_text

COLUMNS = ("item_id", "modality", "file", "row_group", "row", "column", "reason")


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

    def told(self, names: dict[str, str]) -> str:
        """The item as people know it: a text in quotes, an image by its file's name and its place in it."""
        if self.text is not None:
            return f"the text {shorten(self.text)}"
        name = names.get(self.file or "", self.file)
        if self.row is None:
            return f"the image {name}"
        return f"the image in {self.column}, row {self.row} of row group {self.row_group}, of {name}"


def dropped_csv(path: Path, items: list[BadItem]) -> None:
    """List what was dropped, one row an item; a header alone where nothing was."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(item, column) for column in COLUMNS] for item in items)
    write_text(path, out.getvalue())
