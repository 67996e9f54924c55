"""Embeddings on disk: Parquet shards of item_id and vector, the encoder named in the schema's metadata.

Vectors are a fixed-size *binary* column, little-endian, uncompressed, without dictionary or statistics:
Parquet has no fixed-size list, and its list column is many times slower to write and to read. `read` gives
them back as one array; other tools see bytes, and `dim` and `dtype` in the metadata say how to read them.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.files import new_file

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

KEY = b"pal"
PATTERN = "shard-*.parquet"


@dataclass(frozen=True)
class Embedder:
    """Which encoder made vectors: what stands in every shard's metadata.

    Args:
        encoder: Its name; `none` where items were vectors already.
        weights_sha256: Hash of its weights; empty where it has none.
        files_sha256: Hash over its weights, configuration and tokeniser.
        dim: Width of the vectors.
        dtype: float32 or float16, as stored.
        preprocessing: In words.
    """

    encoder: str
    weights_sha256: str
    files_sha256: str
    dim: int
    dtype: str
    preprocessing: str


def write(path: Path, ids: list[str], vectors: "np.ndarray", embedder: Embedder) -> None:
    """Write one shard.

    Args:
        path: Where.
        ids: Item ids, one per row.
        vectors: (len(ids), dim) float array; converted to the embedder's dtype.
        embedder: What made them.

    Raises:
        PipelineError: If a vector is not finite, in the dtype that it is stored in.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    stored = np.ascontiguousarray(vectors, dtype=np.dtype(embedder.dtype).newbyteorder("<"))
    if not np.isfinite(stored).all():
        row = int(np.flatnonzero(~np.isfinite(stored).all(axis=1))[0])
        raise PipelineError(
            f"the embedding of item {ids[row]} must be finite in {embedder.dtype}, got NaN or infinity"
        )
    width = embedder.dim * stored.dtype.itemsize
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(ids), [None, pa.py_buffer(stored.reshape(-1).view(np.uint8))]
    )
    schema = pa.schema(
        [
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("embedding", pa.binary(width), nullable=False),
        ],
        metadata={KEY: json.dumps(asdict(embedder), sort_keys=True).encode()},
    )
    table = pa.Table.from_arrays([pa.array(ids, pa.string()), column], schema=schema)
    with new_file(path) as temporary:
        pq.write_table(
            table, temporary, compression="none", use_dictionary=False, write_statistics=False,
            data_page_size=8 << 20, row_group_size=65_536,
        )  # fmt: skip


def read(path: Path) -> tuple[list[str], "np.ndarray", Embedder]:
    """Read one shard: ids, vectors as (rows, dim) in their stored dtype, and what made them.

    Raises:
        PipelineError: If the file is damaged or no shard.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, memory_map=False, partitioning=None)
        table.validate(full=True)
        embedder = Embedder(**json.loads(table.schema.metadata[KEY]))
        vectors = _as_array(table["embedding"], embedder)
        ids = table["item_id"].to_pylist()
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise PipelineError(f"{path} is not a whole shard of embeddings ({reason})") from None
    return ids, vectors, embedder


def read_folder(folder: Path, made_by: str) -> tuple[list[str], "np.ndarray", Embedder]:
    """Read all shards of a folder, in the order of their names.

    Raises:
        PipelineError: If there are none, or one is damaged; `made_by` names the stage to run again.
    """
    import numpy as np

    paths = sorted(folder.glob(PATTERN))
    if not paths:
        raise PipelineError(f"{folder} holds no embeddings; run `dvc repro {made_by}`")
    try:
        parts = [read(path) for path in paths]
    except PipelineError as error:
        raise PipelineError(f"{error}; run `dvc repro -f {made_by}`") from None
    ids = [item for part in parts for item in part[0]]
    return ids, np.concatenate([part[1] for part in parts]), parts[0][2]


def as_lists(path: Path) -> "pa.Table":
    """A shard with `embedding` as a fixed-size list, for other tools; the vectors are not copied."""
    import pyarrow as pa

    ids, vectors, _ = read(path)
    values = pa.array(vectors.reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(values, vectors.shape[1])
    return pa.table({"item_id": ids, "embedding": lists})


def _as_array(column: "pa.ChunkedArray", embedder: Embedder) -> "np.ndarray":
    import numpy as np

    dtype = np.dtype(embedder.dtype).newbyteorder("<")
    if column.type.byte_width != embedder.dim * dtype.itemsize:
        raise ValueError(f"vectors of {column.type.byte_width} bytes do not match dim {embedder.dim}")
    chunks: list[Any] = [
        np.frombuffer(
            chunk.buffers()[1], dtype, len(chunk) * embedder.dim, chunk.offset * column.type.byte_width
        )
        for chunk in column.chunks
        if len(chunk)
    ]
    flat = np.concatenate(chunks) if chunks else np.empty(0, dtype)
    return flat.reshape(-1, embedder.dim)
