"""Studies drawn, split and encoded by the pipeline's own stages, in a folder of their own.

Texts are encoded through the pipeline's store, once: later runs find them there.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir, contextmanager, redirect_stdout
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import yaml

from pipeline import params, paths, study
from pipeline.params import Params
from pipeline.stages import download, encode, prepare, recolour, split
from pipeline.study import Study

ROOT = Path(__file__).parents[1]
SEEDS = (0, 1, 2)


def real_persona() -> Path | None:
    """Anthropic's Persona files: PAL_PERSONA, or `../shared/data/persona` beside the repository."""
    folder = Path(os.environ.get("PAL_PERSONA") or ROOT.parent / "shared/data/persona").resolve()
    return folder if (folder / "interest-in-art.jsonl").is_file() else None


def values(dataset: str, seed: int, *, source: str | None = None, **knobs: Any) -> Params:
    """params.yaml with one seed for drawing and training alike, and a dataset's `prepare` knobs changed."""
    with chdir(ROOT):
        given = params.load()
    section: dict[str, Any] = {"prepare": given[dataset].prepare.model_copy(update=knobs)}
    if source is not None:
        section["source"] = source
    return given.model_copy(
        update={
            "prepare": given.prepare.model_copy(update={"seed": seed}),
            "train": given.train.model_copy(update={"seed": seed}),
            dataset: given[dataset].model_copy(update=section),
        }
    )


def draw(dataset: str, given: Params) -> Study:
    """Run the stages from download to encode, and load what they wrote."""
    with staged(dataset, given.model_dump(mode="json")):
        return study.load(dataset)


@contextmanager
def staged(dataset: str, given: dict[str, Any]) -> Iterator[None]:
    """Run the stages from download to encode in a folder of their own; the block runs inside it."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), redirect_stdout(StringIO()):
        paths.PARAMS.write_text(yaml.safe_dump(given), encoding="utf-8")
        for stage in (download, prepare, recolour, split, encode):
            stage.main(dataset)
        yield


def in_parallel(job: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Results of a job for each tuple of arguments, in order; a process and one thread per core."""
    tuples = list(arguments)
    workers = min(os.cpu_count() or 1, len(tuples))
    with ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) as pool:
        return list(pool.map(job, *zip(*tuples, strict=True)))


def _one_thread() -> None:
    torch.set_num_threads(1)
