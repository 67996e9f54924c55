"""Work done ahead of whoever takes its results: pictures decoded while the encoder is busy."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple


class Done(NamedTuple):
    """A job that was worked on.

    Args:
        job: As it came.
        result: What the work gave; None where it failed.
        error: Why it failed; None where it did not.
    """

    job: Any
    result: Any
    error: Exception | None


def ahead(
    jobs: Iterable[Any], work: Callable[[Any], Any], workers: int = 1, depth: int = 64
) -> Generator[Done, None, None]:
    """Do work on threads ahead of the taker, and hand the results over in the order of the jobs.

    Jobs are taken from their iterator by the taker's thread, a few at a time, so an iterator that reads a
    file need not be safe for threads. Nothing runs before the first result is asked for; when the taker
    stops early, what has not begun is dropped.

    Args:
        jobs: What to work on; need not fit in memory.
        work: Called once for each job, on a worker's thread.
        workers: Threads; 0 does the work on the taker's thread, when asked for.
        depth: Jobs begun and not yet taken, at most.

    Yields:
        One `Done` a job. An exception of the work stands in it, so that the taker may count and go on; an
        exception of the iterator of jobs is raised.
    """
    if workers == 0:
        for job in jobs:
            yield _try(job, work)
        return
    waiting: deque[Future[Done]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ahead")
    try:
        for job in jobs:
            waiting.append(pool.submit(_try, job, work))
            if len(waiting) >= max(depth, workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _try(job: Any, work: Callable[[Any], Any]) -> Done:
    try:
        return Done(job, work(job), None)
    except Exception as error:
        return Done(job, None, error)
