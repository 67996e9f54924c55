"""Encoding texts beside sentence-transformers' defaults: every engine and precision that a CPU has.

6,000 statements, real ones where they are there, through MiniLM on one thread: batches of like length within
the encode stage's token budget, and `SentenceTransformer.encode` as it comes. A part of half a minute is
rarely undisturbed, so the statements are cut into slices of 1,000, by length: then both make the batches that
they make of all 6,000. Each way is timed in turn; of each slice and way the fastest of at least four rounds
that were not disturbed (benchmarks/rounds.py), summed over the slices. Cosines are over all statements.
ONNX Runtime is measured where it is installed. About 10 minutes on a quiet core.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.rounds import SHARE, WANTED, peak
from benchmarks.studies import ROOT, real_persona, values
from benchmarks.table import Row, Section, show
from pal import encoders
from pal.errors import PalError
from pipeline.datasets import persona
from pipeline.encoding.texts import batches

NAME = "all-MiniLM-L6-v2"
N_TEXTS, SLICE = 6_000, 1_000
THEIRS = "SentenceTransformer.encode"
# Engine, precision, times the speed of the defaults to reach, and how far from a cosine of 1 at most.
WAYS = {
    "torch, float32": ("torch", "float32", 1.1, 1e-5),
    "torch, bfloat16": ("torch", "bfloat16", 2.0, 1e-4),
    "onnx, float32": ("onnx", "float32", None, 1e-5),
    "compile, float32": ("compile", "float32", None, 1e-5),
}
BETTER = ("onnx, float32", "compile, float32")  # of these one must reach
LEAST_BETTER = 1.3

Encode = Callable[[list[str]], np.ndarray]


@dataclass
class Times:
    """Seconds of one way on one slice: all, and those of undisturbed rounds."""

    all: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The fastest that counts."""
        return min(self.kept or self.all)


def measure() -> Section:
    """All ways, on one thread; torch's setting is put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _store():
            rows, missing = _rows()
    finally:
        torch.set_num_threads(threads)
    about = {
        "statements": "Anthropic's" if real_persona() else "the sample's: the real Persona set was not found",
        "threads": 1,
        "best float32 matrix peak": f"{peak.best:.0f} GFLOP/s",
        **{f"not measured: {way}": why for way, why in missing.items()},
    }
    return Section(f"Encoding texts ({NAME}), over {THEIRS}", about, rows)


def _rows() -> tuple[list[Row], dict[str, str]]:
    texts = _texts()
    ways, missing = _ways()
    slices = [texts[start : start + SLICE] for start in range(0, len(texts), SLICE)]
    times: dict[str, list[Times]] = {way: [] for way in ways}
    worst = dict.fromkeys(ways, 0.0)
    for some in slices:
        expected = _unit(ways[THEIRS](some))
        for way, encode in ways.items():
            worst[way] = max(worst[way], float((1 - (_unit(encode(some)) * expected).sum(1)).max()))
        for way, found in _in_turns(ways, some).items():
            times[way].append(found)
    seconds = {way: sum(one.best for one in found) for way, found in times.items()}
    rows = [Row(f"{THEIRS}, defaults", len(texts) / seconds[THEIRS], "items/s", note=_note(times[THEIRS]))]
    ratios = {way: seconds[THEIRS] / seconds[way] for way in ways if way != THEIRS}
    judged = {way: _unjudged(times[THEIRS] + times[way]) for way in ratios}
    for way, ratio in ratios.items():
        _, _, least, apart = WAYS[way]
        rows += [
            Row(way, len(texts) / seconds[way], "items/s", note=_note(times[way])),
            Row("  times the defaults", ratio, "x", at_least=least, unjudged=judged[way]),
            Row("  1 - smallest cosine to them", worst[way], "", at_most=apart),
        ]
    better = max((way for way in BETTER if way in ratios), key=ratios.__getitem__, default=None)
    if better:
        what = "the faster of compile and onnx, times the defaults"
        rows.append(
            Row(what, ratios[better], "x", at_least=LEAST_BETTER, note=better, unjudged=judged[better])
        )
    return rows, missing


def _ways() -> tuple[dict[str, Encode], dict[str, str]]:
    """Every way that can be run here, the defaults first, and why the others cannot."""
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(encoders.describe(NAME).folder), device="cpu", local_files_only=True)
    ways: dict[str, Encode] = {THEIRS: lambda texts: theirs.encode(texts, show_progress_bar=False)}
    missing = {}
    budget = values("persona", 0).encode.tokens_per_batch
    for way, (engine, precision, _, _) in WAYS.items():
        try:
            ours = encoders.load(encoders.describe(NAME, precision=precision, engine=engine))
        except PalError as error:
            missing[way] = str(error)
            continue
        ways[way] = lambda texts, ours=ours: _stage(ours, texts, budget)
    return ways, missing


def _stage(encoder: encoders.TextEncoder, texts: list[str], budget: int) -> np.ndarray:
    """As the stage encode does it."""
    out = None
    for rows in batches(encoder.lengths(texts), texts, budget):
        vectors = encoder.encode([texts[row] for row in rows])
        out = np.empty((len(texts), vectors.shape[1]), dtype=np.float32) if out is None else out
        out[rows] = vectors
    return out


def _in_turns(ways: dict[str, Encode], texts: list[str]) -> dict[str, Times]:
    """Every way once a round, each between two looks at the peak, until all have enough that count."""
    found = {way: Times() for way in ways}
    for _ in range(2 * WANTED):
        for way, encode in ways.items():
            before, started = peak(), time.perf_counter()
            encode(texts)
            seconds = time.perf_counter() - started
            found[way].all.append(seconds)
            if min(before, peak()) >= SHARE * peak.best:
                found[way].kept.append(seconds)
        if all(len(times.kept) >= WANTED for times in found.values()):
            break
    return found


def _note(found: list[Times]) -> str:
    fewest = min(len(times.kept) for times in found)
    return f"{fewest} of {len(found[0].all)} rounds undisturbed in the worst of {len(found)} slices"


def _unjudged(found: list[Times]) -> str:
    """Why the figure cannot be judged: a slice that was disturbed every time."""
    disturbed = sum(not times.kept for times in found)
    return f"{disturbed} of {len(found)} slices had no undisturbed round" if disturbed else ""


def _texts() -> list[str]:
    folder = real_persona() or ROOT / "data/sample/persona"
    files = [persona.read(path.name, path) for path in sorted(folder.glob("*.jsonl"))]
    each = [file[: -(-N_TEXTS // len(files))] for file in files]
    texts = [statement.statement for some in each for statement in some][:N_TEXTS]
    return sorted(texts, key=len)


@contextmanager
def _store() -> Iterator[None]:
    """What is derived from weights goes into a cache of this run's own."""
    before = os.environ.get("PAL_STORE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PAL_STORE"] = str(Path(folder))
        try:
            yield
        finally:
            os.environ.pop("PAL_STORE")
            if before is not None:
                os.environ["PAL_STORE"] = before


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


if __name__ == "__main__":
    show(measure())
