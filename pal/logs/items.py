"""Items of a log: texts as they are, pictures by their bytes, vectors by their numbers.

The same content is one item, however often and under however many names it occurs: texts that differ in white
space or in Unicode's form alone are one, since encoders can hardly tell them apart. A log may come from
somebody else, so no path of a picture leads out of its folder: not an absolute one, not `..`, not a link.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl

from pal.encoders.vector_store import image_id, item_id, text_id
from pal.logs.shapes import Log

SIDES = ("prompt", "chosen", "rejected")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
LONGEST_PATH = 1024  # characters
BLOCK = 100_000  # texts that are in memory as Python objects


@dataclass(frozen=True)
class Items:
    """The distinct items of one modality.

    Args:
        ids: Their ids, 32 hex digits, ascending.
        contents: Texts as a Series; pictures as a list of paths and bytes; vectors, (items, width) float32.
        files: The sha256 of each picture's bytes.
    """

    ids: np.ndarray
    contents: Any
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


# The items, and the row of each cell among them, by side.
Read = tuple[Items, dict[str, np.ndarray]]


def modality_of(cells: list[pl.Series], stated: str | None, vectors: set[str]) -> str | None:
    """What the cells of a prompt's or of the responses' columns stand for: text, image or vector.

    Args:
        cells: The columns.
        stated: What the user says; None: pictures where every cell is bytes or the path of one, vectors where
            one is the id of a vector, else text.
        vectors: The ids of vectors.

    Returns:
        None where all cells are empty, as where there are no prompts.
    """
    if all(column.null_count() == len(column) for column in cells):
        return None
    if stated or any(column.dtype == pl.Binary for column in cells):
        return stated or "image"
    if vectors and any(column.is_in(list(vectors)).any() for column in cells):
        return "vector"
    is_path = [column.str.contains(r"(?i)\.(jpe?g|png|webp)$") for column in cells]
    return "image" if all(column.all() for column in is_path) else "text"


def read_texts(log: Log, sides: list[str]) -> Read:
    """Texts; of several spellings of one the shortest stands for all."""
    codes, texts = _distinct(pl.concat([log.pairs[side] for side in sides]))
    plain = np.empty((len(texts), 2), ">u8")  # half an id each
    is_plain = np.empty(len(texts), bool)
    for start in range(0, len(texts), BLOCK):
        block = texts[start : start + BLOCK].to_list()
        normal = [" ".join(unicodedata.normalize("NFC", text).split()) for text in block]
        rows = slice(start, start + len(block))
        plain[rows] = _halves([text_id(text) for text in normal])
        is_plain[rows] = [one == other for one, other in zip(block, normal, strict=True)]
    order = np.lexsort(plain.T[::-1])
    new = np.append(True, (plain[order[1:]] != plain[order[:-1]]).any(axis=1))
    group = np.empty(len(texts), np.int32)
    group[order] = new.cumsum(dtype=np.int32) - 1
    chosen = order[new]
    for at in order[~(new & np.append(new[1:], True))].tolist():  # with others of the same group
        other = int(chosen[group[at]])
        chosen[group[at]] = min((other, at), key=lambda row: (len(texts[row]), texts[row]))
    ids = np.ascontiguousarray(plain[chosen])
    for row in np.flatnonzero(~is_plain[chosen]).tolist():
        ids[row] = _halves([text_id(texts[int(chosen[row])])])[0]
    order = np.lexsort(ids.T[::-1])
    row = np.empty(len(ids), np.int32)
    row[order] = np.arange(len(ids), dtype=np.int32)
    by_side = dict(zip(sides, np.split(row[group[codes]], len(sides)), strict=True))
    hexadecimal = np.empty(len(ids), "S32")
    for start in range(0, len(ids), BLOCK):
        block = ids[order[start : start + BLOCK]].tobytes().hex().encode()
        hexadecimal[start : start + BLOCK] = np.frombuffer(block, "S32")
    return Items(hexadecimal, texts.gather(chosen[order])), by_side


def _halves(ids: list[str]) -> np.ndarray:
    """Ids as two numbers each, which sort as they do, in half the memory."""
    return np.frombuffer(bytes.fromhex("".join(ids)), ">u8").reshape(-1, 2)


def _distinct(cells: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """The number of each cell's text, and the texts: by hashes, which are held against the texts."""
    seed = 0
    while True:
        hashes = cells.hash(seed)
        distinct = hashes.unique().sort()
        codes = distinct.search_sorted(hashes)
        at = np.empty(len(distinct), np.int32)
        at[codes.to_numpy()] = np.arange(len(cells), dtype=np.int32)
        texts = cells.gather(at)
        if (texts.gather(codes) == cells).all():
            return codes.to_numpy().astype(np.int32), texts
        seed += 1


