"""Accuracy: how often the response that a user chose gets the higher reward, user by user first.

A margin of exactly zero counts one half. Users differ in how much they answered and in how well they are
served, and one user's answers are alike; so intervals and tests resample users, never single answers.

Shapes used in this module:
    n       comparisons
    users   users, with or without comparisons
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.errors import PalError

Mean = Literal["micro", "macro"]
BLOCK = 1 << 22  # random numbers held at once


@dataclass(frozen=True)
class Judged:
    """How many of each user's comparisons were judged right.

    Args:
        right: Right judgements; a margin of zero adds one half.
        total: Comparisons.
    """

    right: Float[np.ndarray, " users"]
    total: Int[np.ndarray, " users"]

    @classmethod
    def of(cls, margins: Float[Tensor, " n"], user: Int[Tensor, " n"], *, n_users: int) -> "Judged":
        """Count right judgements from margins in favour of the chosen response.

        Raises:
            PalError: If a margin is NaN, or a user is outside [0, n_users).
        """
        rows = user.numpy(force=True)
        if len(rows) and (rows.min() < 0 or rows.max() >= n_users):
            raise PalError(f"user must hold row numbers in [0, {n_users}), got {rows.min()} to {rows.max()}")
        right = np.bincount(rows, weights=_right(margins), minlength=n_users)
        return cls(right, np.bincount(rows, minlength=n_users))

    @property
    def per_user(self) -> Float[np.ndarray, " users"]:
        """Each user's accuracy; NaN for a user without comparisons."""
        shares = np.full(len(self.total), np.nan)
        return np.divide(self.right, self.total, out=shares, where=self.total > 0)

    @property
    def n_without(self) -> int:
        """Users without comparisons: left out of `macro`, the intervals and the worst tenth."""
        return int((self.total == 0).sum())

    @property
    def micro(self) -> float:
        """Mean accuracy with all comparisons equal."""
        asked = self.asked()
        return float(asked.right.sum() / asked.total.sum())

    @property
    def macro(self) -> float:
        """Mean accuracy with all users equal."""
        return float(self.asked().per_user.mean())

    def asked(self) -> "Judged":
        """Only the users with comparisons.

        Raises:
            PalError: If no user has any: there is no accuracy then.
        """
        some = self.total > 0
        if not some.any():
            raise PalError("accuracy needs at least one comparison, got none")
        return Judged(self.right[some], self.total[some])


