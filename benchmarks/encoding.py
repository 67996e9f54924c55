"""Shards beside plain npy files; for information. Encoding itself is in benchmarks/text.py.

100,000 vectors of width 384 written (and synced) and read as a shard and as npy, from the page cache, in
turns, the fastest of four rounds that were not disturbed (benchmarks/rounds.py). Seconds on a quiet core.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.rounds import SHARE, WANTED, peak
from benchmarks.table import Row, Section, show
from pipeline import shards

NAME = "all-MiniLM-L6-v2"
N_VECTORS, DIM = 100_000, 384


def measure() -> Section:
    """Writing and reading, on one thread; torch's setting is put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        peak()
        rows = _shards()
        peak()
    finally:
        torch.set_num_threads(threads)
    about = {
        "threads": 1,
        "best float32 matrix peak": f"{peak.best:.0f} GFLOP/s",
    }
    return Section("Storage of vectors, beside npy", about, rows)


def _shards() -> list[Row]:
    vectors = np.random.default_rng(0).normal(size=(N_VECTORS, DIM)).astype(np.float32)
    ids = [f"{row:032x}" for row in range(N_VECTORS)]
    embedder = shards.Embedder(NAME, "", "", DIM, "float32", "random")
    with tempfile.TemporaryDirectory() as folder:
        shard, npy = Path(folder) / "shard.parquet", Path(folder) / "vectors.npy"

        def save() -> None:
            with npy.open("wb") as file:
                np.save(file, vectors)
                file.flush()
                os.fsync(file.fileno())

        write = _in_turns(lambda: shards.write(shard, ids, vectors, embedder), save)
        read = _in_turns(lambda: shards.read(shard), lambda: np.load(npy))
    size = vectors.nbytes / 1e6
    rows = []
    for what, ((ours, plain), note) in {"write": write, "read": read}.items():
        beside = f"npy {size / plain:,.0f} MB/s, ratio {plain / ours:.2f}, {note}"
        rows.append(Row(f"shard, {what}", size / ours, "MB/s", note=beside))
    return rows


def _in_turns(*parts: Callable[[], object]) -> tuple[list[float], str]:
    """Fastest seconds of each part, run in turns, over undisturbed rounds; and the peak beside them."""
    rounds: list[tuple[float, list[float]]] = []
    kept: list[tuple[float, list[float]]] = []
    while len(kept) < WANTED and len(rounds) < 2 * WANTED:
        peaks, seconds = [peak()], []
        for part in parts:
            started = time.perf_counter()
            part()
            seconds.append(time.perf_counter() - started)
            peaks.append(peak())
        rounds.append((min(peaks), seconds))
        kept = [one for one in rounds if one[0] >= SHARE * peak.best]
    used = kept or rounds
    lowest = min(p for p, _ in used)
    note = f"peak at least {lowest:.0f} GFLOP/s, {len(kept)} of {len(rounds)} rounds undisturbed"
    return [min(times) for times in zip(*(seconds for _, seconds in used), strict=True)], note


if __name__ == "__main__":
    show(measure())
