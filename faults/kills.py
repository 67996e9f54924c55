"""SIGKILL at seeded moments of real stages; what resumes must end with the same bytes as what was left alone.

encode, download and train run as commands in projects of their own; the store's own writing in a loop. How
long each takes undisturbed is measured first, and the moments are drawn from that.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from faults.tally import Tally

ROOT = Path(__file__).parents[1]
KILLS = 20
TEXTS = 5_000
AT_ONCE = 2
PATIENCE = 300  # seconds for a stage
START = 0.5  # of the undisturbed time, from which most kills fall: before it, modules are loaded


@dataclass(frozen=True)
class Target:
    """Something that is killed.

    Args:
        name: What it is.
        command: What runs it, after the Python.
        made: What it leaves, relative to the project; hashed.
        ready: Makes a project in which it can run.
        groups: Finished pieces in a project, of which a kill may cost one; None where it starts anew.
    """

    name: str
    command: tuple[str, ...]
    made: tuple[str, ...]
    ready: Callable[[Path, int], None]
    groups: Callable[[Path], set[str]] | None = None


def run(kills: int = KILLS, texts: int = TEXTS, seed: int = 0, only: tuple[str, ...] = ()) -> list[Tally]:
    """So many kills of each target."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            _campaign(target, Path(folder) / target.name.replace(" ", "-"), kills, texts, seed)
            for target in targets()
            if not only or target.name in only
        ]


def targets() -> list[Target]:
    """encode, the store, download and train."""
    return [
        Target(
            "encode",
            ("-m", "pipeline", "encode", "own"),
            ("data/embeddings",),
            _ready_to_encode,
            _files_of_store,
        ),
        Target(
            "store write", ("-m", "faults.kills", "write"), ("store/embeddings",), _empty, _files_of_store
        ),
        Target(
            "download", ("-m", "pipeline", "download", "own"), ("data/raw", "store/raw"), _ready_to_download
        ),
        Target(
            "train", ("-m", "pipeline", "train", "simulated"), ("data/models", "metrics"), _ready_to_train
        ),
    ]


def _campaign(target: Target, folder: Path, kills: int, texts: int, seed: int) -> Tally:
    first = folder / "undisturbed"
    target.ready(first, texts)
    shutil.copytree(first, folder / "fresh", symlinks=True)
    start = time.monotonic()
    _run(target, first)
    took = time.monotonic() - start
    wanted = hashes(first, target.made)
    whole = target.groups(first) if target.groups else set()
    rng = random.Random(f"{seed} {target.name}")
    moments = [rng.uniform(START * took if n % 4 else 0.0, took) for n in range(kills)]

    def once(number: int) -> tuple[str, int, bool]:
        here = folder / f"{number}"
        shutil.copytree(folder / "fresh", here, symlinks=True)
        found = _kill(target, here, moments[number], wanted, whole)
        shutil.rmtree(here)
        return found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(once, range(kills)))
    failures = [
        f"{target.name}, seed {seed}, kill {n} after {moments[n]:.2f} of {took:.2f} s: {fault}"
        for n, (fault, _, _) in enumerate(found)
        if fault
    ]
    about = {
        "undisturbed": f"{took:.1f} s",
        "killed while at work": sum(killed for _, _, killed in found),
        "groups redone at most": max((redone for _, redone, _ in found), default=0),
    }
    return Tally(f"kills of {target.name}", kills, failures, about)


def _kill(
    target: Target, here: Path, moment: float, wanted: dict[str, str], whole: set[str]
) -> tuple[str, int, bool]:
    """What went wrong, how many groups were lost, and whether the kill came before the end."""
    process = _start(target, here)
    try:
        process.wait(moment)
        killed = False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed = True
    kept = target.groups(here) if target.groups else set()
    half = [name for name in kept if sha256((here / name).read_bytes()).hexdigest() != Path(name).stem]
    if half:
        return f"a file under a final name is not whole: {half[0]}", 0, killed
    fault = _run(target, here, check=False)
    if fault:
        return fault, 0, killed
    after = target.groups(here) if target.groups else set()
    redone = len(after) - len(whole) if target.groups else 0  # a group cut differently would be another file
    if target.groups and not kept <= after:
        return "what was finished is gone", redone, killed
    if hashes(here, target.made) != wanted:
        return "other bytes than undisturbed", redone, killed
    return ("", redone, killed) if redone <= 1 else (f"{redone} groups redone", redone, killed)


