"""Items of a log: texts as they are, pictures by their bytes, vectors by their numbers.

The same content is one item, however often and under however many names it occurs: texts that differ in white
space or in Unicode's form alone are one, since encoders can hardly tell them apart. A log may come from
somebody else, so no path of a picture leads out of its folder: not an absolute one, not `..`, not a link.

Vectors are users' own embeddings by their ids, in one file, of which only those that are used are kept:

.parquet      columns `id` (text or whole numbers) and `embedding` (lists of numbers, all of one length)
.safetensors  a tensor `embeddings`, (n, width), float16, float32 or float64; ids in the metadata under `ids`,
              as a JSON list of n texts, or in a file beside it
.npy          an array (n, width) of floats; ids in a file beside it

The file beside `NAME.npy` is `NAME.ids.txt`: UTF-8, one id a line, in the order of the rows. Nothing is
unpickled. Of vectors that no comparison names, only the ids are checked.
"""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types
from safetensors import SafetensorError, safe_open

from pal.encoders.vector_store import image_id, item_id, text_id
from pal.errors import PalError, reason, shorten
from pal.logs.shapes import Log
from pal.logs.tables import IMAGE_SUFFIXES

SIDES = ("prompt", "chosen", "rejected")
LONGEST_PATH = 1024  # characters
VECTOR_SUFFIXES = (".parquet", ".safetensors", ".npy")
VECTOR_FLOATS = ("F16", "F32", "F64")
FOLDER = "own.vectors/"  # before the names of files of vectors, which may be a table's too
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


# All ids of a file of vectors, the places of the wanted ones, and the vectors there, (places, width).
Vectors = tuple[list[str], np.ndarray, np.ndarray]
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


def find_vectors(path: Path) -> dict[str, Path]:
    """A file of vectors, and that of its ids where there is one, by their names.

    Raises:
        PalError: If there is no such file.
    """
    if not path.is_file() or path.suffix not in VECTOR_SUFFIXES:
        raise PalError(
            f"vectors must be in a {', '.join(VECTOR_SUFFIXES)} file that exists, got {str(path)!r}"
        )
    ids = path.with_suffix(".ids.txt")
    return {f"{FOLDER}{file.name}": file for file in (path, ids) if file.is_file()}


def read_vectors(files: dict[str, Path], wanted: set[str]) -> tuple[str, list[str], np.ndarray]:
    """Read the vectors whose ids are wanted from the files that `find_vectors` returns.

    Returns the file's name, the ids in its order, and the vectors, (ids, width) in float32.
    """
    given, path = next((name, path) for name, path in files.items() if not name.endswith(".ids.txt"))
    name = given.removeprefix(FOLDER)
    beside = files.get(FOLDER + Path(name).with_suffix(".ids.txt").name)
    suffix = Path(name).suffix
    read = {".parquet": _read_parquet, ".safetensors": _read_safetensors, ".npy": _read_npy}[suffix]
    try:
        with np.errstate(over="ignore"):
            ids, places, values = read(name, path, beside, wanted)
            values = values.astype(np.float32, copy=False)
    except PalError:
        raise
    except (pa.ArrowException, SafetensorError, OSError, ValueError, EOFError, OverflowError) as error:
        message = f"{name} is damaged or no {suffix} file ({reason(error)}); export it again"
        raise PalError(message, file=name) from None
    used = [ids[place] for place in places]
    if not (finite := np.isfinite(values).all(axis=1)).all():
        bad = int(np.flatnonzero(~finite)[0])
        raise PalError(
            f"the vector {shorten(used[bad])} in {name} must be finite in float32, got NaN or infinity",
            file=name,
            row=int(places[bad]) + 1,
        )
    return name, used, values


def _places(name: str, ids: list[Any], wanted: set[str], shape: tuple[int, ...] = ()) -> np.ndarray:
    """Where the wanted ids stand; ids must be texts, all different, one for each vector of an array."""
    if shape:
        if len(shape) != 2 or not shape[1]:
            raise PalError(f"{name} must hold an array of vectors, (n, width), got one of shape {shape}")
        if shape[0] != len(ids):
            got = f"{len(ids):,} ids for {shape[0]:,} vectors"
            raise PalError(f"{name} must have one id a vector, got {got}")
    if not ids:
        raise PalError(f"{name} must hold at least one vector, got none", file=name)
    seen: set[str] = set()
    for row, id_ in enumerate(ids, 1):
        problem = ""
        if type(id_) is not str or not id_:
            problem = f"the id of vector {row:,} of {name} must be a text, got {shorten(id_)}"
        elif id_ in seen:
            problem = f"{name} must name each id once, got {shorten(id_)} again as vector {row:,}"
        if problem:
            raise PalError(problem, file=name, row=row)
        seen.add(id_)
    return np.array([place for place, id_ in enumerate(ids) if id_ in wanted], np.int64)


