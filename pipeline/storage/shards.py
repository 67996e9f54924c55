"""Embeddings on disk: Parquet shards of item_id and vector, the encoder named in the schema's metadata.

Both are fixed-size *binary* columns, little-endian, uncompressed, without dictionary or statistics: Parquet
has no fixed-size list, and its list column is many times slower to write and to read. A shard is one row
group, so that reading it copies nothing. `read` gives arrays; other tools see bytes, and `dim` and `dtype` in
the metadata say how to read them, as `as_lists` does.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pal.files import new_file
from pipeline.errors import PipelineError
from pipeline.storage import manifests

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

KEY = b"pal"
PATTERN = "shard-*.parquet"
ID_BYTES = 16
READ_AHEAD = 1 << 16  # bytes


@dataclass(frozen=True)
class Embedder:
    """Which encoder made vectors, and how: what stands in every shard's metadata.

    Args:
        encoder: Its name; `none` where items were vectors already.
        weights_sha256: Hash of its weights; empty where it has none, or untrained ones.
        files_sha256: Hash over its weights, configuration and tokeniser.
        dim: Width of the vectors.
        dtype: float32 or float16, as stored.
        preprocessing: In words.
        engine: What ran the network: torch, compile or onnx.
        precision: What the network computed in.
    """

    encoder: str
    weights_sha256: str
    files_sha256: str
    dim: int
    dtype: str
    preprocessing: str
    engine: str = "torch"
    precision: str = "float32"


def packed(ids: "list[str] | np.ndarray") -> "np.ndarray":
    """Item ids as an array of 32 hex digits each, which sorts and searches as the texts do.

    Raises:
        PipelineError: If an id is not 32 hex digits.
    """
    import numpy as np

    try:
        array = np.asarray(ids, dtype="S") if len(ids) else np.empty(0, "S32")  # S32 would cut longer ones
        text = array.tobytes().decode("ascii")
        whole = array.dtype.itemsize == 2 * ID_BYTES and bytes.fromhex(text).hex() == text
    except ValueError:
        whole = False
    if not whole:
        raise PipelineError("item ids must be 32 hex digits; make them with pipeline.storage.tables.item_id")
    return array


def unpacked(ids: "np.ndarray") -> list[str]:
    """Item ids as texts."""
    return ids.astype("U32").tolist()


def halves(ids: "np.ndarray") -> "np.ndarray":
    """The first 64 bits of each id (`packed`) as a number, which sorts as the ids do."""
    import numpy as np

    return np.frombuffer(_bytes_from(ids), ">u8")[::2].astype(np.uint64)


def write(path: Path, ids: "list[str] | np.ndarray", vectors: "np.ndarray", embedder: Embedder) -> None:
    """Write one shard, whole or not at all; see `write_to`."""
    with new_file(path) as out:
        write_to(out, ids, vectors, embedder)


def write_to(
    out: "IO[bytes]", ids: "list[str] | np.ndarray", vectors: "np.ndarray", embedder: Embedder
) -> None:
    """Write one shard into an open file.

    Args:
        out: The file.
        ids: Item ids, one per row.
        vectors: (len(ids), dim) float array; converted to the embedder's dtype.
        embedder: What made them.

    Raises:
        PipelineError: If a vector is not finite, in the dtype that it is stored in.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = packed(ids)
    with np.errstate(over="ignore"):  # what overflows float16 is refused below
        stored = np.ascontiguousarray(vectors, dtype=np.dtype(embedder.dtype).newbyteorder("<"))
    if not _all_finite(stored):
        row = int(np.flatnonzero(~np.isfinite(stored).all(axis=1))[0])
        raise PipelineError(
            f"the embedding of item {names[row].decode()} must be finite in {embedder.dtype}, "
            "got NaN or infinity"
        )
    columns = [
        _binary(_bytes_from(names), ID_BYTES, len(names)),
        _binary(stored.reshape(-1).view(np.uint8), embedder.dim * stored.dtype.itemsize, len(names)),
    ]
    fields = [
        pa.field(name, column.type, nullable=False)
        for name, column in zip(("item_id", "embedding"), columns, strict=True)
    ]
    schema = pa.schema(fields, metadata={KEY: json.dumps(asdict(embedder), sort_keys=True).encode()})
    pq.write_table(
        pa.Table.from_arrays(columns, schema=schema), out, compression="none",
        use_dictionary=False, write_statistics=False, row_group_size=max(1, len(names)),
    )  # fmt: skip


