"""Users' own embeddings by their ids: one file, of which only the vectors that are used are kept.

.parquet      columns `id` (text or whole numbers) and `embedding` (lists of numbers, all of one length)
.safetensors  a tensor `embeddings`, (n, width), float16, float32 or float64; ids in the metadata under `ids`,
              as a JSON list of n texts, or in a file beside it
.npy          an array (n, width) of floats; ids in a file beside it

The file beside `NAME.npy` is `NAME.ids.txt`: UTF-8, one id a line, in the order of the rows. Nothing is
unpickled. Of vectors that no comparison names, only the ids are checked.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types
from safetensors import SafetensorError, safe_open

from pal.errors import PalError, reason, shorten

SUFFIXES = (".parquet", ".safetensors", ".npy")
FOLDER = "own.vectors/"  # before their names, which may be a table's too
_FLOATS = ("F16", "F32", "F64")

# All ids, the places of the wanted ones, and the vectors there, (places, width).
Read = tuple[list[str], np.ndarray, np.ndarray]


def find_vectors(path: Path) -> dict[str, Path]:
    """A file of vectors, and that of its ids where there is one, by their names.

    Raises:
        PalError: If there is no such file.
    """
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise PalError(f"vectors must be in a {', '.join(SUFFIXES)} file that exists, got {str(path)!r}")
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


def _read_npy(name: str, path: Path, beside: Path | None, wanted: set[str]) -> Read:
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


def _read_safetensors(name: str, path: Path, beside: Path | None, wanted: set[str]) -> Read:
    with safe_open(path, framework="numpy") as file:
        keys = list(file.keys())
        if "embeddings" not in keys:
            got = shorten(", ".join(keys) or "none")
            raise PalError(f"{name} must hold a tensor `embeddings`, got {got}")
        tensor, ids = file.get_slice("embeddings"), (file.metadata() or {}).get("ids")
        if (kind := tensor.get_dtype()) not in _FLOATS:
            allowed = ", ".join(_FLOATS)
            raise PalError(f"the tensor `embeddings` in {name} must be one of {allowed}, got {kind}")
        ids = _ids_beside(name, beside) if ids is None else json.loads(ids)
        if not isinstance(ids, list):
            raise PalError(f"`ids` in the metadata of {name} must be a JSON list, got {shorten(ids)}")
        shape = tuple(tensor.get_shape())
        places = _places(name, ids, wanted, shape)
        return ids, places, file.get_tensor("embeddings")[places]


def _read_parquet(name: str, path: Path, beside: Path | None, wanted: set[str]) -> Read:
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
