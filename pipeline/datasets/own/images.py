"""Images that your tables name: paths relative to the table, which must stay inside its folder.

A table may come from somebody else, so nothing outside its folder is ever read through it: not by an absolute
path, nor by `..`, nor by a link. Whether a file is an image inside is seen where it is decoded.
"""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline.datasets.own.cells import refuse

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_LONGEST = 1024  # characters of a path


def find(rows: "pl.DataFrame", columns: list[str], folder: Path) -> dict[str, Path]:
    """The images that rows name.

    Args:
        rows: What `own_rows.join` gave.
        columns: The columns that hold paths.
        folder: The tables' folder.

    Returns:
        Files as they lie, by their path in the folder.

    Raises:
        PipelineError: Naming the first row whose path is not one of an image in the folder.
    """
    import polars as pl

    found: dict[str, Path] = {}
    root = folder.resolve()
    for column in columns:
        wrong: dict[str, list[str]] = {}
        for cell in rows[column].drop_nulls().unique(maintain_order=True):
            if fault := _fault(cell, root):
                wrong.setdefault(fault, []).append(cell)
            else:
                found[name_of(cell)] = root / name_of(cell)
        for fault, cells in wrong.items():
            refuse(rows, column, pl.col(column).is_in(cells), fault)
    return found


def name_of(cell: str) -> str:
    """A path as it is written once: `./a//b.png` is a/b.png."""
    return str(PurePosixPath(cell))


def _fault(cell: str, root: Path) -> str | None:
    """What is wrong with a path, as words to go behind its place; None where nothing is."""
    inside = "must be a path relative to the table and inside its folder, got {got}"
    if "://" in cell:
        return f"{inside}; download the image first"
    if "\0" in cell or len(cell) > _LONGEST:
        return f"{inside}; is this the right column?"
    path = PurePosixPath(cell)
    if path.is_absolute() or ".." in path.parts:
        return inside
    if path.suffix.lower() not in SUFFIXES:
        return f"must be a {', '.join(SUFFIXES)} file, got {{got}}"
    try:
        real = (root / path).resolve()
        if not real.is_relative_to(root):
            return f"{inside}, which leads out of it"
        if real.is_dir():
            return "must be a file, got the folder {got}"
        if real.is_file():
            return None
    except (OSError, RuntimeError):  # a name too long, links in a circle, a folder that may not be read
        pass
    again = "; write / between folders" if "\\" in cell else ""
    return f"must be an existing file in the table's folder, got {{got}}{again}"
