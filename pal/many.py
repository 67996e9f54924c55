"""Many heads at once: a grid of seeds and K on the same embeddings as one batched computation.

Jobs of one K, and of as many batches an epoch, are stacked: every layer is one product for all of them, every
step one call of the optimiser. A job means what `pal.fit.fit` means with its arguments: the same start, the
same batches, its own best look, its own patience, the best of its restarts; its result does not depend on
which jobs stand beside it.

Shapes used in this module:
    users   seen users
    K       prototypes
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from pal.asked import Asked
from pal.comparisons import Comparisons, Embeddings, Questions
from pal.config import FitConfig, HeadConfig
from pal.errors import PalError
from pal.fit import Fitted, check_finite, check_task, fit, make_optimiser, make_schedule, mean_loss, validate
from pal.heads import Head, make_head
from pal.objectives import simplex_grid
from pal.stacked import HeadStack
from pal.stacked_objectives import StackedMixture, StackedObjective, StackedPerComparison

CELLS_AT_ONCE = 1 << 22  # numbers of one step's activations: beyond, the cache is left and nothing is gained

Done = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """One fit: what `pal.fit.fit` takes, less what all jobs share.

    Args:
        train: Comparisons of the seen users.
        n_users: Seen users; rows of the weights table.
        head: The head's shape; K alone may differ between jobs.
        seed: Makes everything random.
        val: Comparisons that choose the epoch; None keeps the last.
        weights: Weights to hold fixed; None learns them.
    """

    train: Comparisons
    n_users: int
    head: HeadConfig
    seed: int = 0
    val: Comparisons | None = None
    weights: Float[Tensor, "users K"] | None = None


def fit_many(
    embeddings: Embeddings,
    jobs: Sequence[Job],
    *,
    config: FitConfig,
    device: torch.device | str = "cpu",
    progress: Done | None = None,
) -> list[Fitted]:
    """Fit every job, as `pal.fit.fit` would each.

    Results equal those of `fit` up to rounding, but for three things: with dropout and batches other numbers
    are drawn; with objective `mixture` and batches, the users are dealt into batches once; and each epoch of
    `mixture` reads all questions, whatever a batch asks. With precision `bfloat16` the jobs are fitted one by
    one.

    Args:
        embeddings: Frozen-encoder outputs that all jobs' comparisons point into; see `joined` for several.
        jobs: What to fit. Those that share a `train` share the counts of its answers.
        config: How to fit all of them.
        device: Where to compute.
        progress: Called with how many fits are done, restarts among them, and how many there are.

    Returns:
        One result for each job, in their order.

    Raises:
        PalError: If the jobs' heads differ in more than K, or as `pal.fit.fit`.
    """
    _check_alike(jobs)
    if config.precision != "float32":
        return [_alone(embeddings, job, config, device) for job in jobs]
    embeddings, moved = embeddings.to(device), _Moved(device)
    tries = [
        _Try(number, replace(job, train=moved(job.train), val=job.val and moved(job.val)), job.seed + restart)
        for number, job in enumerate(jobs)
        for restart in range(config.restarts)
    ]
    for one in tries[:: config.restarts]:
        check_task(one.job.train, one.job.n_users, one.job.head, one.job.weights)
    best: list[Fitted | None] = [None] * len(jobs)
    done = 0
    asked: dict[tuple[int, int], Asked] = {}
    for chunk in _chunks(tries, config, asked):
        for one, fitted in zip(chunk, _fit_chunk(embeddings, chunk, config, asked, device), strict=True):
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


@dataclass(frozen=True)
class _Try:
    """One start of a job: the job's number, the job, and the seed of this start."""

    number: int
    job: Job
    seed: int


class _Moved:
    """Comparisons on the device; jobs that share them share the copy."""

    def __init__(self, device: torch.device | str) -> None:
        self.device, self.found = device, {}

    def __call__(self, comparisons: Comparisons) -> Comparisons:
        key = id(comparisons)
        if key not in self.found:  # the original is kept too, so that its id stays its own
            self.found[key] = (comparisons, comparisons.to(self.device))
        return self.found[key][1]


def _check_alike(jobs: Sequence[Job]) -> None:
    for number, job in enumerate(jobs):
        if job.head.model_copy(update={"K": 1}) != jobs[0].head.model_copy(update={"K": 1}):
            raise PalError(
                f"the heads of jobs may differ in K alone, got {job.head!r} in job {number} beside "
                f"{jobs[0].head!r}; fit heads of another shape in a call of their own"
            )


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
    tries: Sequence[_Try], config: FitConfig, asked: dict[tuple[int, int], Asked]
) -> Iterator[list[_Try]]:
    """Tries that can be stacked, so many at once that memory stays bounded; the costly ones first."""
    groups: dict[tuple[int, bool, int], list[_Try]] = {}
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
        chunk: list[_Try] = []
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


