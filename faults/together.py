"""Several at once on one store; locks, clocks, read-only stores: as one after the other, or one sentence."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from faults.encoding import ROOT, Project, ended, kill, wait_until
from faults.tally import Tally

TEXTS = 4_000
LONG_AGO = 1_000_000_000  # seconds: a clock that went back a quarter of a century

Case = Callable[[Project, dict[str, bytes], random.Random], None]


def run(texts: int = TEXTS, only: int | None = None) -> list[Tally]:
    """Every case on a fresh project; `only` so many of them, for tests."""
    cases = CASES[:only]
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        first = Project(Path(folder) / "first", texts)
        code, said = first.run()
        if code:
            return [Tally("encodes at once on one store", 1, [f"an undisturbed run ended {code}: {said}"])]
        whole = first.output()
        for number, case in enumerate(cases):
            project = Project(Path(folder) / str(number), texts)
            try:
                case(project, whole, random.Random(number))
            except Exception:
                reason = " ".join(traceback.format_exc(limit=-1).split())[-600:]
                failures.append(f"{_name(case)}: {reason}")
    return [Tally("encodes at once on one store, locks, clocks, read-only stores", len(cases), failures)]


def _name(case: Case) -> str:
    return case.__name__.strip("_").replace("_", " ")


def _same(project: Project, whole: dict[str, bytes]) -> None:
    """The output is that of an undisturbed run, nothing is in the store twice, and nothing lies about."""
    assert project.output() == whole, "other bytes"
    assert not project.litter(), project.litter()


def _sentence(code: int, said: str, *parts: str) -> None:
    assert code == 1, f"exit code {code}: {said}"
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in said, said
    assert all(part in line for part in parts), line


def _two_at_once(project: Project, whole: dict[str, bytes], rng: random.Random) -> None:
    both = [project.start() for _ in range(2)]
    assert [ended(one)[0] for one in both] == [0, 0]
    _same(project, whole)
    assert project.stored() == _items(project), f"{project.stored()} vectors in the store"


def _two_one_of_them_killed(project: Project, whole: dict[str, bytes], rng: random.Random) -> None:
    """The killed one holds claims; the other does not wait for it."""
    first, second = project.start(), project.start()
    wait_until(lambda: len(project.files()) >= rng.randrange(1, 5), first)
    kill(first)
    assert ended(second)[0] == 0
    assert project.output() == whole, "other bytes"
    assert project.run()[0] == 0  # which sweeps what the killed one left
    _same(project, whole)


def _a_holder_that_does_nothing(project: Project, whole: dict[str, bytes], rng: random.Random) -> None:
    """A process that claims everything and sleeps: a run beside it ends all the same."""
    assert project.run("--rank", "0", "--world", "4")[0] == 0
    (claims,) = (project.store / "embeddings").rglob(".claims")
    with _holder(claims) as holder:
        assert project.run()[0] == 0
        assert holder.poll() is None, "the holder is gone"
        holder.kill()
    _same(project, whole)


def _a_killed_holder(project: Project, whole: dict[str, bytes], rng: random.Random) -> None:
    assert project.run("--rank", "1", "--world", "4")[0] == 0
    (claims,) = (project.store / "embeddings").rglob(".claims")
    with _holder(claims) as holder:
        holder.send_signal(signal.SIGKILL)
    assert project.run()[0] == 0
    _same(project, whole)


def _a_stale_file_of_locks(project: Project, whole: dict[str, bytes], rng: random.Random) -> None:
    """What another machine left, with words in it and a date to come."""
    assert project.run("--rank", "0", "--world", "8")[0] == 0
    (claims,) = (project.store / "embeddings").rglob(".claims")
    claims.write_text("4711 on a machine that is gone\n")
    os.utime(claims, (4_000_000_000, 4_000_000_000))
    assert project.run()[0] == 0
    _same(project, whole)


def _no_locks_at_all(project: Project, whole: dict[str, bytes], rng: random.Random) -> None:
    """Where the file to lock is a folder, work may be done twice and comes out the same."""
    assert project.run("--rank", "0", "--world", "8")[0] == 0
    (claims,) = (project.store / "embeddings").rglob(".claims")
    claims.unlink()
    claims.mkdir()
    both = [project.start() for _ in range(2)]
    assert [ended(one)[0] for one in both] == [0, 0]
    _same(project, whole)


def _a_read_only_store_with_everything(project: Project, whole: dict[str, bytes], rng: random.Random) -> None:
    assert project.run()[0] == 0
    assert project.output() == whole
    _seal(project.store)
    code, said = project.run(obedient=True)
    _unseal(project.store)
    assert code == 0, said
    assert project.output() == whole


def _a_read_only_store_with_nothing(project: Project, whole: dict[str, bytes], rng: random.Random) -> None:
    project.store.mkdir()
    _seal(project.store)
    code, said = project.run(obedient=True)
    _unseal(project.store)
    _sentence(code, said, str(project.store))
    assert project.output() == {}


def _a_store_of_another_version(project: Project, whole: dict[str, bytes], rng: random.Random) -> None:
    """Vectors under another key are never taken: the files are real ones, of other numbers."""
    import numpy as np

    from pipeline.storage import shards

    assert project.run()[0] == 0
    folder = project.files()[0].parent
    other = folder.with_name(folder.name[:-4] + "0000")
    folder.rename(other)
    for path in other.glob("*.parquet"):
        ids, vectors, embedder = shards.read(path)
        shards.write(path, ids, np.ones_like(vectors), embedder)
    assert project.run()[0] == 0
    _same(project, whole)


def _a_clock_that_goes_back(project: Project, whole: dict[str, bytes], rng: random.Random) -> None:
    """Half was encoded by a clock ahead of ours; then half of the files date from long ago."""
    assert project.run("--rank", "0", "--world", "2")[0] == 0
    for number, path in enumerate(project.files()):
        when = LONG_AGO if number % 2 else LONG_AGO * 4
        os.utime(path, (when, when))
    assert project.run()[0] == 0
    _same(project, whole)
    for path in [*project.files(), *(project.root / "data").rglob("*.*")]:
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert project.run()[0] == 0
    _same(project, whole)


def _leftovers_of_killed_runs(project: Project, whole: dict[str, bytes], rng: random.Random) -> None:
    """Five runs killed one after the other; the sixth gives the bytes and leaves nothing of theirs."""
    lost = 0
    for _ in range(5):
        before = len(project.files())
        process = project.start()
        wait_until(lambda before=before: len(project.files()) > before, process)
        kill(process)
        lost += len(project.files()) - before
    assert project.run()[0] == 0
    _same(project, whole)
    assert lost, "no run came so far as to store anything"


def _ranks_and_a_run_for_all(project: Project, whole: dict[str, bytes], rng: random.Random) -> None:
    """Three ranks and, at the same time, a run that does everything."""
    ranks = [project.start("--rank", str(rank), "--world", "3") for rank in range(3)]
    every = project.start()
    assert [ended(one)[0] for one in (*ranks, every)] == [0, 0, 0, 0]
    _same(project, whole)


CASES: list[Case] = [
    _two_at_once,
    _a_holder_that_does_nothing,
    _two_one_of_them_killed,
    _a_killed_holder,
    _a_stale_file_of_locks,
    _no_locks_at_all,
    _a_read_only_store_with_everything,
    _a_read_only_store_with_nothing,
    _a_store_of_another_version,
    _a_clock_that_goes_back,
    _leftovers_of_killed_runs,
    _ranks_and_a_run_for_all,
]


def _items(project: Project) -> int:
    from pipeline.storage import shards

    shown = sorted((project.root / "data/embeddings/own/text").glob("*.parquet"))
    return sum(len(shards.read_ids(path)) for path in shown)


class _holder:  # noqa: N801  reads as a word
    """A process that locks every byte of a file and sleeps."""

    def __init__(self, path: Path) -> None:
        code = (
            "import fcntl, os, sys, time; f = os.open(sys.argv[1], os.O_RDWR); fcntl.lockf(f, fcntl.LOCK_EX);"
            "print('held', flush=True); time.sleep(600)"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "held\n"

    def __enter__(self) -> "subprocess.Popen[str]":
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def _seal(store: Path) -> None:
    for path in [*store.rglob("*"), store]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def _unseal(store: Path) -> None:
    for path in [store, *store.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
