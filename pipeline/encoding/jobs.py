"""What is to be encoded; how processes share it, as ranks of torchrun or SLURM or workers of Ray; and texts.

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
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from tqdm import tqdm

from pipeline import PipelineError

if TYPE_CHECKING:
    from pal.encoders import Described, TextEncoder
    from pal.encoders.vector_store import EmbeddingStore
    from pipeline.params import Encode

LEAST_ROWS = 512
MOST_ROWS = 16_384
GROUPS = 1_000  # in a large job: a kill then loses a thousandth of it, and the store has few files
TEXTS_AT_ONCE = 100_000  # as Python objects
# The variables in which launchers tell a process its number and how many there are.
LAUNCHERS = {"torchrun": ("RANK", "WORLD_SIZE"), "SLURM": ("SLURM_PROCID", "SLURM_NTASKS")}

RAY_CPUS = 0.5  # of a worker without a GPU: with a whole one each, nothing would be left for Ray's own tasks
RAY_RETRIES = 4  # times that the task of a lost worker is started again
PASSED_ON = ("PAL_STORE", "DVC_ROOT", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")
RAY_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# A cluster of one machine: Ray then listens on the loopback address alone. Naming that address to `init` does
# not do it: Ray takes the machine's outer one in its place.
RAY_LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@dataclass(frozen=True)
class Share:
    """One process's part of the work: its number from 0, of how many, and what says so, in words."""

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

    A stage that DVC runs does everything whatever a launcher says, since DVC expects its output; so does
    --world 1, also under a launcher.

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


def group_rows(count: int) -> int:
    """Items in a group, of a list of so many: a thousandth of it, within bounds."""
    return max(LEAST_ROWS, min(count // GROUPS, MOST_ROWS))


@dataclass(frozen=True)
class Job:
    """What is to be encoded, by what, and into what: of one modality, text or image, of one dataset."""

    dataset: str
    modality: str
    items: pl.DataFrame
    encoder: "Described"
    store: "EmbeddingStore"
    ids: np.ndarray  # of the items, in ascending order
    missing: np.ndarray  # which of them were not in the store at the start
    share: Share

    def store_missing(self, rows: np.ndarray, vectors: np.ndarray) -> int:
        """Of a group's rows and vectors, store those whose items were missing; how many these are."""
        missing = self.missing[rows]
        if missing.any():
            self.store.add(self.ids[rows[missing]], vectors[missing])
        return int(missing.sum())


def encode_texts(job: Job, encoder: "TextEncoder", options: "Encode") -> dict[int, str]:
    """Encode the groups of this process's share that hold a missing text, and store what was missing.

    Batches are of texts of like length under a token budget (dynamic batching). Returns the rows of missing
    texts that cannot be encoded, of all shares, and why.
    """
    from pal.encoders import batches, complaint

    texts = job.items["text"].fill_null("")
    lengths, faults = np.full(len(texts), -1, dtype=np.int64), {}  # in tokens; a bad text has length -1
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        block = dict(enumerate(texts.slice(start, TEXTS_AT_ONCE).to_list(), start))
        bad = {row: fault for row, text in block.items() if (fault := complaint(text))}
        good = [row for row in block if row not in bad]
        lengths[good] = encoder.lengths([block[row] for row in good])
        faults |= bad
    # Of all texts, whatever is stored already: the store changes no batch.
    edges = np.array(batches(np.sort(lengths[lengths >= 0]).tolist(), options.tokens_per_batch))
    order = np.argsort(lengths, kind="stable")[len(faults) :]  # ids ascend
    starts = group_starts(edges, group_rows(len(order)))
    with tqdm(total=int(job.missing.sum()), desc="encode", unit="text") as bar:
        # Strided: costs rise along the groups, so that each process has some of all lengths.
        for group in job.share.strided(len(starts) - 1):
            batch_edges = edges[starts[group] : starts[group + 1] + 1]
            rows = order[batch_edges[0] : batch_edges[-1]]
            if not job.missing[rows].any():
                continue
            ends = pairwise(batch_edges)
            vectors = [encoder.encode(texts.gather(order[start:end]).to_list()) for start, end in ends]
            bar.update(job.store_missing(rows, np.concatenate(vectors)))
    return {row: fault for row, fault in faults.items() if job.missing[row]}


def group_starts(edges: np.ndarray, rows: int) -> np.ndarray:
    """Batches in groups, closed once they have `rows` items: with which batches they begin, and the end.

    `edges` say where batches begin, and where the last ends.
    """
    starts = [0]
    while edges[starts[-1]] < edges[-1]:
        end = np.searchsorted(edges, edges[starts[-1]] + rows)
        starts.append(min(int(end), len(edges) - 1))
    return np.array(starts, dtype=np.int64)


def encode_with_ray(stage: str, dataset: str, device: str) -> None:
    """Encode what is missing on the Ray cluster of RAY_ADDRESS or on this machine, as ranks do.

    Every machine of the cluster must see the store and the working folder. Ray starts the task of a lost
    worker again; what that had finished is in the store, so nothing is encoded twice but the group in work.
    `stage` is the module whose `main(dataset, rank, world)` encodes a share; with the device cuda each worker
    has a GPU of its own.
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