def hashes(root: Path, made: tuple[str, ...]) -> dict[str, str]:
    """Every file's hash by its place, but of hidden ones: leftovers of dead runs."""
    files = [path for name in made for path in sorted((root / name).rglob("*")) if path.is_file()]
    return {
        path.relative_to(root).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in files
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    }


def _start(target: Target, here: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PAL_STORE": str(here / "store"),
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
    }
    environment.pop("DVC_ROOT", None)
    with (here / "said.txt").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, *target.command], cwd=here, env=environment, stdout=said, stderr=said,
            start_new_session=True,
        )  # fmt: skip


def _run(target: Target, here: Path, *, check: bool = True) -> str:
    """Run to the end; what went wrong."""
    code = _start(target, here).wait(PATIENCE)
    said = (here / "said.txt").read_text(errors="replace")[-500:]
    if code and check:
        raise RuntimeError(f"{target.name} undisturbed ended with {code}: {said}")
    return f"a rerun ended with {code}: {said}" if code else ""


def _files_of_store(here: Path) -> set[str]:
    return {path.relative_to(here).as_posix() for path in (here / "store/embeddings").glob("*/*.parquet")}


def _empty(here: Path, _: int) -> None:
    here.mkdir(parents=True)


def _project(here: Path, changes: dict[str, object]) -> None:
    import yaml

    here.mkdir(parents=True)
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = values
        for part in parents:
            section = section[part]
        section[last] = value
    (here / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _stages(here: Path, dataset: str, names: tuple[str, ...]) -> None:
    for name in names:
        _run(Target(name, ("-m", "pipeline", name, dataset), (), _empty), here)


def _own(here: Path, texts: int) -> None:
    """Comparisons of so many distinct texts, long enough that hashing their words takes a while."""
    _project(
        here,
        {
            "datasets": ["own"],
            "source.own": "own.csv",
            "encoder.own": "hashed-words",
            "encode.device": "cpu",
            "encode.shard_rows": 1000,
        },
    )
    words = "so many words that it takes a while to read them all again and again " * 12
    rows = [f"user {n % 9},,{words}{n},{words}{texts + n}" for n in range(texts)]
    (here / "own.csv").write_text(
        "user_id,prompt,chosen,rejected\n" + "\n".join(rows) + "\n", encoding="utf-8"
    )


def _ready_to_encode(here: Path, texts: int) -> None:
    _own(here, texts)
    _stages(here, "own", ("download", "prepare", "recolour"))


def _ready_to_download(here: Path, texts: int) -> None:
    _own(here, texts)
    whole = (here / "own.csv").read_bytes()
    (here / "own.csv").unlink()
    (here / "mine").mkdir()
    for number in range(12):
        (here / "mine" / f"{number:02d}.csv").write_bytes(whole + f"user {number},,x,y\n".encode())
    params = (here / "params.yaml").read_text(encoding="utf-8")
    (here / "params.yaml").write_text(params.replace("own: own.csv", "own: mine"), encoding="utf-8")


def _ready_to_train(here: Path, _: int) -> None:
    _project(
        here,
        {
            "datasets": ["simulated"],
            "encode.device": "cpu",
            "train.device": "cpu",
            "train.simulated.epochs": 4,
            "train.simulated.restarts": 1,
            "prepare.simulated.seen_users": 12,
            "prepare.simulated.unseen_users": 10,
        },
    )
    _stages(here, "simulated", ("download", "prepare", "recolour", "split", "encode"))


def write() -> None:
    """Write groups into the store, each with the same bytes every time, unless they are there."""
    import numpy as np

    from pipeline import shards
    from pipeline.embedding_store import EmbeddingStore

    made_by = shards.Embedder("toy", "w", "f", 64, "float32", "as it is")
    store = EmbeddingStore(made_by, "cpu", ["pal/encoders/hashed.py"])
    rows = 2000
    for group in range(30):
        ids = [f"{group * rows + row:032x}" for row in range(rows)]
        if store.find(shards.packed(ids)).missing.any():
            store.add(ids, np.random.default_rng(group).standard_normal((rows, 64), dtype=np.float32))


if __name__ == "__main__" and sys.argv[1:] == ["write"]:
    write()
