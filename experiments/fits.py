"""Many fits at once: through `pal.fitting.many` where the heads allow it, one after the other where not.

Studies that differ in their items alone are put side by side first, so that seeds share one computation.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import torch

from pal.comparisons import Comparisons, Embeddings, Questions
from pal.config import FitConfig, HeadConfig
from pal.fitting.fit import Fitted, fit
from pipeline.study import Study, pick_device

try:
    from pal.fitting.many import Job, fit_many
except ImportError:  # fits run one after the other then
    fit_many = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Task:
    """One head to fit to the seen users of one study."""

    data: Study
    head: HeadConfig
    config: FitConfig
    seed: int


def fit_all(tasks: list[Task]) -> list[Fitted]:
    """Fit every task, in order; the same results whichever way they are computed."""
    if fit_many is None:
        return [_alone(task) for task in tasks]
    together: dict[str, list[int]] = {}
    for place, task in enumerate(tasks):
        together.setdefault(_kind(task), []).append(place)
    found: dict[int, Fitted] = {}
    for places in together.values():
        found |= zip(places, _many([tasks[place] for place in places]), strict=True)
    return [found[place] for place in range(len(tasks))]


def _kind(task: Task) -> str:
    """What tasks must share to be one computation: everything but K, data and seed."""
    return f"{task.config!r} {task.head.model_copy(update={'K': 1})!r} {task.data.dataset}"


def _alone(task: Task) -> Fitted:
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


def _many(tasks: list[Task]) -> list[Fitted]:
    studies = {id(task.data): task.data for task in tasks}
    embeddings, moved = side_by_side(list(studies.values()))
    parts = dict(zip(studies, moved, strict=True))
    jobs = []
    for task in tasks:
        train, val = parts[id(task.data)]
        jobs.append(
            Job(train=train, n_users=task.data.n_users("seen"), head=task.head, val=val, seed=task.seed)
        )
    return fit_many(embeddings, jobs, config=tasks[0].config, device=pick_device("auto", "device"))


def side_by_side(studies: list[Study]) -> tuple[Embeddings, list[tuple[Comparisons, Comparisons]]]:
    """One table of embeddings for several studies, and each one's train and val comparisons within it.

    Studies of the same items share their rows; others come one after the other.
    """
    tables: list[Embeddings] = []
    starts: list[tuple[int, int]] = []
    parts = []
    for data in studies:
        here = next((i for i, table in enumerate(tables) if _same(table, data.embeddings)), None)
        if here is None:
            here = len(tables)
            starts.append((sum(len(t.prompts) for t in tables), sum(len(t.responses) for t in tables)))
            tables.append(data.embeddings)
        parts.append([_moved(data.select("seen", split), *starts[here]) for split in ("train", "val")])
    if len(tables) == 1:
        return tables[0], [(train, val) for train, val in parts]
    whole = Embeddings(*(torch.cat([getattr(t, side) for t in tables]) for side in ("prompts", "responses")))
    return whole, [(train, val) for train, val in parts]


def _same(one: Embeddings, other: Embeddings) -> bool:
    return all(torch.equal(getattr(one, side), getattr(other, side)) for side in ("prompts", "responses"))


def _moved(comparisons: Comparisons, prompts: int, responses: int) -> Comparisons:
    """The same comparisons where items begin at other rows."""
    if not (prompts or responses):
        return comparisons
    q = comparisons.questions
    prompt = torch.where(q.prompt < 0, q.prompt, q.prompt + prompts)
    return replace(comparisons, questions=Questions(prompt, q.first + responses, q.second + responses))


def in_processes(job: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], workers: int) -> list[Any]:
    """Results of a job for each tuple of arguments, in order; one thread a process."""
    tuples = list(arguments)
    if min(workers, len(tuples)) < 2:
        return [job(*each) for each in tuples]
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return list(pool.map(job, *zip(*tuples, strict=True)))
