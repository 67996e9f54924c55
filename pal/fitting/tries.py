"""Tries of jobs that are stacked: started as `fit` starts them, descended together, judged alone.

Shapes used in this module:
    users   seen users
    K       prototypes
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig
from pal.fitting.asked import Asked
from pal.fitting.fit import Fitted, check_finite, make_optimiser, make_schedule, mean_loss, score_of, validate
from pal.fitting.stacked import HeadStack
from pal.fitting.stacked_objectives import StackedMixture, StackedObjective, StackedPerComparison
from pal.models.heads import Head, make_head


@dataclass(frozen=True)
class Job:
    """One fit: what `fit` takes, less what all jobs share.

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


@dataclass(frozen=True)
class Try:
    """One start of a job: the job's number, the job, and the seed of this start."""

    number: int
    job: Job
    seed: int


def fit_chunk(
    embeddings: Embeddings,
    chunk: Sequence[Try],
    config: FitConfig,
    asked: dict[tuple[int, int], Asked],
    device: torch.device | str,
) -> list[Fitted]:
    """Fit tries of one K and of as many batches an epoch.

    Args:
        embeddings: Frozen-encoder outputs that all comparisons point into.
        chunk: The tries.
        config: How to fit all of them.
        asked: The comparisons by identity of the training set and number of batches.
        device: Where to compute.
    """
    first = chunk[0].job
    fixed = first.weights is not None or first.head.K == 1
    mixture = config.objective == "mixture" and not fixed
    starts = [_start(embeddings, one, config, mixture=mixture, device=device) for one in chunk]
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
    embeddings: Embeddings, one: Try, config: FitConfig, *, mixture: bool, device: torch.device | str
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
            table = torch.empty(0) if mixture else config.spread * torch.randn(job.n_users, job.head.K)
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
    return head.to(device), table, generator


class _Run:
    """How one try is going: its looks, and its best one."""

    def __init__(self, one: Try, head: Head) -> None:
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
        judged = val is not None
        if not (judged or last):  # without validation comparisons the last epoch is kept
            return
        state = objective.stack.job_state(job)
        self.head.load_state_dict(state)
        with torch.inference_mode():
            weights = objective.weights(job, self.head).clone()
            if judged:
                look |= validate(self.head, weights, objective.embeddings, val, config)
        score = score_of(look, config) if judged else (0.0, 0.0)
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
