"""Whether intervals and tests hold what they promise, on simulations whose truth is known.

intervals: ten settings by users, answers and accuracy; in each, users' accuracies are logit-normal with a
standard deviation of 0, 0.5 and 1. About two minutes of one core.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from benchmarks.studies import in_parallel
from benchmarks.table import Row, Section
from pal.evaluation.accuracy import Judged, confidence_interval, paired_test

DATA_SETS = 2000
SPREADS = (0.0, 0.5, 1.0)
DRAWS = 20  # of a few-shot curve
KINDS = ("micro", "macro", "difference", "few_shot")
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(40)


class Setting(NamedTuple):
    """Users, each with least to most answers (even in the logarithm), and their mean accuracy."""

    users: int
    least: int
    most: int
    accuracy: float


SETTINGS = {
    "6 users x 20": Setting(6, 20, 20, 0.8),
    "10 users x 20": Setting(10, 20, 20, 0.8),
    "20 users x 2 to 500": Setting(20, 2, 500, 0.8),
    "20 users x 10": Setting(20, 10, 10, 0.8),
    "50 users x 10": Setting(50, 10, 10, 0.8),
    "50 users x 2 to 200": Setting(50, 2, 200, 0.8),
    "100 users x 50 at 97 %": Setting(100, 50, 50, 0.97),
    "100 users x 20 at 99 %": Setting(100, 20, 20, 0.99),
    "100 users x 20 at 99.9 %": Setting(100, 20, 20, 0.999),
    "300 users x 20 at 99.75 %": Setting(300, 20, 20, 0.9975),
}


def intervals() -> Section:
    """Coverage of the 95 % interval: micro, macro, paired difference, few-shot accuracy."""
    jobs = [(name, kind, spread) for name in SETTINGS for kind in KINDS for spread in SPREADS]
    covered = in_parallel(coverage, jobs)
    rows = []
    for name in SETTINGS:
        for kind in KINDS:
            each = [100 * covered[name, kind, spread] for spread in SPREADS]
            worst = max(each, key=lambda share: abs(share - 95))
            rows.append(Row(f"{name}, {kind}: covered", worst, at_least=93, at_most=97, each=each))
    about = {"data sets": DATA_SETS, "each": f"spread of users' logits {SPREADS}; got: the farthest from 95"}
    return Section("Coverage of the 95 % interval, users as clusters", about, rows)


def coverage(name: str, kind: str, spread: float, data_sets: int = DATA_SETS) -> float:
    """Share of data sets in which the interval of a kind holds the true value."""
    setting = SETTINGS[name]
    held = 0
    for judged, other, truth in drawn(setting, kind, spread, data_sets):
        if other is not None:
            test = paired_test(judged, other, flips=1)
            low, high = test.low, test.high
        else:
            low, high = confidence_interval(judged, mean="macro" if kind == "macro" else "micro")
        held += low <= truth <= high
    return held / data_sets


def drawn(
    setting: Setting, kind: str, spread: float, data_sets: int
) -> Iterator[tuple[Judged, Judged | None, float]]:
    """Data sets, and the true accuracy, or the true difference of two models' accuracies.

    The models' answers are independent, given the user, and the second is wrong one and a half times as
    often. Of a few-shot accuracy each answer is right in a share of the draws: a beta of the user's accuracy.
    """
    rng = np.random.default_rng(0)
    truth = setting.accuracy
    worse = 1 - 1.5 * (1 - truth)
    places = [centre(share, spread) for share in (truth, worse)]
    for _ in range(data_sets):
        total = (
            np.exp(rng.uniform(np.log(setting.least), np.log(setting.most), setting.users))
            .round()
            .astype(int)
        )
        logit = spread * rng.standard_normal(setting.users)
        if kind == "few_shot":
            chance = np.repeat(expit(places[0] + logit), total)
            share = np.where(chance < 1, rng.beta(np.maximum(chance, 1e-9), 1 - chance + 1e-9), 1)
            right = np.bincount(np.repeat(np.arange(len(total)), total), rng.binomial(DRAWS, share) / DRAWS)
            yield Judged(right, total), None, truth
        else:
            first, second = (
                Judged(rng.binomial(total, expit(place + logit)).astype(float), total) for place in places
            )
            yield (first, second, truth - worse) if kind == "difference" else (first, None, truth)


def centre(share: float, spread: float) -> float:
    """The mean of users' logits at which the mean of their accuracies is this share."""

    def error(place: float) -> float:
        return float(NODE_WEIGHTS @ expit(place + spread * NODES) / NODE_WEIGHTS.sum() - share)

    return float(brentq(error, -20, 20))
