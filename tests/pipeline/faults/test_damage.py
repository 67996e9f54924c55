"""Truncations and bit flips of what stages read: refused in one sentence, or what comes out is the same.

A file that a stage reads is damaged, and the stage runs again. `SEEDS=1000 make faults` tries a thousand
damages of each kind and stage.
"""

import os
import random
import shutil

import pytest

from pal.errors import PalError
from pipeline import PipelineError
from pipeline.stages import encode, evaluate, prepare, split, train

pytestmark = pytest.mark.slow
SEEDS = range(int(os.environ.get("SEEDS", "3")))
# A stage, what it reads, and what it writes.
STAGES = {
    "prepare": (prepare, ["data/raw", "store/raw"], ["data/prepared/own"]),
    "split": (split, ["data/prepared/own"], ["data/splits/own"]),
    "encode": (encode, ["data/prepared/own", "store/embeddings"], ["data/embeddings/own"]),
    "train": (train, ["data/splits/own", "data/embeddings/own"], ["data/models/own"]),
    "evaluate": (
        evaluate,
        ["data/splits/own", "data/embeddings/own", "data/models/own"],
        ["data/evaluated/own", "metrics/details", "metrics/few_shot", "metrics/calibration"],
    ),
}


def cut(data: bytes, rng: random.Random) -> bytes:
    """A file that ends early."""
    return data[: rng.randrange(len(data))]


def flip(data: bytes, rng: random.Random) -> bytes:
    """One bit turned."""
    damaged = bytearray(data)
    damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def contents(root, names) -> dict[str, bytes]:
    files = [path for name in names for path in sorted((root / name).rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("stage", STAGES)
def test_a_damaged_file_is_refused_or_changes_nothing(stage, damage, seed, small, built):
    module, read, written = STAGES[stage]
    rng = random.Random(f"{stage} {damage.__name__} {seed}")
    path = small.root / rng.choice(sorted(name for name, data in contents(small.root, read).items() if data))
    path.write_bytes(damage(path.read_bytes(), rng))
    for name in written:
        shutil.rmtree(small.root / name)
    try:
        module.main("own")
    except (PalError, PipelineError) as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        expected = {name: data for name, data in contents(built, written).items() if "own" in name}
        assert {
            name: data for name, data in contents(small.root, written).items() if "own" in name
        } == expected