def _fit_chunk(
    embeddings: Embeddings,
    chunk: Sequence[_Try],
    config: FitConfig,
    asked: dict[tuple[int, int], Asked],
    device: torch.device | str,
) -> list[Fitted]:
    first = chunk[0].job
    fixed = first.weights is not None or first.head.K == 1
    mixture = config.objective == "mixture" and not fixed
    starts = [_start(embeddings, one, mixture=mixture, fixed=fixed, device=device) for one in chunk]
    heads = [head for head, _, _ in starts]
    stack = HeadStack(heads, [generator for _, _, generator in starts])
    n = len(first.train)
    n_batches = -(-n // min(config.batch_size or n, n))
    n_batches = min(n_batches, first.n_users) if mixture else n_batches
    mine = [asked[id(one.job.train), n_batches] for one in chunk]
    if mixture:
        objective: StackedObjective = StackedMixture(embeddings, mine, stack, config)
    else:
        tables = [table.to(device) for _, table, _ in starts]
        kind = {"given": tables} if fixed else {"logits": tables}
        objective = StackedPerComparison(embeddings, mine, stack, config, **kind)
    runs = [_Run(one, head) for one, head in zip(chunk, heads, strict=True)]
    _descend(objective, runs, embeddings, config)
    return [run.fitted(embeddings, config) for run in runs]


def _start(
    embeddings: Embeddings, one: _Try, *, mixture: bool, fixed: bool, device: torch.device | str
) -> tuple[Head, Tensor, torch.Generator]:
    """Head, table of weights or logits, and generator, all as `fit` has them when it starts to descend."""
    job = one.job
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(one.seed)
        widths = {"prompt_dim": embeddings.prompts.shape[1], "response_dim": embeddings.responses.shape[1]}
        head = make_head(job.head, **widths)
        for comparisons in (job.train, job.val):
            if comparisons is not None:
                comparisons.check(embeddings, n_users=job.n_users, needs_prompts=head.needs_prompts)
        table = torch.ones(job.n_users, 1) if job.head.K == 1 else job.weights
        if table is None:
            table = torch.empty(0) if mixture else 0.01 * torch.randn(job.n_users, job.head.K)
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
    return head.to(device), table, generator


class _Run:
    """How one try is going: its looks, and its best one."""

    def __init__(self, one: _Try, head: Head) -> None:
        self.one, self.head = one, head.eval()
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, float] | None = None
        self.state: dict[str, Tensor] = {}
        self.weights = torch.empty(0)
        self.looks_since, self.over = 0, False

    def look(
        self,
        objective: StackedObjective,
        job: int,
        epoch: int,
        loss: float,
        config: FitConfig,
        *,
        last: bool,
    ) -> None:
        """Judge this try on its validation comparisons, and keep it where it is the best so far."""
        look = {"epoch": float(epoch), "loss": loss}
        self.history.append(look)
        val = self.one.job.val
        judged = val is not None and len(val) > 0
        if not (judged or last):  # without validation comparisons the last epoch is kept
            return
        state = objective.stack.job_state(job)
        self.head.load_state_dict(state)
        with torch.inference_mode():
            weights = objective.weights(job, self.head).clone()
            if judged:
                look |= validate(self.head, weights, objective.embeddings, val, config)
        score = (look["val_accuracy"], -look["val_loss"]) if judged else (0.0, 0.0)
        self.looks_since += 1
        if self.best is None or score > self.best:
            self.best, self.looks_since, self.state, self.weights = score, 0, state, weights
        self.over = bool(config.patience) and self.looks_since >= config.patience

    def fitted(self, embeddings: Embeddings, config: FitConfig) -> Fitted:
        """The best look, as `fit` leaves it behind."""
        self.head.load_state_dict(self.state)
        with torch.inference_mode():
            loss = mean_loss(self.head, self.weights, embeddings, self.one.job.train, config)
        head = self.head.requires_grad_(requires_grad=False)
        return Fitted(head, self.weights.clone(), check_finite(loss, config.epochs), self.history)


def _descend(
    objective: StackedObjective, runs: Sequence[_Run], embeddings: Embeddings, config: FitConfig
) -> None:
    """Run the epochs; a try whose patience is over is carried along and looked at no more."""
    optimiser = make_optimiser(objective.stack.named_parameters(), objective.parameters, config)
    epochs, every = config.plan(objective.n_batches)
    schedule = make_schedule(optimiser, config, epochs * objective.n_batches)
    for epoch in range(1, epochs + 1):
        totals = torch.zeros(len(runs), device=objective.device)
        for losses in objective.losses((epoch - 1) / epochs, 1 / epochs):
            optimiser.zero_grad(set_to_none=True)
            losses.sum().backward()
            optimiser.step()
            if schedule is not None:
                schedule.step()
            totals += losses.detach()
        means = [check_finite(loss, epoch) for loss in (totals / objective.n_batches).tolist()]
        if epoch % every and epoch < epochs:
            continue
        for job, run in enumerate(runs):
            if not run.over:
                run.look(objective, job, epoch, means[job], config, last=epoch == epochs)
        if all(run.over for run in runs):
            return
