"""How fast heads are fitted, users located and rewards served, and how soon a command is there."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch.nn import functional

from benchmarks.persona import COUNTS, PERSONAS
from benchmarks.studies import ROOT, SEEDS, divide, draw, persona_or_sample, random_model, task_of, values
from benchmarks.table import Row, Section, mean_row
from benchmarks.timing import Timed, in_turns, peak, threads
from pal.comparisons import Comparisons, Embeddings
from pal.config import preset
from pal.fitting.trainer import Fitted
from pal.models.base import feature_blocks, margins
from pal.serving.inputs import Preferences
from pal.serving.reward_model import RewardModel
from pal.users.points import MAX_POINTS, solve_weights
from pipeline.study import Study

PEAK = 85.0  # GFLOP/s of float32 products a thread, from which on times are judged
TO_99 = {"batch_size": 1024, "epochs": 3, "learning_rate": 2e-2, "weights_learning_rate": 0.3}
THROUGHPUT = {1024: (6, 150_000), 16_384: (12, 600_000)}  # epochs, and comparisons/s to reach, by batch
USERS, SHOTS = 10_000, 20
DIM, ROWS, RUN = 384, 1_000_000, 16
STARTS = {
    "python -m pipeline split --help": (["-m", "pipeline", "split", "--help"], 0.4),
    "python -m pipeline prepare --help": (["-m", "pipeline", "prepare", "--help"], 0.4),
    "python -c 'import pal'": (["-c", "import pal"], None),
    "python -c ''": (["-c", ""], None),
}


def startup() -> Section:
    """Median seconds of five starts of a stage's help and of `import pal`, and the torch modules imported."""
    rows = []
    for what, (arguments, most) in STARTS.items():
        runs = [_start(arguments)[0] for _ in range(5)]
        rows.append(Row(what, median(runs), "s", at_most=most, note=f"fastest {min(runs):.2f} s"))
    for what, (arguments, _) in STARTS.items():
        if arguments[-1]:
            lines = _start(["-X", "importtime", *arguments])[1].splitlines()
            names = [line.rsplit("|", 1)[-1].strip() for line in lines if line.startswith("import time:")]
            of_torch = float(sum(name.split(".")[0] == "torch" for name in names))
            rows.append(Row(f"{what}: modules of torch", of_torch, "imported", at_most=0.0))
    return Section("Startup: seconds until a stage's help, and until pal is there", {"runs": 5}, rows)


def _start(arguments: list[str]) -> tuple[float, str]:
    """Seconds of a run of Python, and its standard error."""
    started = time.perf_counter()
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stderr


def speed() -> Section:
    """Fitting and locating on one thread, embeddings given; about a minute on a quiet core.

    Persona, model B, latent 16, objective `pal`: seconds of `fit` with settings whose accuracy on held-out
    test pairs is at least 99 % at every seed; comparisons a second from the first epoch's end to the last's;
    seconds of `solve_weights` for 10,000 unseen users of 20 comparisons each.
    """
    source, which = persona_or_sample()
    options = {"source": str(source), "personas": PERSONAS[:3], **COUNTS, "adapt_pairs": SHOTS}
    with threads(1):
        studies = []
        for seed in SEEDS:
            options["unseen_users_per_group"] = 3400 if seed == SEEDS[0] else 1
            studies.append(draw("persona", values("persona", seed, **options)))
        rows = [*_to_99(studies), *_throughput(studies[0]), *_weights(studies[0])]
        highest = peak.best
    about = {
        "data": which,
        "seeds": list(SEEDS),
        "threads": 1,
        "best float32 matrix peak": f"{highest:.0f} GFLOP/s",
        "to 99 %": ", ".join(f"{k} {v}" for k, v in TO_99.items()) + ", one_cycle",
    }
    return Section("Speed on one thread (Persona, K*=K=3, 300 users, 100 queries)", about, rows)


