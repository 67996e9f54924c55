"""Intervals over seeds and users: both are drawn anew, users with all their comparisons.

A resample draws as many seeds as there are, with replacement, and within each its users; the statistic is the
mean over these of the share judged right. Resamples of two arms with the same users are the same draws, so
that a difference of two arms is paired by seed and by user.

Shapes used in this module:
    resamples   draws of seeds and users
    users       users of one seed's study
"""

from functools import lru_cache

import numpy as np

from pal.evaluation.accuracy import Judged

RESAMPLES = 1000
AT_ONCE = 1 << 24  # numbers of a table of draws


def resampled(judged: list[Judged]) -> np.ndarray:
    """Accuracies, in per cent, of every resample of studies, one per seed."""
    each = np.stack([_of_users(study.with_comparisons(), seed) for seed, study in enumerate(judged)])
    drawn = np.random.default_rng(0).integers(len(judged), size=(len(judged), RESAMPLES))
    # A seed drawn twice must not bring the same users twice: each slot reads its draws at another place.
    place = (np.arange(RESAMPLES) + 37 * np.arange(len(judged))[:, None]) % RESAMPLES
    return 100 * each[drawn, place].mean(0)


def mean(judged: list[Judged]) -> float:
    """Mean over seeds of the share judged right, in per cent."""
    return 100 * float(np.mean([study.micro for study in judged]))


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The percentile interval, 95 %."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _of_users(judged: Judged, seed: int) -> np.ndarray:
    """Shares judged right in draws of one study's users."""
    n = len(judged.total)
    if n * RESAMPLES > AT_ONCE:  # of so many users the mean is as good as normal
        share = judged.right.sum() / judged.total.sum()
        left = judged.right - share * judged.total
        spread = np.sqrt((left**2).sum()) / judged.total.sum()
        return share + spread * np.random.default_rng([seed, n]).normal(size=RESAMPLES)
    counts = _counts(n, seed)
    return (counts @ judged.right) / (counts @ judged.total)


@lru_cache(maxsize=12)
def _counts(n: int, seed: int) -> np.ndarray:
    """How often each of n users is drawn in each resample."""
    rng = np.random.default_rng([seed, n])
    return rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float32)
