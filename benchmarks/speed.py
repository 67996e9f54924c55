"""How fast heads are fitted and users located, on one thread, the encoder's embeddings given.

The task is Persona at K*=K=3, 300 users, 100 queries each, embeddings 384 wide, model B, latent 16, dropout
0.3, objective `pal`. Measured: seconds of `fit`, everything in it, with settings whose accuracy on
held-out test pairs is at least 99 % at every seed; comparisons a second from the first epoch's end to the
last's; seconds of `solve_weights` for 10,000 unseen users of 20 comparisons each.

Every time is the fastest of at least four rounds that were not disturbed, beside the float32 matrix peak
measured before and after (benchmarks/rounds.py). About a minute on a quiet core.
"""

import time
from statistics import fmean
from typing import Any

import torch

from benchmarks.rounds import Timed, peak, timed
from benchmarks.studies import ROOT, SEEDS, draw, real_persona, values
from benchmarks.table import Row, Section, show
from pal.comparisons import Comparisons
from pal.config import preset
from pal.fitting.trainer import Fitted, fit
from pal.models.base import feature_blocks, margins
from pal.users.simplex import solve_weights
from pipeline.study import Study

PEAK = 85.0  # GFLOP/s of float32 products, from which on throughput is judged
TO_99 = {"batch_size": 1024, "epochs": 3, "learning_rate": 2e-2, "weights_learning_rate": 0.3}
THROUGHPUT = {1024: (6, 150_000), 16_384: (12, 600_000)}
NEW_USERS, SHOTS = 10_000, 20


def measure() -> Section:
    """All three figures, on one thread; torch's setting is put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        studies = [_study(seed, 3400 if seed == SEEDS[0] else 1) for seed in SEEDS]
        rows = [*_to_99(studies), *_throughput(studies[0]), *_weights(studies[0])]
    finally:
        torch.set_num_threads(threads)
    about = {
        "data": "Anthropic's" if real_persona() else "the sample: the real Persona set was not found",
        "seeds": list(SEEDS),
        "threads": 1,
        "best float32 matrix peak": f"{peak.best:.0f} GFLOP/s",
        "to 99 %": ", ".join(f"{k} {v}" for k, v in TO_99.items()) + ", one_cycle",
    }
    return Section("Speed on one thread (Persona, K*=K=3, 300 users, 100 queries)", about, rows)


def _study(seed: int, unseen_users_per_group: int) -> Study:
    given = values(
        "persona",
        seed,
        source=str(real_persona() or ROOT / "data/sample/persona"),
        personas=["art", "literature", "math"],
        users_per_group=100,
        unseen_users_per_group=unseen_users_per_group,
        train_pairs=100,
        adapt_pairs=SHOTS,
        val_pairs=1,
        test_pairs=20,
    )
    return draw("persona", given)


def _fit(data: Study, seed: int, progress: Any = None, **options: Any) -> Fitted:
    chosen = {"objective": "pal", "restarts": 1, "weight_decay": 0.01, **options}
    head, config = preset("ours", "B", head={"K": 3, "latent": 16}, fit=chosen)
    return fit(
        data.embeddings,
        data.select("seen", "train"),
        n_users=data.n_users("seen"),
        head=head,
        config=config,
        seed=seed,
        progress=progress,
    )


def _to_99(studies: list[Study]) -> list[Row]:
    rounds, accuracies = [], []
    for seed, data in zip(SEEDS, studies, strict=True):
        fitted: list[Fitted] = []
        rounds.append(timed(lambda data=data, seed=seed, to=fitted: to.append(_fit(data, seed, **TO_99))))
        accuracies.append(100 * _accuracy(data, fitted[-1], data.select("seen", "test", "known")))
    seconds = [found.seconds for found in rounds]
    note = "; ".join(found.words for found in rounds)
    unjudged = _unjudged(min(rounds, key=lambda found: found.peak))
    return [
        Row(
            "time to 99 % seen", fmean(seconds), "s", at_most=0.8, each=seconds, note=note, unjudged=unjudged
        ),
        Row("  accuracy at that time, lowest seed", min(accuracies), at_least=99.0, each=accuracies),
    ]


def _accuracy(data: Study, fitted: Fitted, test: Comparisons) -> float:
    with torch.inference_mode():
        return float((margins(fitted.head, fitted.states, data.embeddings, test) > 0).double().mean())


def _throughput(data: Study) -> list[Row]:
    rows = []
    count = len(data.select("seen", "train"))
    for size, (epochs, least) in THROUGHPUT.items():

        def steady(size: int = size, epochs: int = epochs) -> float:
            """Seconds from the end of the first epoch to that of the last."""
            ends: list[float] = []
            _fit(data, 0, lambda *_: ends.append(time.perf_counter()), batch_size=size, epochs=epochs)
            return ends[-1] - ends[0]

        found = timed(steady)
        rate = count * (epochs - 1) / found.seconds
        what, unit = f"training at batch {size:,}", "comparisons/s"
        rows.append(Row(what, rate, unit, at_least=least, note=found.words, unjudged=_unjudged(found)))
        scaled = rate * PEAK / found.peak
        rows.append(Row(f"  scaled to a peak of {PEAK:.0f} GFLOP/s", scaled, unit, note="rate x 85 / peak"))
    return rows


def _weights(data: Study) -> list[Row]:
    fitted = _fit(data, 0, **TO_99)
    pairs = data.select("unseen", "adapt")
    pairs = pairs[(pairs.user < NEW_USERS).nonzero().squeeze(1)]
    with torch.inference_mode():
        blocks = feature_blocks(fitted.head, data.embeddings, pairs)
        at = [fitted.head.prototype_margins(r).index_select(0, p) * b.sign[:, None] for b, r, p in blocks]
    margin, residual = torch.cat(at).clone(), torch.empty(0)

    def solve() -> None:
        nonlocal residual
        residual = solve_weights(margin, pairs.user, n_users=NEW_USERS)[1]

    found = timed(solve)
    p99 = float(residual.quantile(0.99))
    what = f"weights of {NEW_USERS:,} new users x {SHOTS} comparisons"
    return [
        Row(what, found.seconds, "s", at_most=1.0, note=found.words, unjudged=_unjudged(found)),
        Row("  KKT residual, p99", p99, "", at_most=1e-3, note=f"largest {float(residual.max()):.1e}"),
    ]


def _unjudged(found: Timed) -> str:
    return "" if found.peak >= PEAK else f"the core's peak was {found.peak:.0f} GFLOP/s, under {PEAK:.0f}"


if __name__ == "__main__":
    show(measure())