def _fit(data: Study, seed: int, progress: Any = None, **options: Any) -> Fitted:
    chosen = {"objective": "pal", "restarts": 1, "weight_decay": 0.01, **options}
    task = replace(task_of(data, seed), val=None, progress=progress)
    return task.fit(*preset("ours", "B", head={"K": 3, "latent": 16}, fit=chosen)).fitted


def _timed(call: Callable[[], object]) -> tuple[float, Timed]:
    """Seconds of a call, and how they were measured."""
    timed = in_turns({"": call}, least_peak=PEAK)
    return timed.seconds[""], timed


def _to_99(studies: list[Study]) -> list[Row]:
    accuracies = []
    for seed, data in zip(SEEDS, studies, strict=True):
        fitted, test = _fit(data, seed, **TO_99), data.select("seen", "test", "known")
        with torch.inference_mode():
            right = margins(fitted.head, fitted.states, data.embeddings, test) > 0
        accuracies.append(100 * float(right.double().mean()))
    calls = [partial(_fit, data, seed, **TO_99) for seed, data in zip(SEEDS, studies, strict=True)]
    seconds, every = zip(*map(_timed, calls), strict=True)
    late, note = next((x.unjudged for x in every if x.unjudged), ""), "; ".join(x.note for x in every)
    return [
        mean_row("time to 99 % seen", [*seconds], "s", at_most=0.8, note=note, unjudged=late),
        Row("  accuracy at that time, lowest seed", min(accuracies), at_least=99.0, each=accuracies),
    ]


def _throughput(data: Study) -> list[Row]:
    rows, count, unit = [], len(data.select("seen", "train")), "comparisons/s"
    for size, (epochs, least) in THROUGHPUT.items():

        def steady(size: int = size, epochs: int = epochs) -> float:
            """Seconds from the end of the first epoch to that of the last."""
            ends: list[float] = []
            _fit(data, 0, lambda *_: ends.append(time.perf_counter()), batch_size=size, epochs=epochs)
            return ends[-1] - ends[0]

        seconds, timed = _timed(steady)
        rate = count * (epochs - 1) / seconds
        rows.append(Row(f"training at batch {size:,}", rate, unit, at_least=least, **timed.words))
        rows.append(Row(f"  scaled to a peak of {PEAK:.0f} GFLOP/s", rate * PEAK / timed.peak, unit))
    return rows


def _weights(data: Study) -> list[Row]:
    fitted, pairs = _fit(data, 0, **TO_99), data.select("unseen", "adapt")
    pairs, _ = divide(pairs, pairs.user >= USERS)
    with torch.inference_mode():
        blocks = feature_blocks(fitted.head, data.embeddings, pairs)
        at = [fitted.head.prototype_margins(r).index_select(0, p) * b.sign[:, None] for b, r, p in blocks]
    margin = torch.cat(at).clone()
    solve = partial(solve_weights, margin, pairs.user, n_users=USERS)
    (seconds, timed), residual = _timed(solve), solve()[1]
    what, p99 = f"weights of {USERS:,} new users x {SHOTS} comparisons", float(residual.quantile(0.99))
    return [
        Row(what, seconds, "s", at_most=1.0, **timed.words),
        Row("  KKT residual, p99", p99, "", at_most=1e-3, note=f"largest {float(residual.max()):.1e}"),
    ]


def serving() -> Section:
    """Rewards from embeddings, people located, and `import pal`; three minutes, 5 GB of memory.

    A single user's figures are on one thread: work so small gains nothing from more.
    """
    model = random_model(DIM, 1000)
    drawn = torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(1))
    table = functional.normalize(drawn, dim=1)
    with threads(os.cpu_count() or 1):
        rows = [*_scores(model, table), *_adapting(model, table)]
        highest = peak.best
    with threads(1):
        rows += _one_user(model, table)
        own = median(_start(["-c", ""])[0] for _ in range(5))
        whole = median(_start(["-c", "import pal"])[0] for _ in range(5))
        rows.append(Row("import pal", whole - own, "s", at_most=0.1, note=f"beside python's own {own:.3f} s"))
        about = {
            "model": f"B, K=3, latent 16, {DIM} wide, {MAX_POINTS} points of the prior",
            "threads": f"{os.cpu_count()}; for a single user 1",
            "best float32 matrix peak": f"{highest:.0f} GFLOP/s; on one thread {peak.best:.0f}",
        }
    return Section("Serving: rewards, tastes and start-up, from embeddings", about, rows)


