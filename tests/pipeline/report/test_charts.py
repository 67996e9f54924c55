"""Charts of choose-k and maps of users."""

import pytest

from pipeline.paths import AS_FITTED, ONE_PER_USER
from pipeline.report import charts, maps


def curve(K, *accuracies):
    rows = [
        {"K": k, "accuracy": accuracy, "standard_error": 0.01, "sufficient": k >= K}
        for k, accuracy in enumerate(accuracies, 1)
    ]
    return {"K": K, "candidates": rows, "n_users": 30, "n_comparisons": 600}


def test_bars_are_one_standard_error_and_end_at_a_hundred():
    drawn = charts.choices({AS_FITTED: curve(2, 0.8, 0.95, 0.95), ONE_PER_USER: curve(3, 0.8, 0.9, 0.995)})
    (values,) = drawn["datasets"].values()
    last = next(value for value in values if value["way"] == ONE_PER_USER and value["K"] == 3)
    assert (last["accuracy"], last["low"], last["high"], last["chosen"]) == (99.5, 98.5, 100.0, True)
    assert [value["K"] for value in values if value["chosen"]] == [2, 3]


def test_users_stand_at_the_weighted_mean_of_corners():
    """Corners (0, 1), (0.866, -0.5), (-0.866, -0.5): half and half of the last two is (0, -0.5)."""
    ring = maps.corners(3)
    assert maps.mean([1, 0, 0], ring) == pytest.approx((0, 1))
    assert maps.mean([0, 0.5, 0.5], ring) == pytest.approx((0, -0.5))


def test_users_at_one_place_are_spread_and_the_first_stays():
    placed = maps.spread([(0.5, 0.5)] * 100 + [(0.1, 0.1)])
    assert placed[0] == (0.5, 0.5)
    assert placed[100] == (0.1, 0.1)
    assert len(set(placed)) == 101
    assert max(abs(x - 0.5) for x, _ in placed[:100]) < 0.16