def bootstrap_interval(
    judged: Judged, *, mean: Mean = "micro", level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of an accuracy when users are drawn anew, with all their comparisons.

    Args:
        judged: Right judgements of each user.
        mean: Which accuracy: `micro`, all comparisons equal, or `macro`, all users equal.
        level: Share of the resamples inside the interval, in (0, 1).
        resamples: Draws of as many users as there are.
        seed: The same seed gives the same interval.

    Raises:
        PalError: If there is no comparison.
    """
    asked = judged.asked()
    if mean == "macro":
        return _resampled(asked.per_user, np.ones(len(asked.total)), level, resamples, seed)
    return _resampled(asked.right, asked.total.astype(float), level, resamples, seed)


def worst_decile(judged: Judged) -> float:
    """Mean accuracy of the tenth of users served worst, rounded down, at least one user.

    The tenth is chosen by the same comparisons that measure it: with few of them a user, much of its
    distance from the mean is chance.

    Raises:
        PalError: If there is no comparison.
    """
    accuracy = np.sort(judged.asked().per_user)
    return float(accuracy[: max(1, len(accuracy) // 10)].mean())


def balanced_accuracy(margins: Float[Tensor, " n"], answer: Int[Tensor, " n"]) -> float | None:
    """Mean over answers of the accuracy among comparisons with that answer.

    Where the responses are the same in every question, say "yes" and "no", a model that always answers "no"
    is right as often as users say it; here it gets one half.

    Args:
        margins: Margins in favour of the chosen response.
        answer: Which answer was chosen, as a number.

    Returns:
        A share in [0, 1]; None where fewer than two answers occur.
    """
    _, place = np.unique(answer.numpy(force=True), return_inverse=True)
    total = np.bincount(place)
    if len(total) < 2:
        return None
    return float((np.bincount(place, weights=_right(margins)) / total).mean())


@dataclass(frozen=True)
class Bin:
    """Predictions between two probabilities, and what came of them.

    Args:
        low: Least probability; predictions equal to it belong here.
        high: Greatest; predictions equal to it belong to the next bin, 1 to the last.
        count: Comparisons.
        predicted: Mean predicted probability; None where there are none.
        observed: Share in which it came true; None where there are none.
    """

    low: float
    high: float
    count: int
    predicted: float | None
    observed: float | None


@dataclass(frozen=True)
class Calibration:
    """Whether predicted probabilities are those observed.

    Args:
        bins: The reliability table.
        error: Expected calibration error: the mean over comparisons of |predicted - observed| of their bin.
    """

    bins: list[Bin]
    error: float


def calibrate(margins: Float[Tensor, " n"], sign: Float[Tensor, " n"], *, n_bins: int = 10) -> Calibration:
    """Compare the probability that a question's first response is chosen with how often it is.

    First is first in the question, whichever was chosen, so that predictions lie on both sides of one half.

    Args:
        margins: Margins in favour of the chosen response, of a head fitted with the logistic loss.
        sign: +1 where the question's first response was chosen, -1 where its second was
            (`Comparisons.sign`).
        n_bins: Bins of equal width.

    Raises:
        PalError: If there is no comparison, or a margin is NaN.
    """
    if not len(margins):
        raise PalError("calibration needs at least one comparison, got none")
    _right(margins)
    chance = torch.sigmoid(margins.double() * sign).numpy(force=True)
    came = sign.numpy(force=True) > 0
    place = np.minimum((chance * n_bins).astype(int), n_bins - 1)
    count, sums, true = (np.bincount(place, w, minlength=n_bins) for w in (None, chance, came))
    bins = [
        Bin(i / n_bins, (i + 1) / n_bins, int(c), p / c if c else None, o / c if c else None)
        for i, (c, p, o) in enumerate(zip(count.tolist(), sums.tolist(), true.tolist(), strict=True))
    ]
    return Calibration(bins, float(np.abs(sums - true).sum() / len(place)))


@dataclass(frozen=True)
class Paired:
    """How much more accurate one model is than another, on the same comparisons.

    Args:
        difference: Mean over users of the difference of their accuracies.
        low: Lower end of its 95 % interval, users resampled.
        high: Upper end.
        p_value: Two-sided, by flipping the signs of users' differences; 1 where none differs, never 0.
        n_users: Users compared.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n_users: int


def paired_test(x: Judged, y: Judged, *, flips: int = 10_000, resamples: int = 1000, seed: int = 0) -> Paired:
    """Whether model x serves users better than model y does, paired by user.

    Args:
        x: Right judgements of the one model.
        y: Of the other, on the same comparisons.
        flips: Random sign flips; where there are no more ways than that, all are taken.
        resamples: Draws of users for the interval.
        seed: The same seed gives the same result.

    Raises:
        PalError: If the two were not judged on the same comparisons, or there are none.
    """
    if not np.array_equal(x.total, y.total):
        raise PalError("x and y must be judged on the same comparisons, got other numbers of them per user")
    difference = x.asked().per_user - y.asked().per_user
    low, high = _resampled(difference, np.ones(len(difference)), 0.95, resamples, seed)
    return Paired(
        float(difference.mean()), low, high, _flip_p_value(difference, flips, seed), len(difference)
    )


def _right(margins: Float[Tensor, " n"]) -> Float[np.ndarray, " n"]:
    margin = margins.numpy(force=True)
    if np.isnan(margin).any():
        raise PalError("margins must be numbers, got NaN; check the embeddings")
    return (margin > 0) + 0.5 * (margin == 0)


def _resampled(
    value: Float[np.ndarray, " users"],
    weight: Float[np.ndarray, " users"],
    level: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """Percentile interval of sum(value) / sum(weight) over draws of users with replacement."""
    rng = np.random.default_rng(seed)
    n = len(value)
    means = np.concatenate(
        [
            value[draw].sum(1) / weight[draw].sum(1)
            for draw in (rng.integers(0, n, (rows, n)) for rows in _blocks(resamples, n))
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _flip_p_value(difference: Float[np.ndarray, " users"], flips: int, seed: int) -> float:
    """Share of sign flips whose sum is at least as far from zero; zeros have no sign to flip."""
    size = np.abs(difference[difference != 0])
    # Sums of the same numbers in another order may differ in the last digits.
    bar = abs(difference.sum()) - 1e-9 * size.sum()
    if len(size) < flips.bit_length():  # 2 ** len(size) <= flips
        ways = np.arange(2 ** len(size))[:, None] >> np.arange(len(size)) & 1
        return float((np.abs((1 - 2 * ways) @ size) >= bar).mean())
    rng = np.random.default_rng(seed)
    far = 0
    for rows in _blocks(flips, len(size)):
        signs = 1.0 - 2 * rng.integers(0, 2, (rows, len(size)), dtype=np.int8)
        far += int((np.abs(signs @ size) >= bar).sum())
    return (1 + far) / (1 + flips)


def _blocks(rows: int, width: int) -> Iterator[int]:
    """Cut many rows into blocks that fit in memory."""
    size = max(1, BLOCK // width)
    for start in range(0, rows, size):
        yield min(size, rows - start)
