"""Encode on a Ray cluster: actors put shares of the items into the store, as ranks do; lost ones come again.

Every machine of the cluster must see the store and the working folder. Ray only starts workers: what a lost
one had finished is in the store, and its share is taken up from there. So although Ray may run a task again,
nothing is encoded twice but the group that was in work.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

CPUS = 0.5  # of an actor without a GPU: with a whole one each, nothing would be left for Ray's own tasks
RESTARTS = 4  # times that a lost actor is started again, and its task
PASSED_ON = ("PAL_STORE", "DVC_ROOT", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")
SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# A cluster of one machine: Ray then listens on the loopback address alone. Naming that address to `init` does
# not do it: Ray takes the machine's outer one in its place.
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def fill(dataset: str, device: str) -> None:
    """Put what is missing of a dataset into the store, on the cluster of RAY_ADDRESS or on this machine.

    Args:
        dataset: Its name.
        device: cpu or cuda; with cuda each actor has a GPU of its own.

    Raises:
        PipelineError: If Ray is not installed or cannot start, or an actor is lost too often.
    """
    with _cluster() as ray:
        there = ray.cluster_resources()
        count = max(1, int(there.get("GPU" if device == "cuda" else "CPU", 1)))
        resources = {"num_gpus": 1} if device == "cuda" else {"num_cpus": CPUS}
        actor = ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS, **resources)(_worker())
        environ = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        source = str(Path(__file__).parents[2])
        working = {
            (one := actor.remote(source, str(Path.cwd()), environ)).fill.remote(dataset, rank, count): one
            for rank in range(count)
        }
        print(f"encode@{dataset}: {count} workers by Ray")
        while working:
            (done,), _ = ray.wait(list(working))
            working.pop(done)  # with its actor, whose place one that was lost elsewhere may need
            _result(ray, done)


def _result(ray: Any, done: Any) -> None:
    try:
        reason = ray.get(done)
    except ray.exceptions.RayActorError:
        raise PipelineError(
            f"a worker of encode.engine ray was lost {RESTARTS + 1} times; what it finished is in the store, "
            "so run the stage again, or set encode.engine to torch"
        ) from None
    if reason:
        raise PipelineError(reason)


def _worker() -> type:
    """The actor's class: made here, since a worker can import no module before it knows where we lie."""

    class Worker:
        """Encodes shares into the store."""

        def __init__(self, source: str, folder: str, environ: dict[str, str]) -> None:
            sys.path.insert(0, source)
            os.environ.update(environ)
            os.chdir(folder)

        def fill(self, dataset: str, rank: int, world: int) -> str:
            """Encode one share; what a user can mend, in a sentence."""
            from pal.errors import PalError
            from pipeline.stages import encode

            try:
                encode.main(dataset, rank, world)
            except PalError as error:
                return str(error)
            return ""

    return Worker


@contextmanager
def _cluster() -> Iterator[Any]:
    """Ray, connected, or started here on the loopback address for as long as the block lasts."""
    elsewhere = os.environ.get("RAY_ADDRESS", "local") != "local"
    for name, value in (SILENT if elsewhere else SILENT | ALONE).items():
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
