"""How fast a model serves: rewards from embeddings, people located, one more answer, and `import pal`.

The model is Persona's: model B, 384-wide embeddings, latent 16, K = 3, weights drawn at random, its prior at
the 128 points that a prior has at most. Rewards are measured on all cores for a million responses to one
prompt, to prompts in runs of 16, and to as many prompts as responses. 10,000 people are located in two ways:
from tensors in which questions repeat (`locate`), and from as many separate columns, in which nothing is
known to repeat (`adapt_many`). A single user's figures are on one thread: work so small gains nothing from
more.

Every time is the fastest of at least four rounds that were not disturbed, beside the float32 matrix peak
measured before and after (benchmarks/rounds.py). Three minutes on two quiet cores, 5 GB of memory.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch.nn import functional

from benchmarks.rounds import Timed, peak, timed
from benchmarks.studies import ROOT
from benchmarks.table import Row, Section, show
from pal.comparisons import Comparisons, Embeddings
from pal.config import preset
from pal.models.heads import make_head
from pal.serving.inputs import Preferences
from pal.serving.reward_model import RewardModel
from pal.users.adapt import MAX_POINTS, Prior

PEAK = 85.0  # GFLOP/s of float32 products a core, from which on times are judged
DIM, ROWS, RUN = 384, 1_000_000, 16
USERS, SHOTS = 10_000, 20
STARTS = 5


def measure() -> Section:
    """All figures, on as many threads as there are cores; torch's setting is put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        model, table = _model(), _vectors(ROWS, seed=1)
        rows = [*_scores(model, table), *_adapting(model, table)]
        highest = peak.best
        torch.set_num_threads(1)
        peak.best = 0.0  # of one thread from here on
        rows += [*_one_user(model, table), _start()]
    finally:
        torch.set_num_threads(threads)
    about = {
        "model": f"B, K=3, latent 16, {DIM} wide, {MAX_POINTS} points of the prior",
        "threads": f"{os.cpu_count()}; for a single user 1",
        "best float32 matrix peak": f"{highest:.0f} GFLOP/s; on one thread {peak.best:.0f}",
    }
    return Section("Serving: rewards, tastes and start-up, from embeddings", about, rows)


def _model() -> RewardModel:
    head, config = preset("ours", "B", head={"K": 3, "latent": 16})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = make_head(head, prompt_dim=DIM, response_dim=DIM)
        weights = torch.softmax(2 * torch.randn(1000, 3), 1)
    ids = [str(number) for number in range(len(weights))]
    return RewardModel(built, ids, weights, Prior.of(weights), config, {}, DIM, DIM)


def _vectors(n: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(drawn, dim=1)


def _scores(model: RewardModel, table: torch.Tensor) -> list[Row]:
    """One prompt, prompts in runs, and as many prompts as responses."""
    rows = []
    prompts = table.flip(0)
    before = _memory()
    for what, given in (
        ("one prompt", lambda: prompts[:1]),
        (f"prompts in runs of {RUN}", lambda: _in_runs(prompts)),
        ("as many prompts", lambda: prompts),
    ):
        asked = given()
        found = timed(lambda asked=asked: _discard(lambda: model.score(asked, table, user="7")))
        rate = ROWS / found.seconds
        unjudged = _unjudged(found)
        rows.append(
            Row(f"score, {what}", rate, "rows/s", at_least=500_000, note=found.words, unjudged=unjudged)
        )
        if what == "one prompt":
            rows.append(Row("  memory on top", _memory() - before, "MB", note=f"of {table.nbytes / 1e6:.0f}"))
    return rows


def _in_runs(prompts: torch.Tensor) -> torch.Tensor:
    return prompts[: ROWS // RUN].repeat_interleave(RUN, 0)


def _adapting(model: RewardModel, table: torch.Tensor) -> list[Row]:
    generator = torch.Generator().manual_seed(2)
    prompt, chosen = (torch.randint(6000, (USERS * SHOTS,), generator=generator) for _ in range(2))
    rejected = (chosen + torch.randint(1, 6000, chosen.shape, generator=generator)) % 6000
    user = torch.arange(USERS).repeat_interleave(SHOTS)
    shared = Embeddings(table[:6000], table[6000:12_000])

    def locate() -> None:
        comparisons = Comparisons.of(user=user, prompt=prompt, chosen=chosen, rejected=rejected)
        model.locate(shared, comparisons, n_users=USERS)

    sides = [x.view(USERS, SHOTS, DIM) for x in table[: 3 * USERS * SHOTS].chunk(3)]
    many = {str(row): Preferences(*(side[row] for side in sides)) for row in range(USERS)}
    what = f"{USERS:,} users x {SHOTS} comparisons"
    return [
        _seconds(f"locate, {what}, questions of 6,000 prompts and responses", locate),
        _seconds(f"adapt_many, {what}, no two alike", lambda: _discard(lambda: model.adapt_many(many))),
    ]


def _one_user(model: RewardModel, table: torch.Tensor) -> list[Row]:
    """Twenty comparisons; one more, weights and all; and how far that is from starting over."""
    given = [(table[at], table[100 + at], table[200 + at]) for at in range(SHOTS + 1)]
    taste, step = model.adapt(given[:SHOTS]), model.adapt([])
    row = _milliseconds("one more comparison", lambda: (taste + model.adapt(given[SHOTS:])).weights, 2)
    for one in given:
        step = step + model.adapt([one])
    whole = model.adapt(given)
    apart = float((step.weights - whole.weights).abs().max())
    parted, never = whole - model.adapt(given[3:4]), model.adapt(given[:3] + given[4:])
    forgot = float((parted.weights - never.weights).abs().max())
    size = float(len(whole.to_json()))
    return [
        _milliseconds(f"adapt, one user x {SHOTS} comparisons", lambda: model.adapt(given[:SHOTS]), 20),
        row,
        Row("  weights, one at a time against at once", apart, "", at_most=1e-6),
        Row("  weights, one forgotten against never known", forgot, "", at_most=1e-6),
        Row("  a taste as JSON", size, "bytes", note=f"{MAX_POINTS} points"),
    ]


def _start() -> Row:
    runs = []
    for command in ("import pal", ""):
        each = []
        for _ in range(STARTS):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True)
            each.append(time.perf_counter() - started)
        runs.append(median(each))
    return Row("import pal", runs[0] - runs[1], "s", at_most=0.1, note=f"beside python's own {runs[1]:.3f} s")


def _milliseconds(what: str, part: Callable[[], object], at_most: float, repeats: int = 50) -> Row:
    def repeated() -> float:
        started = time.perf_counter()
        for _ in range(repeats):
            part()
        return (time.perf_counter() - started) / repeats

    found = timed(repeated)
    return Row(what, 1000 * found.seconds, "ms", at_most=at_most, note=found.words, unjudged=_unjudged(found))


def _seconds(what: str, part: Callable[[], None]) -> Row:
    found = timed(part)
    return Row(what, found.seconds, "s", at_most=1.0, note=found.words, unjudged=_unjudged(found))


def _discard(part: Callable[[], object]) -> None:
    part()


def _memory() -> float:
    """The most that this process has held so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def _unjudged(found: Timed) -> str:
    least = PEAK * torch.get_num_threads()
    return "" if found.peak >= least else f"the peak was {found.peak:.0f} GFLOP/s, under {least:.0f}"


if __name__ == "__main__":
    show(measure())