def read_pictures(
    log: Log, sides: list[str], pictures: Mapping[str, Path], sha256: Callable[[Path], str]
) -> Read:
    """Pictures by their bytes, or by their paths in the log's folder; see `find_pictures`."""
    content: dict[str, Any] = {}  # by sha256
    rows = {}
    for side in sides:
        cells, codes = log.pairs[side], {}
        for cell in cells.unique(maintain_order=True):
            if isinstance(cell, bytes):
                codes[cell] = hashlib.sha256(cell).hexdigest()
                content.setdefault(codes[cell], cell)
            else:
                path = pictures[str(PurePosixPath(cell))]
                codes[cell] = sha256(path)
                content.setdefault(codes[cell], path)
        rows[side] = cells.replace_strict(list(codes), list(codes.values()), return_dtype=pl.String)
    files = {image_id(sha): sha for sha in content}
    ids = sorted(files)
    row_of = {files[item]: row for row, item in enumerate(ids)}
    found = tuple(files[item] for item in ids)
    items = Items(np.array(ids, "S32"), [content[sha] for sha in found], found)
    return items, {side: _rows(cells, row_of) for side, cells in rows.items()}


def read_vectors_of(log: Log, sides: list[str], name: str, ids: list[str], values: np.ndarray) -> Read:
    """Vectors by their own ids, as `read_vectors` returns them; several of the same numbers are one item."""
    items = [item_id("vector", row.astype("<f4").tobytes()) for row in values]
    at = {item: row for row, item in enumerate(items)}
    ordered = sorted(at)
    row_of = {item: row for row, item in enumerate(ordered)}
    code = {own: row_of[item] for own, item in zip(ids, items, strict=True)}
    for side in sides:
        lost = ~log.pairs[side].is_in(list(code))
        log.refuse(side, lost, f"must be an id in {name}, got {{got}}")
    found = Items(np.array(ordered, "S32"), values[[at[item] for item in ordered]])
    return found, {side: _rows(log.pairs[side], code) for side in sides}


def _rows(cells: pl.Series, row_of: Mapping[str, int]) -> np.ndarray:
    return cells.replace_strict(list(row_of), list(row_of.values()), return_dtype=pl.Int32).to_numpy()


def find_pictures(log: Log, sides: list[str]) -> dict[str, Path]:
    """The pictures that paths name, by their path in the log's folder.

    Raises:
        PalError: If a path leads to no picture there.
    """
    pictures: dict[str, Path] = {}
    root = log.table.folder.resolve()
    for side in sides:
        if log.pairs[side].dtype != pl.String:
            continue
        wrong: dict[str, list[str]] = {}
        for cell in log.pairs[side].drop_nulls().unique(maintain_order=True):
            if problem := _path_problem(cell, root):
                wrong.setdefault(problem, []).append(cell)
            else:
                path = str(PurePosixPath(cell))  # `./a//b.png` is a/b.png
                pictures[path] = root / path
        for problem, cells in wrong.items():
            log.refuse(side, log.pairs[side].is_in(cells), problem)
    return pictures


def _path_problem(cell: str, root: Path) -> str | None:
    """What is wrong with the path of a picture; None where nothing is."""
    inside = "must be a path relative to the log and inside its folder, got {got}"
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
    return f"must be an existing file in the log's folder, got {{got}}{advice}"
