"""SIGKILL in the middle of a stage: what was there stays whole, and a rerun writes the bytes of an undisturbed run.

A stage runs as a process that kills itself at a seeded call that opens, renames or removes a file, or a few
milliseconds later. `SEEDS=100 make faults` tries a hundred moments for each stage.
"""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.stages import encode, train

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
SEEDS = range(int(os.environ.get("SEEDS", "3")))
LATEST = 0.05  # seconds between the call that was aimed at and the kill
STAGES = {"encode": encode, "train": train}
OUTPUTS = {"encode": ["data/embeddings"], "train": ["data/models", "metrics/training"]}

# argv: after how many calls, seconds from there to the kill, the stage's name. With 0 calls nobody is killed,
# and the number of calls is printed.
KILLED = """
import os, signal, sys, time
at, delay, stage = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
from pipeline.__main__ import main
calls = 0

def count(event, arguments):
    global calls
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or event in ("os.rename", "os.remove", "os.mkdir", "os.link"):
        calls += 1
        if calls == at:
            # A timer whose signal has no handler ends the process without a word, as SIGKILL does.
            signal.setitimer(signal.ITIMER_REAL, delay) if delay else os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
sys.argv = ["pipeline", stage, "own"]
try:
    main()
finally:
    print(f"\\n{calls}")
"""


def run(stage: str, root: Path, at: int = 0, delay: float = 0.0) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PAL_STORE": str(root / "store"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(at), str(delay), stage]
    how = {"capture_output": True, "text": True, "check": False, "timeout": 300}
    return subprocess.run(command, cwd=root, env=env, **how)


def hashes(root: Path, names: list[str]) -> dict[str, str]:
    """The sha256 of every file below, but of hidden ones, which are what dead processes left."""
    files = [path for name in names for path in sorted((root / name).rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if not any(name.startswith(".") for name in path.relative_to(root).parts)
    }


@pytest.fixture(scope="module")
def calls(built, tmp_path_factory) -> dict[str, int]:
    """How many files each stage opens to write, renames or removes, when nobody disturbs it."""
    counts = {}
    for stage in STAGES:
        root = tmp_path_factory.mktemp("undisturbed") / "project"
        fresh(built, root, stage)
        done = run(stage, root)
        assert done.returncode == 0, done.stderr
        counts[stage] = int(done.stdout.split()[-1])
        assert hashes(root, OUTPUTS[stage]) == hashes(built, OUTPUTS[stage])
    return counts


def fresh(built: Path, root: Path, stage: str) -> None:
    """The built project as it was before a stage ran for the first time."""
    shutil.copytree(built, root)
    outputs = [path for name in OUTPUTS[stage] for path in (root / name).glob("own*")]
    for path in [*outputs, *([root / "store/embeddings"] if stage == "encode" else [])]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_leaves_whole_files_and_a_rerun_ends_with_the_same_bytes(
    stage, seed, built, calls, tmp_path, monkeypatch
):
    rng = random.Random(f"{stage} {seed}")
    root = tmp_path / "project"
    fresh(built, root, stage)
    done = run(stage, root, rng.randint(1, calls[stage]), rng.choice([0.0, rng.uniform(0.001, LATEST)]))
    assert done.returncode in (0, -signal.SIGKILL, -signal.SIGALRM), done.stderr
    kept = {name: sha256 for name, sha256 in hashes(root, ["store"]).items() if name.endswith(".parquet")}
    assert all(Path(name).stem == sha256 for name, sha256 in kept.items())
    monkeypatch.chdir(root)
    monkeypatch.setenv("PAL_STORE", str(root / "store"))
    STAGES[stage].main("own")
    assert hashes(root, OUTPUTS[stage]) == hashes(built, OUTPUTS[stage])
    assert kept.items() <= hashes(root, ["store"]).items()


def test_two_at_once_on_one_store_end_with_the_bytes_of_one(built, tmp_path):
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        fresh(built, root, "encode")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    env["PAL_STORE"] = str(tmp_path / "store")
    shutil.copytree(roots[0] / "store", tmp_path / "store")
    command = [sys.executable, "-m", "pipeline", "encode", "own"]
    processes = [subprocess.Popen(command, cwd=root, env=env) for root in roots]
    assert [process.wait(300) for process in processes] == [0, 0]
    for root in roots:
        assert hashes(root, OUTPUTS["encode"]) == hashes(built, OUTPUTS["encode"])
