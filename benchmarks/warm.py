"""The stage encode at scale: texts through an empty store, and again through a full one, memory and time.

A text's vector is its checksum times a fixed row, so that what is measured is everything but the encoder:
reading items, planning batches, the store, putting vectors in order, and shards. Vectors of MiniLM's width in
half precision. Each size runs in a process of its own, whose largest memory is the system's figure. Two
minutes on two quiet cores, and 5 GB of disk.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.table import Row, Section, show

SIZES = (500_000, 1_000_000, 2_000_000)
DIM = 384
MOST_MEMORY = 1.5  # GB
LEAST_WARM = 200_000  # items/s
MOST_GROWTH = 1.25  # time an item of the largest over the smallest: 1 is linear
ROOT = Path(__file__).parents[1]


def measure() -> Section:
    """Each size once, cold and warm."""
    busy = os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1)
    unjudged = "the machine was disturbed" if busy else ""
    found = {size: _child(size) for size in SIZES}
    rows = []
    for size, one in found.items():
        cold, warm = (size / one[f"{what} seconds"] for what in ("cold", "warm"))
        note = f"{one['files']:,} files in the store"
        rows += [
            Row(f"{size:,} items, empty store", cold, "items/s", note=note),
            Row(f"{size:,} items, full store", warm, "items/s", at_least=LEAST_WARM, unjudged=unjudged),
        ]
    small, large = min(SIZES), max(SIZES)
    for what in ("cold", "warm"):
        growth = found[large][f"{what} seconds"] / found[small][f"{what} seconds"] / (large / small)
        rows.append(
            Row(
                f"{what}: time an item, {large:,} over {small:,}",
                growth,
                "x",
                at_most=MOST_GROWTH,
                unjudged=unjudged,
            )
        )
        peak = found[large][f"{what} GB"]
        rows.append(Row(f"{what}: peak memory, {large:,} items", peak, "GB", at_most=MOST_MEMORY))
    return Section("The stage encode at scale, with an encoder that costs nothing", {"width": DIM}, rows)


def _child(size: int) -> dict[str, float]:
    """Both runs of one size, in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "PAL_STORE": f"{folder}/store", "PYTHONPATH": str(ROOT)}
        found: dict[str, float] = {}
        # The warm run three times, of which the best counts: it takes seconds, and others share the machine.
        for what in ("make", "cold", "warm", "warm", "warm"):
            os.sync()  # what the run before has written is not this one's to wait for
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.warm", what, str(size)],
                cwd=folder, env=environ, stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            for name, value in json.loads(done.stdout.splitlines()[-1]).items():
                best = max if name.endswith("GB") else min
                found[name] = best(value, found.get(name, value))
        return found


def _make(size: int) -> dict[str, float]:
    """A folder with params.yaml, and the items as recolour leaves them: texts of about 60 characters."""
    import numpy as np
    import pyarrow as pa

    from pipeline import paths
    from pipeline.storage import tables

    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["own"]["encoder"] = "hashed-words"
    values["encode"] |= {"device": "cpu", "dtype": "float16"}
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    words = np.random.default_rng(0).integers(1, 20, size)
    texts = [f"statement {row} about this and that, {'very ' * n}short" for row, n in enumerate(words)]
    ids = sorted((tables.text_id(text), row) for row, text in enumerate(texts))
    frame = pa.table(
        {
            "item_id": [item for item, _ in ids],
            "modality": ["text"] * size,
            "text": [texts[row] for _, row in ids],
        }
    )
    tables.write_table(paths.recoloured("own") / tables.ITEMS, frame, tables.items_schema())
    return {}


def _run(what: str) -> dict[str, float]:
    from pal import encoders
    from pipeline.stages import encode

    encoders.describe, encoders.load = _describe, lambda described, device: _Checksums()
    start = time.perf_counter()
    encode.main("own")
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    files = len(list((Path(os.environ["PAL_STORE"]) / "embeddings").rglob("*.parquet")))
    return {f"{what} seconds": seconds, f"{what} GB": memory, "files": files}


def _describe(name: str, weights: str, *, precision: str, engine: str) -> object:
    from pal.encoders import Described

    return Described("checksums", DIM, "", "", "checksum times a row", None, "hashed")


class _Checksums:
    """The cheapest text encoder."""

    def lengths(self, texts: list[str]) -> list[int]:
        return [1 + len(text) // 5 for text in texts]

    def encode(self, texts: list[str]) -> object:
        import zlib

        import numpy as np

        sums = np.array([zlib.crc32(text.encode()) for text in texts], dtype=np.float32)
        return np.outer(sums / 2**32, np.linspace(-1, 1, DIM, dtype=np.float32))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        task, count = sys.argv[1], int(sys.argv[2])
        print(json.dumps(_make(count) if task == "make" else _run(task)))
    else:
        show(measure())
