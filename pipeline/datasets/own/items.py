"""Items from the cells of users' tables: texts as they are, images by their bytes, vectors by their numbers.

The same content is one item, however often and under however many names it occurs: texts that differ in white
space or in Unicode's form alone are one, since encoders can hardly tell them apart. A table may come from
somebody else, so no path leads out of its folder: not an absolute one, not `..`, not a link.
"""

import unicodedata
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from pipeline.datasets.own.tables import refuse
from pipeline.storage.tables import image_id, item_id, text_id

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
LONGEST_PATH = 1024  # characters
_CHUNK = 65_536  # vectors in one array, since Arrow counts a list's numbers in 31 bits


class Items(Protocol):
    """What the cells of one modality stand for."""

    def ids(self, rows: pl.DataFrame, column: str) -> dict[str, str]:
        """Item ids by cell, for every cell of the column; raises where a cell stands for nothing."""

    def table(self, wanted: set[str]) -> pa.Table:
        """The items with these ids, as columns of the table of items."""


class TextItems:
    """Cells are the texts themselves; of several spellings of one the shortest stands for all."""

    def __init__(self) -> None:
        self._spellings: dict[str, str] = {}  # by what they have in common

    def ids(self, rows: pl.DataFrame, column: str) -> dict[str, str]:
        """Item ids by text."""
        texts = sorted(rows[column].drop_nulls().unique(), key=lambda text: (len(text), text))
        same = {text: " ".join(unicodedata.normalize("NFC", text).split()) for text in texts}
        return {text: text_id(self._spellings.setdefault(same[text], text)) for text in texts}

    def table(self, wanted: set[str]) -> pa.Table:
        """The texts."""
        texts = {text_id(text): text for text in self._spellings.values()}
        ids = sorted(wanted & texts.keys())
        return _table("text", ids, text=[texts[item] for item in ids])


class ImageItems:
    """Cells are paths of images; `files` holds these by their path in the table's folder."""

    def __init__(self, files: dict[str, Path]) -> None:
        # In the store a file is named by its sha256. Before download, paths tell files apart.
        self._files = {name: str(path) if path.suffix else path.name for name, path in files.items()}

    def ids(self, rows: pl.DataFrame, column: str) -> dict[str, str]:
        """Item ids by path."""
        cells = rows[column].drop_nulls().unique()
        return {cell: image_id(self._files[str(PurePosixPath(cell))]) for cell in cells}

    def table(self, wanted: set[str]) -> pa.Table:
        """The images."""
        files = {image_id(sha256): sha256 for sha256 in self._files.values()}
        ids = sorted(wanted & files.keys())
        return _table("image", ids, file=[files[item] for item in ids])


class VectorItems:
    """Cells are ids of vectors: the file's name, the ids and the vectors as `read_vectors` returns them."""

    def __init__(self, file: str, ids: list[str], values: np.ndarray) -> None:
        self._file, self._values = file, values
        self._items = [item_id("vector", row.astype("<f4").tobytes()) for row in values]
        self._item_of = dict(zip(ids, self._items, strict=True))

    def ids(self, rows: pl.DataFrame, column: str) -> dict[str, str]:
        """Item ids by the vectors' own ids."""
        cells = set(rows[column].drop_nulls().unique())
        lost = pl.col(column).is_in(list(cells - self._item_of.keys()))
        refuse(rows, column, lost, f"must be an id in {self._file}, got {{got}}")
        return {cell: self._item_of[cell] for cell in cells}

    def table(self, wanted: set[str]) -> pa.Table:
        """The vectors."""
        row_of = {item: row for row, item in enumerate(self._items) if item in wanted}
        rows, width = np.fromiter(row_of.values(), np.int64, len(row_of)), self._values.shape[1]
        chunks = [
            pa.ListArray.from_arrays(
                pa.array(np.arange(len(chunk) + 1, dtype=np.int32) * width),
                pa.array(self._values[chunk].ravel()),
            )
            for chunk in np.split(rows, range(_CHUNK, len(rows), _CHUNK))
        ]
        return _table("vector", list(row_of), vector=pa.chunked_array(chunks, pa.list_(pa.float32())))


def _table(modality: str, ids: list[str], **columns: object) -> pa.Table:
    return pa.table({"item_id": ids, "modality": [modality] * len(ids), **columns})


def find_images(rows: pl.DataFrame, columns: list[str], folder: Path) -> dict[str, Path]:
    """The images that the cells of columns name, by their path in the tables' folder."""
    images: dict[str, Path] = {}
    root = folder.resolve()
    for column in columns:
        wrong: dict[str, list[str]] = {}
        for cell in rows[column].drop_nulls().unique(maintain_order=True):
            if problem := _path_problem(cell, root):
                wrong.setdefault(problem, []).append(cell)
            else:
                path = str(PurePosixPath(cell))  # `./a//b.png` is a/b.png
                images[path] = root / path
        for problem, cells in wrong.items():
            refuse(rows, column, pl.col(column).is_in(cells), problem)
    return images


def _path_problem(cell: str, root: Path) -> str | None:
    """What is wrong with the path of an image; None where nothing is."""
    inside = "must be a path relative to the table and inside its folder, got {got}"
    if "://" in cell:
        return f"{inside}; download the image first"
    if "\0" in cell or len(cell) > LONGEST_PATH:
        return f"{inside}; is this the right column?"
    path = PurePosixPath(cell)
    if path.is_absolute() or ".." in path.parts:
        return inside
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return f"must be a {', '.join(IMAGE_SUFFIXES)} file, got {{got}}"
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
    advice = "; write / between folders" if "\\" in cell else ""
    return f"must be an existing file in the table's folder, got {{got}}{advice}"