def _ids_beside(name: str, path: Path | None) -> list[str]:
    """The lines of the file of ids."""
    expected = Path(name).with_suffix(".ids.txt").name
    if path is None:
        order = "one id a line in the order of its rows"
        raise PalError(f"{name} must have a file {expected} beside it, {order}, got none")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise PalError(f"{expected} must be UTF-8; save it as UTF-8", file=expected) from None
    return text.removesuffix("\n").split("\n") if text else []


def _read_npy(name: str, path: Path, beside: Path | None, wanted: set[str]) -> Vectors:
    ids = _ids_beside(name, beside)
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # np.load takes other formats too
        wrong = "" if array.dtype.kind == "f" else str(array.dtype)
    except ValueError as error:
        if "Python objects" not in str(error):
            raise
        wrong = "Python objects (a pickle)"
    if wrong:
        raise PalError(f"{name} must hold an array of floats, got one of {wrong}; save it as float32")
    places = _places(name, ids, wanted, array.shape)
    return ids, places, array[places]


def _read_safetensors(name: str, path: Path, beside: Path | None, wanted: set[str]) -> Vectors:
    with safe_open(path, framework="numpy") as file:
        keys = list(file.keys())
        if "embeddings" not in keys:
            got = shorten(", ".join(keys) or "none")
            raise PalError(f"{name} must hold a tensor `embeddings`, got {got}")
        tensor, ids = file.get_slice("embeddings"), (file.metadata() or {}).get("ids")
        if (kind := tensor.get_dtype()) not in VECTOR_FLOATS:
            allowed = ", ".join(VECTOR_FLOATS)
            raise PalError(f"the tensor `embeddings` in {name} must be one of {allowed}, got {kind}")
        ids = _ids_beside(name, beside) if ids is None else json.loads(ids)
        if not isinstance(ids, list):
            raise PalError(f"`ids` in the metadata of {name} must be a JSON list, got {shorten(ids)}")
        shape = tuple(tensor.get_shape())
        places = _places(name, ids, wanted, shape)
        return ids, places, file.get_tensor("embeddings")[places]


def _read_parquet(name: str, path: Path, beside: Path | None, wanted: set[str]) -> Vectors:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        for column in ("id", "embedding"):
            if (count := schema.names.count(column)) != 1:
                problem = (
                    f"must have one column {column}, got {count}; it has {', '.join(schema.names) or 'none'}"
                )
                raise PalError(f"{name} {problem}", file=name, column=column)
        kind, key = schema.field("embedding").type, schema.field("id").type
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        if not is_list or not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
            raise PalError(f"embedding in {name} must hold lists of numbers, got {kind}")
        key = key.value_type if types.is_dictionary(key) else key
        if not (types.is_string(key) or types.is_large_string(key) or types.is_integer(key)):
            raise PalError(f"id in {name} must hold text or whole numbers, got {key}")
        ids = file.read(columns=["id"]).column("id").cast(pa.string()).to_pylist()
        places = _places(name, ids, wanted)
        lists = file.read(columns=["embedding"]).column("embedding").take(pa.array(places)).combine_chunks()
    lengths = np.array(pc.list_value_length(lists).fill_null(0), np.int64)
    width = int(lengths[0]) if len(lengths) else 0
    if (wrong := np.flatnonzero((lengths != width) | (lengths == 0))).size:
        row = int(places[wrong[0]]) + 1
        problem = f"must have {width or 'some'} numbers, as the first, got {lengths[wrong[0]]}"
        raise PalError(f"vector {row:,} of {name} {problem}", file=name, row=row)
    values = lists.flatten().cast(pa.float32(), safe=False)
    if values.null_count:
        raise PalError(f"{name} must have a number in every place of a vector, got an empty one")
    return ids, places, values.to_numpy(zero_copy_only=False).reshape(len(lists), width)
