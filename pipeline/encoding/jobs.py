"""What is to be encoded, and how processes share it: ranks of torchrun or SLURM, and workers of Ray.

Items are encoded in groups, which are a fixed function of the full list of items. A group is what one file of
the store holds and what a kill can lose. A process takes a share of the groups by its rank, and none waits
for another: what a rank that never comes leaves out is encoded by the run without ranks that follows.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from pal.errors import shorten
from pal.files import write_text
from pipeline import PipelineError
from pipeline.storage import tables

if TYPE_CHECKING:
    from pal.encoders import Described
    from pal.encoders.vector_store import EmbeddingStore

DROPPED_COLUMNS = ("item_id", "modality", "file", "row_group", "row", "column", "reason")

LEAST_ROWS = 512
MOST_ROWS = 16_384
GROUPS = 1_000  # in a large job: a kill then loses a thousandth of it, and the store has few files
# The variables in which launchers tell a process its number and how many there are.
LAUNCHERS = {"torchrun": ("RANK", "WORLD_SIZE"), "SLURM": ("SLURM_PROCID", "SLURM_NTASKS")}
ON_THIS_MACHINE = ("LOCAL_RANK", "SLURM_LOCALID")

RAY_CPUS = 0.5  # of a worker without a GPU: with a whole one each, nothing would be left for Ray's own tasks
RAY_RETRIES = 4  # times that the task of a lost worker is started again
PASSED_ON = ("PAL_STORE", "DVC_ROOT", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")
RAY_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# A cluster of one machine: Ray then listens on the loopback address alone. Naming that address to `init` does
# not do it: Ray takes the machine's outer one in its place.
RAY_LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@dataclass(frozen=True)
class Share:
    """One process's part of the work.

    Args:
        rank: Its number, from 0.
        world: How many processes there are; 1 for a process that does all.
        origin: Where both come from, in words.
    """

    rank: int = 0
    world: int = 1
    origin: str = "--rank and --world"

    def strided(self, count: int) -> range:
        """Every world-th of so many groups."""
        return range(self.rank, count, self.world)

    def block(self, count: int) -> range:
        """A run of neighbours out of so many groups."""
        return range(count * self.rank // self.world, count * (self.rank + 1) // self.world)


def share_of(rank: int | None, world: int | None, environ: Mapping[str, str] = os.environ) -> Share:
    """The share of this process: as its flags say, else as torchrun or SLURM do, else everything.

    A stage that DVC runs does everything whatever a launcher says, since DVC expects its output.

    Args:
        rank: The flag --rank.
        world: The flag --world; 1 does everything, also under a launcher.
        environ: The environment.

    Raises:
        PipelineError: If one is given without the other, or they contradict each other.
    """
    origin = Share.origin
    if rank is not None or world is not None:
        rank = 0 if rank is None and world == 1 else rank
    else:
        rank, world = 0, 1
        for launcher, (number, count) in LAUNCHERS.items():
            if number in environ and count in environ and "DVC_STAGE" not in environ:
                rank, world = int(environ[number]), int(environ[count])
                origin = f"{number} and {count} of {launcher}"
                break
    if rank is None or world is None or not 0 <= rank < world:
        raise PipelineError(
            f"{origin} must be given together, with rank from 0 to world - 1, got rank {rank} of world "
            f"{world}; --world 1 alone does everything"
        )
    return Share(rank, world, origin)


def use_own_gpu(environ: Mapping[str, str] = os.environ) -> None:
    """Compute on the GPU of this process's number on its machine, where the machine has several."""
    local = next((environ[name] for name in ON_THIS_MACHINE if environ.get(name, "").isdigit()), None)
    if local is not None:
        import torch

        torch.cuda.set_device(int(local) % torch.cuda.device_count())


