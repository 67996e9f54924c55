"""What is killed: encode, the store's writing, download and train, each in a small project of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE = 300  # seconds for a stage
LOG = "trace.log"


@dataclass(frozen=True)
class Target:
    """Something that is killed.

    Args:
        name: What it is.
        words: What is run with its notes: a stage and its data set, or `write`.
        made: What it leaves, relative to the project; hashed.
        ready: Makes a project in which it can run.
        stores: Whether what it has finished lies in the store, under the hashes of files.
    """

    name: str
    words: tuple[str, ...]
    made: tuple[str, ...]
    ready: Callable[[Path, int], None]
    stores: bool = False

    def finished(self, here: Path) -> set[str]:
        """Files of the store in a project."""
        found = (here / "store/embeddings").glob("*/*.parquet") if self.stores else ()
        return {path.relative_to(here).as_posix() for path in found}


def targets() -> list[Target]:
    """encode, the store, download and train."""
    raw = ("data/raw", "store/raw")
    return [
        Target("encode", ("encode", "own"), ("data/embeddings",), _ready_to_encode, stores=True),
        Target("store write", ("write",), ("store/embeddings",), _empty, stores=True),
        Target("download", ("download", "own"), raw, _ready_to_download),
        Target("train", ("train", "simulated"), ("data/models", "metrics"), _ready_to_train),
    ]


def start(here: Path, *command: str) -> subprocess.Popen[bytes]:
    """Start a module of Python's in a project, with a store of the project's own."""
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
            [sys.executable, "-m", *command], cwd=here, env=environment, stdout=said, stderr=said,
            start_new_session=True,
        )  # fmt: skip


def begin(target: Target, here: Path) -> subprocess.Popen[bytes]:
    """Start a target in a project; it notes in LOG what it is at."""
    return start(here, "faults.trace", LOG, *target.words)


def finish(process: subprocess.Popen[bytes], here: Path) -> str:
    """Wait for the end; what went wrong, empty if nothing."""
    code = process.wait(PATIENCE)
    said = (here / "said.txt").read_text(errors="replace")[-500:]
    return f"ended with {code}: {said}" if code else ""


def noted(here: Path) -> list[str]:
    """The lines that were noted in a project, but of one that was being written."""
    try:
        return (here / LOG).read_text().split("\n")[:-1]
    except FileNotFoundError:
        return []


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


def _empty(here: Path, _: int) -> None:
    here.mkdir(parents=True)


def _stages(here: Path, dataset: str, names: tuple[str, ...]) -> None:
    for name in names:
        fault = finish(start(here, "pipeline", name, dataset), here)
        if fault:
            raise RuntimeError(f"{name} {fault}")


def _own(here: Path, texts: int) -> None:
    """Comparisons of so many distinct texts, long enough that hashing their words takes a while."""
    _project(
        here,
        {
            "datasets": ["own"],
            "own.source": "own.csv",
            "own.encoder": "hashed-words",
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
    (here / "params.yaml").write_text(params.replace("source: own.csv", "source: mine"), encoding="utf-8")


def _ready_to_train(here: Path, _: int) -> None:
    _project(
        here,
        {
            "datasets": ["simulated"],
            "encode.device": "cpu",
            "train.device": "cpu",
            "simulated.train.epochs": 4,
            "simulated.train.restarts": 1,
            "simulated.prepare.seen_users": 12,
            "simulated.prepare.unseen_users": 10,
        },
    )
    _stages(here, "simulated", ("download", "prepare", "recolour", "split", "encode"))