def read(path: Path) -> tuple["np.ndarray", "np.ndarray", Embedder]:
    """Read one shard: ids (`packed`), vectors as (rows, dim) in their stored dtype, and what made them.

    The vectors are a view of what was read.

    Raises:
        PipelineError: If the file is damaged or no shard.
    """
    import numpy as np

    with _opened(path) as table:
        embedder = Embedder(**json.loads(table.schema.metadata[KEY]))
        dtype = np.dtype(embedder.dtype).newbyteorder("<")
        vectors = _bytes_of(table["embedding"], embedder.dim * dtype.itemsize).view(dtype)
        ids = _ids(table)
    return ids, vectors.reshape(-1, embedder.dim), embedder


def read_ids(path: Path) -> "np.ndarray":
    """The ids of one shard (`packed`), without its vectors.

    Raises:
        PipelineError: If the file is damaged or no shard.
    """
    with _opened(path, ["item_id"]) as table:
        return _ids(table)


def read_folder(folder: Path, made_by: str) -> tuple["np.ndarray", "np.ndarray", Embedder]:
    """Read all shards of a folder, in the order of their names.

    Raises:
        PipelineError: If there are none, or one is damaged; `made_by` names the stage to run again.
    """
    import numpy as np

    manifests.check_folder(folder, PATTERN, made_by)
    paths = sorted(folder.glob(PATTERN))
    if not paths:
        raise PipelineError(f"{folder} holds no embeddings; run `dvc repro {made_by}`")
    try:
        parts = [read(path) for path in paths]
    except PipelineError as error:
        raise PipelineError(f"{error}; run `dvc repro -f {made_by}`") from None
    if len(parts) == 1:
        return parts[0]
    return (
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        parts[0][2],
    )


def as_lists(path: Path) -> "pa.Table":
    """A shard with `item_id` as text and `embedding` as a fixed-size list, for other tools."""
    import pyarrow as pa

    ids, vectors, _ = read(path)
    values = pa.array(vectors.reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(values, vectors.shape[1])
    return pa.table({"item_id": unpacked(ids), "embedding": lists})


@contextmanager
def _opened(path: Path, columns: list[str] | None = None) -> Iterator["pa.Table"]:
    """A shard's table; what is wrong with it, here or in the block, is one sentence."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Through a small buffer: a column read whole is copied twice over memory that no cache holds.
        with (
            pa.OSFile(os.fspath(path)) as source,
            pq.ParquetFile(source, buffer_size=READ_AHEAD, pre_buffer=False) as file,
        ):
            table = file.read(columns, use_threads=False)
        table.validate(full=True)
        yield table
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise PipelineError(f"{path} is not a whole shard of embeddings ({reason})") from None


def _ids(table: "pa.Table") -> "np.ndarray":
    import numpy as np

    return np.frombuffer(_bytes_of(table["item_id"], ID_BYTES).tobytes().hex().encode("ascii"), "S32")


def _bytes_from(ids: "np.ndarray") -> bytes:
    return bytes.fromhex(ids.tobytes().decode("ascii"))


def _all_finite(array: "np.ndarray") -> bool:
    """Whether no number is NaN or infinite: those whose exponent has every bit set.

    By their bits, some rows at a time: numpy's `isfinite` takes ten times as long over float16.
    """
    import numpy as np

    bits, infinite = {2: (np.uint16, 0x7C00), 4: (np.uint32, 0x7F80_0000)}[array.dtype.itemsize]
    magnitudes = array.reshape(-1).view(bits)
    step = 1 << 19
    most = bits(np.iinfo(bits).max >> 1)  # without the sign
    return all(
        (magnitudes[start : start + step] & most).max() < infinite
        for start in range(0, len(magnitudes), step)
    )


def _binary(data: "bytes | np.ndarray", width: int, rows: int) -> "pa.FixedSizeBinaryArray":
    import pyarrow as pa

    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), rows, [None, pa.py_buffer(data)])


def _bytes_of(column: "pa.ChunkedArray", width: int) -> "np.ndarray":
    """A fixed-size binary column's bytes; not copied where it is in one piece."""
    import numpy as np

    if column.type.byte_width != width:
        raise ValueError(f"entries of {column.type.byte_width} bytes where {width} are told")
    chunks = [
        np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, chunk.offset * width)
        for chunk in column.chunks
        if len(chunk)
    ]
    if len(chunks) == 1:
        return chunks[0]
    return np.concatenate(chunks) if chunks else np.empty(0, np.uint8)
