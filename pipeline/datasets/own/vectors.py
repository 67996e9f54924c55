"""Vectors that you have already, by their ids: one file, and of it no more in memory than is asked for.

.parquet      columns `id` (text or whole numbers) and `embedding` (lists of numbers, all of one length)
.safetensors  a tensor `embeddings`, (n, width), float16, float32 or float64; ids in the metadata under `ids`,
              as a JSON list of n texts, or in a file beside it
.npy          an array (n, width) of floats; ids in a file beside it

The file beside `NAME.npy` is `NAME.ids.txt`: UTF-8, one id a line, in the order of the rows. Nothing is
unpickled. Of vectors that no comparison names, only the ids are looked at.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pal.errors import shorten
from pipeline import paths
from pipeline.errors import PipelineError
from pipeline.storage import raw

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = (".parquet", ".safetensors", ".npy")
FOLDER = "vectors/"  # before their names, which may be a table's too
_BATCH = 8192  # rows read at once
_FLOATS = {"F16", "F32", "F64"}
_KEY = "own.vectors"

# Hands over rows by their places, (rows, width).
Rows = Callable[["np.ndarray"], "np.ndarray"]


@dataclass(frozen=True)
class Vectors:
    """Vectors by id.

    Args:
        name: The file they are from, for messages.
        ids: Their ids; which row each has is its place.
        values: (len(ids), width), float32.
    """

    name: str
    ids: list[str]
    values: "np.ndarray"


def find(source: str | None) -> dict[str, Path]:
    """The files that `own.vectors` names: that of the vectors, and that of the ids where there is one.

    Raises:
        PipelineError: If it names none.
    """
    if source is None:
        raise PipelineError(
            f"{_KEY} in {paths.PARAMS} must name a {', '.join(SUFFIXES)} file, since own.prepare says "
            "vector, got null; set it"
        )
    path = raw.find_files(source, f"{_KEY} in {paths.PARAMS}", SUFFIXES)
    if len(path) > 1:
        raise PipelineError(
            f"{_KEY} in {paths.PARAMS} must name one file, got a folder with {len(path)} of them"
        )
    ids = path[0].with_suffix(".ids.txt")
    return {f"{FOLDER}{file.name}": file for file in (path[0], ids) if file.is_file()}


def read(files: dict[str, Path], wanted: set[str]) -> Vectors:
    """Read the vectors that are asked for.

    Args:
        files: What `find` found, where it lies now.
        wanted: Their ids; those that the file has not are left out.

    Returns:
        In the order of the file.

    Raises:
        PipelineError: If the file is damaged, names an id twice, or a vector is not finite.
    """
    import numpy as np

    path = next(path for name, path in files.items() if not name.endswith(".ids.txt"))
    name = next(name for name in files if not name.endswith(".ids.txt")).removeprefix(FOLDER)
    beside = files.get(FOLDER + Path(name).with_suffix(".ids.txt").name)
    opened = {".parquet": _parquet, ".safetensors": _safetensors, ".npy": _npy}[Path(name).suffix]
    with _readable(name), opened(name, path, beside) as (ids, rows):
        _check_ids(name, ids)
        places = np.array([place for place, id_ in enumerate(ids) if id_ in wanted], np.int64)
        with np.errstate(over="ignore"):
            values = rows(places).astype(np.float32, copy=False)
    kept = [ids[place] for place in places]
    if not (finite := np.isfinite(values).all(axis=1)).all():
        bad = int(np.flatnonzero(~finite)[0])
        raise PipelineError(
            f"the vector {shorten(kept[bad])} in {name} must be finite in float32, got NaN or infinity"
        )
    return Vectors(name, kept, values)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    import pyarrow as pa
    from safetensors import SafetensorError

    try:
        yield
    except PipelineError:
        raise
    except (pa.ArrowException, SafetensorError, OSError, ValueError, EOFError, OverflowError) as error:
        reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")[:120]
        kind = Path(name).suffix
        raise PipelineError(f"{name} is damaged or no {kind} file ({reason}); export it again") from None


def _check_ids(name: str, ids: list[Any]) -> None:
    """Hold ids to being texts, all different, at least one."""
    if not ids:
        raise PipelineError(f"{name} must hold at least one vector, got none")
    seen: set[str] = set()
    for place, id_ in enumerate(ids, 1):
        if type(id_) is not str or not id_:
            raise PipelineError(f"the id of vector {place:,} of {name} must be a text, got {shorten(id_)}")
        if id_ in seen:
            raise PipelineError(
                f"{name} must name each id once, got {shorten(id_)} again as vector {place:,}"
            )
        seen.add(id_)


def _check_shape(name: str, shape: tuple[int, ...], ids: list[str]) -> None:
    if len(shape) != 2 or not shape[1]:
        raise PipelineError(f"{name} must hold an array of vectors, (n, width), got one of shape {shape}")
    if shape[0] != len(ids):
        raise PipelineError(
            f"{name} must have one id a vector, got {len(ids):,} ids for {shape[0]:,} vectors"
        )


def _ids_beside(name: str, path: Path | None) -> list[str]:
    """The lines of the file of ids."""
    expected = Path(name).with_suffix(".ids.txt").name
    if path is None:
        raise PipelineError(
            f"{name} must have a file {expected} beside it, one id a line in the order of its rows, got none"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise PipelineError(f"{expected} must be UTF-8; save it as UTF-8") from None
    return text.removesuffix("\n").split("\n") if text else []


@contextmanager
def _npy(name: str, path: Path, beside: Path | None) -> Iterator[tuple[list[str], Rows]]:
    import numpy as np

    ids = _ids_beside(name, beside)
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # np.load takes other formats too
        held = "" if array.dtype.kind == "f" else str(array.dtype)
    except ValueError as error:
        if "Python objects" not in str(error):
            raise
        held = "Python objects (a pickle)"
    if held:
        raise PipelineError(f"{name} must hold an array of floats, got one of {held}; save it as float32")
    _check_shape(name, array.shape, ids)
    yield ids, lambda places: array[places]


@contextmanager
def _safetensors(name: str, path: Path, beside: Path | None) -> Iterator[tuple[list[str], Rows]]:
    import numpy as np
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        if "embeddings" not in file.keys():  # noqa: SIM118 - it is no dict
            raise PipelineError(
                f"{name} must hold a tensor `embeddings`, got {shorten(', '.join(file.keys()) or 'none')}"
            )
        tensor, listed = file.get_slice("embeddings"), (file.metadata() or {}).get("ids")
        if tensor.get_dtype() not in _FLOATS:
            raise PipelineError(
                f"the tensor `embeddings` in {name} must be one of {', '.join(sorted(_FLOATS))}, "
                f"got {tensor.get_dtype()}"
            )
        ids = _ids_beside(name, beside) if listed is None else _json_ids(name, listed)
        _check_shape(name, tuple(tensor.get_shape()), ids)

        def rows(places: "np.ndarray") -> "np.ndarray":
            parts = [np.empty((0, tensor.get_shape()[1]), np.float32)]
            for start in range(0, len(ids), _BATCH):
                stop = min(start + _BATCH, len(ids))
                here = places[(places >= start) & (places < stop)] - start
                if len(here):
                    parts.append(tensor[start:stop][here].astype(np.float32))
            return np.concatenate(parts)

        yield ids, rows


def _json_ids(name: str, text: str) -> list[str]:
    ids = json.loads(text)
    if not isinstance(ids, list):
        raise PipelineError(f"`ids` in the metadata of {name} must be a JSON list, got {shorten(ids)}")
    return ids


@contextmanager
def _parquet(name: str, path: Path, beside: Path | None) -> Iterator[tuple[list[str], Rows]]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import types

    with pq.ParquetFile(path, pre_buffer=False) as file:  # or all of it is read ahead
        names = file.schema_arrow.names
        for column in ("id", "embedding"):
            if names.count(column) != 1:
                raise PipelineError(
                    f"{name} must have one column {column}, got {names.count(column)}; "
                    f"it has {', '.join(names) or 'none'}"
                )
        kind = file.schema_arrow.field("embedding").type
        listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        if not listed or not (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)):
            raise PipelineError(f"embedding in {name} must hold lists of numbers, got {kind}")
        key = file.schema_arrow.field("id").type
        key = key.value_type if types.is_dictionary(key) else key
        if not (types.is_string(key) or types.is_large_string(key) or types.is_integer(key)):
            raise PipelineError(f"id in {name} must hold text or whole numbers, got {key}")
        ids = file.read(columns=["id"]).column("id").cast(pa.string()).to_pylist()
        yield ids, lambda places: _from_batches(name, file, places)


def _from_batches(name: str, file: Any, places: "np.ndarray") -> "np.ndarray":
    """Vectors at places, a batch of rows at a time."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    parts, start, width = [], 0, None
    for batch in file.iter_batches(_BATCH, columns=["embedding"]):
        here = places[(places >= start) & (places < start + len(batch))] - start
        lists = batch.column(0).take(pa.array(here))
        lengths = np.array(pc.list_value_length(lists).fill_null(0), np.int64)
        width = int(lengths[0]) if width is None and len(lengths) else width
        if len(lengths) and ((lengths != width).any() or not width):
            at = int(np.flatnonzero((lengths != width) | (lengths == 0))[0])
            raise PipelineError(
                f"vector {start + int(here[at]) + 1:,} of {name} must have {width or 'some'} numbers, as the "
                f"first, got {int(lengths[at])}"
            )
        values = lists.flatten().cast(pa.float32(), safe=False)
        if values.null_count:
            raise PipelineError(f"{name} must have a number in every place of a vector, got an empty one")
        parts.append(values.to_numpy(zero_copy_only=False).reshape(len(lists), width or 0))
        start += len(batch)
    kept = [part for part in parts if len(part)]
    return np.concatenate(kept) if kept else np.empty((0, 0), np.float32)
