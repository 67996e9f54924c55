"""The fits of an experiment, one after the other; other work in processes."""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch

from pal.config import FitConfig, HeadConfig
from pal.fitting.trainer import Fitted, fit
from pipeline.study import Study, pick_device


@dataclass(frozen=True)
class Task:
    """One head to fit to the seen users of one study."""

    data: Study
    head: HeadConfig
    config: FitConfig
    seed: int


def fit_all(tasks: list[Task]) -> list[Fitted]:
    """Fit every task, in order."""
    return [fit_task(task) for task in tasks]


def fit_task(task: Task) -> Fitted:
    """Fit one task."""
    return fit(
        task.data.embeddings,
        task.data.select("seen", "train"),
        n_users=task.data.n_users("seen"),
        head=task.head,
        config=task.config,
        val=task.data.select("seen", "val"),
        seed=task.seed,
        device=pick_device("auto", "device"),
    )


def in_processes(job: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], workers: int) -> list[Any]:
    """Results of a job for each tuple of arguments, in order; one thread a process."""
    tuples = list(arguments)
    if min(workers, len(tuples)) < 2:
        return [job(*each) for each in tuples]
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return list(pool.map(job, *zip(*tuples, strict=True)))
