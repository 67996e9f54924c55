"""Accuracies, intervals and tests, worked out by hand."""

import math

import numpy as np
import pytest
import torch

from benchmarks import validity
from pal.evaluation.accuracy import (
    Judged,
    balanced_accuracy,
    calibrate,
    confidence_interval,
    paired_test,
    worst_decile,
)


def judged(right: list[float], total: list[int]) -> Judged:
    return Judged(np.array(right, dtype=float), np.array(total, dtype=int))


def test_accuracies_are_worked_out_by_user():
    """User 0: 1 of 1. User 1: right, wrong, wrong, and a zero margin for half: 1.5 of 4. User 2: nothing.

    micro: 2.5 of 5; macro: (1 + 0.375) / 2, without user 2.
    """
    margins = torch.tensor([2.0, 1.0, -1.0, -3.0, 0.0])
    j = Judged.from_margins(margins, torch.tensor([0, 1, 1, 1, 1]), n_users=3)
    assert j.right.tolist() == [1.0, 1.5, 0.0]
    assert j.total.tolist() == [1, 4, 0]
    assert j.per_user[:2].tolist() == [1.0, 0.375]
    assert math.isnan(j.per_user[2])
    assert (j.micro, j.macro) == (0.5, 0.6875)


def test_interval_is_worked_out_by_hand():
    """Accuracies 1, 1, 0 and 0 of one answer each: spread 1/4 of each, so the mean's variance is
    (4 * 1/4) / (4 * 3) = 1/12, and that of four independent answers 1/16: design effect
    (1/12) / (1/16) = 4/3. Student's quantile of 3 degrees is 3.182446; squared over 4 / (4/3) it is 3.375988.
    Half width sqrt(3.375988 * (1/4 + 3.375988 / 4)) / 4.375988.
    """
    low, high = confidence_interval(judged([1, 1, 0, 0], [1] * 4))
    assert (low, high) == pytest.approx((0.060830, 0.939170), abs=1e-5)


@pytest.mark.parametrize("kind", validity.KINDS)
@pytest.mark.parametrize("setting", ["6 users x 20", "50 users x 2 to 200"])
def test_intervals_cover(setting, kind):
    """In 300 data sets at least 90 %: four standard errors below 95; `make bench` counts 2,000 of each setting."""
    assert validity.coverage(setting, kind, 0.5, data_sets=300) >= 0.9


@pytest.mark.parametrize(("n_users", "expected"), [(1, 0.0), (20, 0.25), (29, 0.25)])
def test_worst_decile_is_the_tenth_served_worst(n_users, expected):
    """Accuracies 0, 0.5, 1, 1, ...: one user up to 19, then two: (0 + 0.5) / 2."""
    right = ([0.0, 1.0] + [2.0] * 30)[:n_users]
    assert worst_decile(judged([*right, 0.0], [*([2] * n_users), 0])) == expected


def test_balanced_accuracy_gives_always_no_one_half():
    """Three "no" (0) right, one "yes" (1) wrong: plain 3/4, balanced (1 + 0) / 2."""
    assert balanced_accuracy(torch.tensor([1.0, 2.0, 1.0, -1.0]), torch.tensor([0, 0, 0, 1])) == 0.5
    assert balanced_accuracy(torch.tensor([1.0, 0.0, 5.0]), torch.tensor([3, 3, 7])) == 0.875  # (3/4 + 1) / 2
    assert balanced_accuracy(torch.ones(2), torch.tensor([4, 4])) is None


def test_calibration_is_worked_out_by_bin():
    """Margins of the first response log 3, log 3, -log 3: chances 3/4, 3/4, 1/4; the first was chosen in
    the first and the third. Bin [0.7, 0.8): 0.75 predicted, 0.5 observed; bin [0.2, 0.3): 0.25 and 1.
    Error (2 * 0.25 + 1 * 0.75) / 3 = 5/12.
    """
    m = math.log(3)
    found = calibrate(torch.tensor([m, -m, -m]), torch.tensor([1.0, -1.0, 1.0]))
    seen = {i: b for i, b in enumerate(found.bins) if b.count}
    assert [(i, b.count, b.observed) for i, b in seen.items()] == [(2, 1, 1.0), (7, 2, 0.5)]
    assert [b.predicted for b in seen.values()] == pytest.approx([0.25, 0.75])
    assert found.error == pytest.approx(5 / 12)
    assert found.bins[0].predicted is None
    assert (found.bins[7].low, found.bins[7].high) == (0.7, 0.8)


def test_paired_test_takes_all_flips_of_few_users():
    """Three users each better by 1/2: only all plus and all minus of 8 ways are as far, p = 2/8."""
    found = paired_test(judged([1, 1, 1], [2, 2, 2]), judged([0, 0, 0], [2, 2, 2]))
    assert (found.difference, found.p_value, found.n_users) == (0.5, 0.25, 3)
    # Nobody's difference is another's; of six answers a quarter of one might differ: 4.302653 sqrt(0.25) / 6.
    assert (found.low, found.high) == pytest.approx((0.5 - 0.358554, 0.5 + 0.358554), abs=1e-5)
