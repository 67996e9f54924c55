"""Many heads at once: a grid of seeds and K on the same embeddings as one batched computation.

Jobs of one K, and of as many batches an epoch, are stacked: every layer is one product for all of them, every
step one call of the optimiser. A job means what `fit` means with its arguments: the same start, the
same batches, its own best look, its own patience, the best of its restarts; its result does not depend on
which jobs stand beside it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from pal.comparisons import Comparisons, Embeddings, Questions, distinct_rows
from pal.config import FitConfig, HeadConfig
from pal.errors import PalError
from pal.fitting.asked import Asked
from pal.fitting.fit import Fitted, check_task, fit
from pal.fitting.objectives import simplex_grid, user_balanced
from pal.fitting.tries import Job as Job
from pal.fitting.tries import Try, fit_chunk

CELLS_AT_ONCE = 1 << 22  # numbers of one step's activations: bounds memory; for speed 2^20 to 2^22 are alike

Done = Callable[[int, int], None]


def fit_many(
    embeddings: Embeddings,
    jobs: Sequence[Job],
    *,
    config: FitConfig,
    device: torch.device | str = "cpu",
    progress: Done | None = None,
) -> list[Fitted]:
    """Fit every job, as `fit` would each.

    Results equal those of `fit` up to rounding, but for three things: with dropout and batches other numbers
    are drawn; with objective `mixture` and batches, the users are dealt into batches once; and each epoch of
    `mixture` reads all questions, whatever a batch asks. Jobs are fitted one by one with precision
    `bfloat16`, and with `mixture` where a batch asks few of the questions, as in a simulation.

    Args:
        embeddings: Frozen-encoder outputs that all jobs' comparisons point into; see `joined` for several.
        jobs: What to fit. Those that share a `train` share the counts of its answers.
        config: How to fit all of them.
        device: Where to compute.
        progress: Called with how many fits are done, restarts among them, and how many there are.

    Returns:
        One result for each job, in their order.

    Raises:
        PalError: If the jobs' heads differ in more than K, or as `fit`.
    """
    _check_alike(jobs)
    if config.precision != "float32" or any(_reads_in_vain(job, config) for job in jobs):
        return _one_by_one(embeddings, jobs, config, device, progress)
    for job in jobs:
        check_task(job.train, job.n_users, job.head, job.weights)
    embeddings, moved = embeddings.to(device), _Moved(device, config)
    tries = [
        Try(number, replace(job, train=moved.train(job), val=moved.val(job)), job.seed + restart)
        for number, job in enumerate(jobs)
        for restart in range(config.restarts)
    ]
    best: list[Fitted | None] = [None] * len(jobs)
    done = 0
    asked: dict[tuple[int, int], Asked] = {}
    for chunk in _chunks(tries, config, asked):
        for one, fitted in zip(chunk, fit_chunk(embeddings, chunk, config, asked, device), strict=True):
            kept = best[one.number]
            if kept is None or fitted.train_loss < kept.train_loss:
                best[one.number] = fitted
        done += len(chunk)
        if progress is not None:
            progress(done, len(tries))
    return [fitted for fitted in best if fitted is not None]


def joined(
    embeddings: Sequence[Embeddings], jobs: Sequence[Job], of: Sequence[int]
) -> tuple[Embeddings, list[Job]]:
    """Several tables of equal width as one, and the jobs with their rows renumbered.

    Args:
        embeddings: The tables, as of one simulation per seed.
        jobs: Jobs whose comparisons point each into one of them.
        of: For each job, which.
    """
    prompts = torch.cat([tables.prompts for tables in embeddings])
    responses = torch.cat([tables.responses for tables in embeddings])
    moved: dict[tuple[int, int], Comparisons] = {}

    def shift(comparisons: Comparisons | None, table: int) -> Comparisons | None:
        if comparisons is None:
            return None
        if (id(comparisons), table) not in moved:
            before = embeddings[:table]
            p, r = sum(len(x.prompts) for x in before), sum(len(x.responses) for x in before)
            q = comparisons.questions
            prompt = torch.where(q.prompt < 0, q.prompt, q.prompt + p)
            questions = Questions(prompt, q.first + r, q.second + r)
            moved[id(comparisons), table] = replace(comparisons, questions=questions)
        return moved[id(comparisons), table]

    return Embeddings(prompts, responses), [
        replace(job, train=shift(job.train, table), val=shift(job.val, table))
        for job, table in zip(jobs, of, strict=True)
    ]


class _Moved:
    """Comparisons on the device, weighted as the config says; jobs that share them share the copy."""

    def __init__(self, device: torch.device | str, config: FitConfig) -> None:
        self.device, self.by_user = device, config.weighting == "users"
        self.found: dict[tuple[int, int], tuple[Comparisons, Comparisons]] = {}

    def train(self, job: Job) -> Comparisons:
        """A job's training comparisons."""
        return self._of(job.train, job.n_users if self.by_user else 0)

    def val(self, job: Job) -> Comparisons | None:
        """A job's validation comparisons, or None where there are none."""
        return self._of(job.val, 0) if job.val is not None and len(job.val) else None

    def _of(self, comparisons: Comparisons, balanced: int) -> Comparisons:
        key = id(comparisons), balanced
        if key not in self.found:
            there = comparisons.to(self.device)
            there = user_balanced(there, balanced) if balanced else there
            self.found[key] = (comparisons, there)  # the original too, so that its id stays its own
        return self.found[key][1]


