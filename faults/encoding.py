"""A small project whose texts are encoded by real processes: what campaigns on the stage encode break."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PATIENCE = 120.0  # seconds that a run may take


class Project:
    """A folder with params.yaml and the items of the dataset own, as recolour leaves them.

    Args:
        root: The folder, new.
        texts: How many items.
        knobs: Changes of the section encode.
    """

    def __init__(self, root: Path, texts: int = 4_000, **knobs: object) -> None:
        from pipeline.storage import tables

        self.root, self.store = root, root / "store"
        root.mkdir(parents=True)
        values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        values["own"]["encoder"] = "hashed-words"
        values["encode"] |= {"device": "cpu", "shard_rows": 1_500, **knobs}
        (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        frame = tables.text_items([f"statement {n}, " + "very " * (n % 9) + "short" for n in range(texts)])
        tables.write_table(root / "data/recoloured/own" / tables.ITEMS, frame, tables.items_schema())

    def start(self, *flags: str, obedient: bool = False, **environ: str) -> subprocess.Popen[str]:
        """Start the stage in a process group of its own; an obedient one obeys permissions also as root."""
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "encode", "own", *flags],
            cwd=self.root,
            env={**os.environ, "PAL_STORE": str(self.store), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
                 "PYTHONDONTWRITEBYTECODE": "1", **environ},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            preexec_fn=_obey if obedient else None,
        )  # fmt: skip

    def run(self, *flags: str, obedient: bool = False, **environ: str) -> tuple[int, str]:
        """Run the stage; its exit code and what it printed."""
        return ended(self.start(*flags, obedient=obedient, **environ))

    def files(self) -> list[Path]:
        """The store's finished files."""
        return sorted((self.store / "embeddings").rglob("[!.]*.parquet"))

    def stored(self) -> int:
        """Items in the store, each as often as it is there."""
        from pipeline.storage import shards

        return sum(len(shards.read_ids(path)) for path in self.files())

    def output(self) -> dict[str, bytes]:
        """What the stage wrote."""
        folder = self.root / "data/embeddings/own"
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.*"))}

    def litter(self) -> list[str]:
        """Names in the store and beside the output that no finished run may leave."""
        allowed = {".claims"}
        found = [*(self.store / "embeddings").rglob(".*"), *(self.root / "data").rglob(".*")]
        return [path.name for path in found if path.name not in allowed]


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a run; one that hangs is killed, and says so."""
    try:
        said, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        return -1, f"{said}\nhung for {PATIENCE:.0f} s"
    return process.returncode, said


def wait_until(what: Callable[[], object], process: subprocess.Popen[str]) -> bool:
    """Wait for something while a process runs; whether it came."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        if what():
            return True
        time.sleep(0.002)
    return bool(what())


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL a run and whatever it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _obey() -> None:
    """Give up root's right to write where permissions forbid it; others have none."""
    import ctypes

    drop_from_bounding_set, override_permissions = 24, 1  # linux/prctl.h, linux/capability.h
    ctypes.CDLL(None).prctl(drop_from_bounding_set, override_permissions, 0, 0, 0)