def group_rows(count: int) -> int:
    """Items in a group, of a list of so many: a thousandth of it, within bounds."""
    return max(LEAST_ROWS, min(count // GROUPS, MOST_ROWS))


def read_items(path: Path, made_by: str) -> dict[str, pl.DataFrame]:
    """The items of a table by modality, in the order of their ids; modalities without an item are left out.

    Raises:
        PipelineError: If the table is missing or damaged.
    """
    items = tables.read_table(path, made_by).sort("item_id")
    parts = {name: items.filter(pl.col("modality").cast(pl.String) == name) for name in tables.MODALITIES}
    return {name: part for name, part in parts.items() if len(part)}


@dataclass(frozen=True)
class Job:
    """What is to be encoded, by what, and into what: of one modality of one dataset.

    Args:
        dataset: Its name.
        modality: text or image.
        items: The items (see `read_items`).
        encoder: What encodes them.
        store: Where vectors go.
        ids: The items' ids, in ascending order.
        missing: Which of them were not in the store at the start.
        share: This process's part.
    """

    dataset: str
    modality: str
    items: pl.DataFrame
    encoder: "Described"
    store: "EmbeddingStore"
    ids: np.ndarray
    missing: np.ndarray
    share: Share

    def store_missing(self, rows: np.ndarray, vectors: np.ndarray) -> int:
        """Put those vectors of a group into the store whose items were missing; how many.

        Args:
            rows: Rows of items that were encoded.
            vectors: Theirs.
        """
        missing = self.missing[rows]
        if missing.any():
            self.store.add(self.ids[rows[missing]], vectors[missing])
        return int(missing.sum())


def describe_item(item: dict[str, Any], names: dict[str, str]) -> str:
    """A text in quotes, an image by its file's name and its place in it.

    Args:
        item: A row of the items.
        names: The raw files' names by their sha256.
    """
    if item["modality"] == "text":
        return f"the text {shorten(item['text'] or '')}"
    name = names.get(item["file"], item["file"])
    if item["row"] is None:
        return f"the image {name}"
    return f"the image in {item['column']}, row {item['row']} of row group {item['row_group']}, of {name}"


def write_dropped(path: Path, items: list[pl.DataFrame]) -> None:
    """List items that could not be encoded as CSV, one row an item; a header alone where there are none."""
    empty = pl.DataFrame(schema=dict.fromkeys(DROPPED_COLUMNS, pl.String))
    rows = (each.select(pl.col(DROPPED_COLUMNS).cast(pl.String)) for each in items)
    write_text(path, pl.concat([empty, *rows]).write_csv())


def encode_with_ray(stage: str, dataset: str, device: str) -> None:
    """Encode what is missing on the Ray cluster of RAY_ADDRESS or on this machine, as ranks do.

    Every machine of the cluster must see the store and the working folder. Ray starts the task of a lost
    worker again; what that had finished is in the store, so nothing is encoded twice but the group in work.

    Args:
        stage: The module whose `main(dataset, rank, world)` encodes a share.
        dataset: Its name.
        device: cpu or cuda; with cuda each worker has a GPU of its own.

    Raises:
        PipelineError: If Ray is not installed or cannot start, or a worker is lost too often.
    """

    # Made inside this function, so that Ray sends its code: a worker can import no module of ours before it
    # knows where they lie.
    def encode_share(source: str, folder: str, environ: dict[str, str], rank: int, world: int) -> str:
        sys.path.insert(0, source)
        os.environ.update(environ)
        os.chdir(folder)
        from pal.errors import PalError

        try:
            import_module(stage).main(dataset, rank, world)
        except PalError as error:
            return str(error)
        return ""

    with _ray() as ray:
        resources = ray.cluster_resources()
        count = max(1, int(resources.get("GPU" if device == "cuda" else "CPU", 1)))
        needs = {"num_gpus": 1} if device == "cuda" else {"num_cpus": RAY_CPUS}
        task = ray.remote(max_retries=RAY_RETRIES, **needs)(encode_share)
        environ = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        source = str(Path(__file__).parents[2])
        print(f"encode@{dataset}: {count} workers by Ray")
        results = [task.remote(source, str(Path.cwd()), environ, rank, count) for rank in range(count)]
        try:
            reasons = ray.get(results)
        except ray.exceptions.WorkerCrashedError:
            raise PipelineError(
                f"a worker of encode.engine ray was lost {RAY_RETRIES + 1} times; what it finished is in the "
                "store, so run the stage again, or set encode.engine to torch"
            ) from None
    for reason in filter(None, reasons):
        raise PipelineError(reason)


@contextmanager
def _ray() -> Iterator[Any]:
    """Ray, connected, or started here on the loopback address for as long as the block lasts."""
    elsewhere = os.environ.get("RAY_ADDRESS", "local") != "local"
    for name, value in (RAY_QUIET if elsewhere else RAY_QUIET | RAY_LOCAL).items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise PipelineError(
            "encode.engine ray needs the package ray; run `pip install -e '.[ray]'`, or set it to torch"
        ) from None
    options = {} if elsewhere else {"include_dashboard": False}
    try:
        ray.init("auto" if elsewhere else "local", log_to_driver=False, configure_logging=False, **options)
    except (OSError, RuntimeError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"encode.engine ray could not start Ray ({reason}); set the engine to torch"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()