def _check_alike(jobs: Sequence[Job]) -> None:
    for number, job in enumerate(jobs):
        if job.head.model_copy(update={"K": 1}) != jobs[0].head.model_copy(update={"K": 1}):
            raise PalError(
                f"the heads of jobs may differ in K alone, got {job.head!r} in job {number} beside "
                f"{jobs[0].head!r}; fit heads of another shape in a call of their own"
            )


def _reads_in_vain(job: Job, config: FitConfig) -> bool:
    """Whether reading every question at each step costs far more than the batch's own would."""
    if config.objective != "mixture" or not config.batch_size or config.batch_size >= len(job.train):
        return False
    if job.weights is not None or job.head.K == 1:
        return False
    return len(distinct_rows(job.train.question, len(job.train.questions))[0]) > 2 * config.batch_size


def _one_by_one(
    embeddings: Embeddings,
    jobs: Sequence[Job],
    config: FitConfig,
    device: torch.device | str,
    progress: Done | None,
) -> list[Fitted]:
    found = []
    for job in jobs:
        found.append(_alone(embeddings, job, config, device))
        if progress is not None:
            progress(len(found) * config.restarts, len(jobs) * config.restarts)
    return found


def _alone(embeddings: Embeddings, job: Job, config: FitConfig, device: torch.device | str) -> Fitted:
    return fit(
        embeddings,
        job.train,
        n_users=job.n_users,
        head=job.head,
        config=config,
        val=job.val,
        weights=job.weights,
        device=device,
        seed=job.seed,
    )


def _chunks(
    tries: Sequence[Try], config: FitConfig, asked: dict[tuple[int, int], Asked]
) -> Iterator[list[Try]]:
    """Tries that can be stacked, so many at once that memory stays bounded; the costly ones first."""
    groups: dict[tuple[int, bool, int], list[Try]] = {}
    for one in tries:
        job, n = one.job, len(one.job.train)
        n_batches = -(-n // min(config.batch_size or n, n))
        fixed = job.weights is not None or job.head.K == 1
        if config.objective == "mixture" and not fixed:
            n_batches = min(n_batches, job.n_users)
        key = (id(job.train), n_batches)
        if key not in asked:
            asked[key] = Asked(job.train, job.n_users, n_batches)
        groups.setdefault((job.head.K, fixed, n_batches), []).append(one)
    for (_, fixed, n_batches), group in sorted(groups.items(), key=lambda item: -item[0][0]):
        chunk: list[Try] = []
        cells = 0
        for one in sorted(group, key=lambda one: -len(one.job.train)):
            more = _cells(asked[id(one.job.train), n_batches], one.job.head, config, fixed=fixed)
            if chunk and cells + more > CELLS_AT_ONCE:
                yield chunk
                chunk, cells = [], 0
            chunk.append(one)
            cells += more
        yield chunk


def _cells(asked: Asked, head: HeadConfig, config: FitConfig, *, fixed: bool) -> int:
    """About how many numbers one step of a try keeps: first layers of its items, margins of its questions."""
    width = head.latent + (head.hidden if head.hidden_layers else 0)
    q = len(asked.questions)
    if config.objective == "mixture" and not fixed:
        return q * (head.K * width + 2 * len(simplex_grid(head.K, config.grid_points)))
    b = min(config.batch_size or len(asked.train), len(asked.train))
    return b * (2 + head.K) * width
