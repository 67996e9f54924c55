"""Shards of embeddings beside plain npy, and beside Parquet's fixed-size lists as pyarrow writes them.

Vectors of MiniLM's shape, and of CLIP-H's in half precision, 150 MB each, with their ids: written (and
synced) and read from the page cache on one thread. npy holds the vectors alone. Every way in turn, the
fastest of at least four rounds that were not disturbed (benchmarks/rounds.py). A minute on a quiet core.
Lists cost by the element, so twice as much a byte in float16.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.rounds import in_turns, peak
from benchmarks.table import Row, Section, show
from pipeline.storage import embeddings

SHAPES = ((100_000, 384, "float32"), (75_000, 1_024, "float16"))  # vectors, their width, as stored
REACH = {"write": 0.3, "read": 0.7}  # times npy's throughput
OVER_LISTS = 5.0  # times the throughput of fixed-size lists, both ways


def measure() -> Section:
    """Writing and reading, on one thread; torch's setting is put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        peak()
        rows = [row for shape in SHAPES for row in _rows(*shape)]
    finally:
        torch.set_num_threads(threads)
    about = {
        "threads": 1,
        "best float32 matrix peak": f"{peak.best:.0f} GFLOP/s",
    }
    return Section("Storage of embeddings, beside npy and Parquet's lists", about, rows)


def _rows(n: int, dim: int, dtype: str) -> list[Row]:
    vectors = np.random.default_rng(0).normal(size=(n, dim)).astype(dtype)
    ids = [f"{row:032x}" for row in range(n)]
    embedder = embeddings.Embedder("random", "", "", dim, dtype, "as drawn")
    shape = f"{n:,} x {dim:,} {dtype}"
    with tempfile.TemporaryDirectory() as folder:
        shard, npy, lists = (Path(folder) / name for name in ("shard.parquet", "a.npy", "lists.parquet"))
        ways = {
            "write": (
                lambda: embeddings.write_shard(shard, ids, vectors, embedder),
                lambda: _synced(npy, lambda: np.save(npy, vectors)),
                lambda: _synced(lists, lambda: _write_lists(lists, ids, vectors)),
            ),
            "read": (
                lambda: embeddings.read_shard(shard),
                lambda: np.load(npy),
                lambda: _read_lists(lists, dim),
            ),
        }
        found = {what: _compare(what, *parts, size=vectors.nbytes) for what, parts in ways.items()}
    return [replace(row, what=f"{row.what}, {shape}") for rows in found.values() for row in rows]


def _compare(
    what: str, ours: Callable[[], object], npy: Callable[[], object], lists: Callable[[], object], size: int
) -> list[Row]:
    found = in_turns(ours, npy, lists)
    shard, plain, listed = (size / seconds / 1e6 for seconds in found.seconds)
    unjudged = "" if found.quiet else "the machine was disturbed"
    return [
        Row(f"shards, {what}", shard, "MB/s", note=f"npy {plain:,.0f}, lists {listed:,.0f}; {found.note}"),
        Row(f"shards over npy, {what}", shard / plain, "x", at_least=REACH[what], unjudged=unjudged),
        Row(f"shards over lists, {what}", shard / listed, "x", at_least=OVER_LISTS, unjudged=unjudged),
    ]


def _synced(path: Path, write: Callable[[], object]) -> None:
    """Write, and wait until it is on the disk, as shards do."""
    write()
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_lists(path: Path, ids: list[str], vectors: np.ndarray) -> None:
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    pq.write_table(pa.table({"item_id": ids, "embedding": values}), path)


def _read_lists(path: Path, dim: int) -> np.ndarray:
    column = pq.read_table(path)["embedding"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)


if __name__ == "__main__":
    show(measure())
