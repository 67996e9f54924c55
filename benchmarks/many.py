"""Many heads at once: a grid of K and seeds by `fit_many`, against a loop of `fit`, on one thread.

The task has the shape of Persona, on random unit vectors of the encoder's width: 3,000 statements of three
groups, two responses (yes and no) that are items too, a fresh set of users and answers for each seed. Model
B, latent 16, preset `ours`, one start a job. Both roads give the same heads up to rounding; the ratio of
their CPU seconds comes from one process, interleaved, so that a disturbed machine disturbs both.

The last rows: one start of the largest Persona grid (six groups of 1,000 users, 1,000 answers each, 6,000
statements) for some K, a few steps of it, and what K = 1 to 8 with five seeds and the preset's restarts come
to on two cores with 300 steps each. About five minutes on a quiet core.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.table import Row, Section, show
from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig, preset
from pal.fitting.fit import Fitted, fit, margins
from pal.fitting.many import Job, fit_many

SEEDS, WIDTH, ROUNDS = range(5), 384, 2
KS, STEPS = range(1, 7), 20
# Of the large grid an epoch is 30 steps, and runs are whole epochs.
LARGE_KS, LARGE_STEPS, RUN, CORES = (1, 4, 8), (30, 90), 300, 2


def measure(*, seeds: range = SEEDS, ks: range = KS, users: int = 100, answers: int = 100) -> Section:
    """Both roads on one thread; torch's setting is put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = [*_grid("small", seeds, ks, users, answers), *_grid("many answers", range(2), ks, users, 1000)]
        rows += _large()
    finally:
        torch.set_num_threads(threads)
    about = {"seeds": len(seeds), "K": f"{ks[0]} to {ks[-1]}", "steps": STEPS, "seconds": "of the CPU"}
    return Section("Many heads at once (3 groups, 3,000 statements, model B)", about, rows)


def study(groups: int, users: int, answers: int, seed: int) -> tuple[Comparisons, int]:
    """Users of groups whose answers are coin flips, agreed within a group; items 0 and 1 are yes and no."""
    generator, n = torch.Generator().manual_seed(seed), 1000 * groups
    says = torch.rand(groups, n, generator=generator) < 0.5
    user = torch.arange(groups * users).repeat_interleave(answers)
    asked = torch.cat([torch.randperm(n, generator=generator)[:answers] for _ in range(groups * users)])
    yes = says[user % groups, asked].long()
    return Comparisons.of(user=user, prompt=asked + 2, chosen=1 - yes, rejected=yes), groups * users


def _vectors(groups: int) -> Embeddings:
    drawn = torch.randn(1000 * groups + 2, WIDTH, generator=torch.Generator().manual_seed(0))
    items = torch.nn.functional.normalize(drawn, dim=1)
    return Embeddings(items, items)


def _configs(K: int, steps: int) -> tuple[HeadConfig, FitConfig]:
    chosen = {"restarts": 1, "epochs": steps, "max_steps": steps}
    return preset("ours", "B", head={"latent": 16, "K": K}, fit=chosen)


def _grid(name: str, seeds: range, ks: range, users: int, answers: int) -> list[Row]:
    embeddings, config = _vectors(3), _configs(1, STEPS)[1]
    jobs = [
        Job(train, n_users, _configs(K, STEPS)[0], seed)
        for seed, (train, n_users) in ((seed, study(3, users, answers, seed)) for seed in seeds)
        for K in ks
    ]
    together, loop = [], []
    for _ in range(ROUNDS):
        together.append(_timed(lambda: fit_many(embeddings, jobs, config=config)))
        loop.append(_timed(lambda: [_alone(embeddings, job, config) for job in jobs]))
    (many, found), (one, alone) = (min(runs, key=lambda run: run[0]) for runs in (together, loop))
    apart = max(_apart(embeddings, *each) for each in zip(jobs, found, alone, strict=True))
    what = f"{name}: {len(jobs)} jobs, {len(jobs[0].train):,} answers each"
    return [
        Row(f"{what}: fit_many", many, "s"),
        Row("  a loop of fit", one, "s"),
        Row("  loop / fit_many", one / many, "x"),
        Row("  largest difference in accuracy", apart, at_most=1.0, note="after these few steps"),
    ]


def _large() -> list[Row]:
    embeddings = _vectors(6)
    train, n_users = study(6, 1000, 1000, 0)
    a_step = {}
    for K in LARGE_KS:  # two lengths: their difference is free of what is done once
        seconds = []
        for steps in LARGE_STEPS:
            head, config = _configs(K, steps)
            job = Job(train, n_users, head, 0)
            run = partial(fit_many, embeddings, [job], config=config)
            seconds.append(_timed(run)[0])
        a_step[K] = max(0.0, seconds[1] - seconds[0]) / (LARGE_STEPS[1] - LARGE_STEPS[0])
        once = seconds[0] - LARGE_STEPS[0] * a_step[K]
    slope = (a_step[8] - a_step[1]) / 7
    runs = len(SEEDS) * preset("ours", "B")[1].restarts
    total = sum(RUN * (a_step[1] + slope * (K - 1)) + once for K in range(1, 9)) * runs / CORES / 60
    rows = [Row(f"6,000 users x 1,000: a step at K={K}", 1000 * a_step[K], "ms") for K in LARGE_KS]
    return [*rows, Row("  K=1..8, 5 seeds, 2 starts, 300 steps, two cores", total, "min", at_most=45)]


def _timed(job: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = job()
    return time.process_time() - start, found


def _alone(embeddings: Embeddings, job: Job, config: FitConfig) -> Fitted:
    return fit(embeddings, job.train, n_users=job.n_users, head=job.head, config=config, seed=job.seed)


def _apart(embeddings: Embeddings, job: Job, found: Fitted, alone: Fitted) -> float:
    """Difference in training accuracy, in per cent."""
    with torch.inference_mode():
        accuracies = [
            float((margins(one.head, one.weights, embeddings, job.train) > 0).double().mean())
            for one in (found, alone)
        ]
    return 100 * abs(accuracies[0] - accuracies[1])


if __name__ == "__main__":
    show(measure())