def _scores(model: RewardModel, table: torch.Tensor) -> list[Row]:
    """One prompt, prompts in runs, and as many prompts as responses."""
    rows, prompts = [], table.flip(0)
    for what, given in (
        ("one prompt", prompts[:1]),
        (f"prompts in runs of {RUN}", prompts[: ROWS // RUN].repeat_interleave(RUN, 0)),
        ("as many prompts", prompts),
    ):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds, timed = _timed(partial(model.score, given, table, user="7"))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
        rows.append(Row(f"score, {what}", ROWS / seconds, "rows/s", at_least=500_000, **timed.words))
        if what == "one prompt":
            rows.append(Row("  memory on top", grown, "MB", note=f"of {table.nbytes / 1e6:.0f}"))
    return rows


def _adapting(model: RewardModel, table: torch.Tensor) -> list[Row]:
    generator = torch.Generator().manual_seed(2)
    prompt, chosen = (torch.randint(6000, (USERS * SHOTS,), generator=generator) for _ in range(2))
    rejected = (chosen + torch.randint(1, 6000, chosen.shape, generator=generator)) % 6000
    user = torch.arange(USERS).repeat_interleave(SHOTS)
    shared = Embeddings(table[:6000], table[6000:12_000])

    def locate() -> None:
        comparisons = Comparisons.from_pairs(user=user, prompt=prompt, chosen=chosen, rejected=rejected)
        model.locate(shared, comparisons, n_users=USERS)

    sides = [x.view(USERS, SHOTS, DIM) for x in table[: 3 * USERS * SHOTS].chunk(3)]
    many = {str(row): Preferences(*(side[row] for side in sides)) for row in range(USERS)}
    what = f"{USERS:,} users x {SHOTS} comparisons"
    return [
        _row(f"locate, {what}, questions of 6,000 prompts and responses", locate, 1.0),
        _row(f"adapt_many, {what}, no two alike", lambda: model.adapt_many(many), 1.0),
    ]


def _one_user(model: RewardModel, table: torch.Tensor) -> list[Row]:
    """Twenty comparisons; one more, weights and all; and how far that is from starting over."""
    given = [(table[at], table[100 + at], table[200 + at]) for at in range(SHOTS + 1)]
    taste, step, whole = model.adapt(given[:SHOTS]), model.adapt([]), model.adapt(given)
    for answer in given:
        step = step + model.adapt([answer])
    forgotten, never = whole - model.adapt(given[3:4]), model.adapt(given[:3] + given[4:])

    def apart(first: Any, second: Any) -> float:
        return float((first.state - second.state).abs().max())

    return [
        _row(f"adapt, one user x {SHOTS} comparisons", lambda: model.adapt(given[:SHOTS]), 20, repeats=50),
        _row("one more comparison", lambda: (taste + model.adapt(given[SHOTS:])).state, 2, repeats=50),
        Row("  weights, one at a time against at once", apart(step, whole), "", at_most=1e-6),
        Row("  weights, one forgotten against never known", apart(forgotten, never), "", at_most=1e-6),
        Row("  a taste as JSON", float(len(whole.to_json())), "bytes", note=f"{MAX_POINTS} points"),
    ]


def _row(what: str, call: Callable[[], object], most: float, repeats: int = 1) -> Row:
    """Seconds of a part, or where it is repeated milliseconds of each time."""

    def repeated() -> float:
        started = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - started) / repeats

    seconds, timed = _timed(repeated)
    got, unit = (1000 * seconds, "ms") if repeats > 1 else (seconds, "s")
    return Row(what, got, unit, at_most=most, **timed.words)
