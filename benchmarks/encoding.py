"""Encoding beside sentence-transformers' defaults, and shards beside plain npy files; for information.

1,000 statements, real ones where they are there, through MiniLM on one thread: the encode stage's batches
of like length within a token budget, and `SentenceTransformer.encode` as it comes, in turns, the fastest
of four rounds that were not disturbed (benchmarks/rounds.py). Then 100,000 vectors of width 384 written (and
synced) and read as a shard and as npy, from the page cache. About 90 seconds on a quiet core.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.rounds import SHARE, WANTED, peak
from benchmarks.studies import ROOT, real_persona, values
from benchmarks.table import Row, Section, show
from pal import encoders
from pipeline import shards
from pipeline.datasets import persona
from pipeline.encode import batches

NAME = "all-MiniLM-L6-v2"
N_TEXTS, N_VECTORS, DIM = 1_000, 100_000, 384


def measure() -> Section:
    """Both comparisons, on one thread; torch's setting is put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        peak()
        rows = [*_encoding(), *_shards()]
        peak()
    finally:
        torch.set_num_threads(threads)
    about = {
        "statements": "Anthropic's" if real_persona() else "the sample's: the real Persona set was not found",
        "threads": 1,
        "best float32 matrix peak": f"{peak.best:.0f} GFLOP/s",
    }
    return Section("Encoding and storage, beside what they replace", about, rows)


def _encoding() -> list[Row]:
    from sentence_transformers import SentenceTransformer

    texts = _texts()
    described = encoders.describe(NAME)
    ours = encoders.load(described)
    theirs = SentenceTransformer(str(described.folder), device="cpu")
    budget = values("persona", 0).encode.tokens_per_batch

    def stage() -> np.ndarray:
        out = np.empty((len(texts), DIM), dtype=np.float32)
        for rows in batches(ours.lengths(texts), texts, budget):
            out[rows] = ours.encode([texts[row] for row in rows])
        return out

    def defaults() -> np.ndarray:
        return theirs.encode(texts, show_progress_bar=False)

    cosine = float((_unit(stage()) * _unit(defaults())).sum(1).min())
    (fast, slow), note = _in_turns(stage, defaults)
    return [
        Row("MiniLM, the encode stage", N_TEXTS / fast, "items/s", note=note),
        Row("MiniLM, SentenceTransformer.encode", N_TEXTS / slow, "items/s", note="defaults"),
        Row("  ratio", slow / fast, "x"),
        Row("  1 - smallest cosine between the two", 1 - cosine, ""),
    ]


def _texts() -> list[str]:
    folder = real_persona() or ROOT / "data/sample/persona"
    files = [persona.read(path.name, path) for path in sorted(folder.glob("*.jsonl"))]
    each = [file[: -(-N_TEXTS // len(files))] for file in files]
    return [statement.statement for some in each for statement in some][:N_TEXTS]


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


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


if __name__ == "__main__":
    show(measure())
