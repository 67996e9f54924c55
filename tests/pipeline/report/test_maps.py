"""Where users stand on the maps."""

import pytest

from pipeline.report import charts, maps


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


def test_every_group_has_a_look_of_its_own():
    looks = {
        (charts.COLOURS[i % len(charts.COLOURS)], charts.SHAPES[i % len(charts.SHAPES)]) for i in range(42)
    }
    assert len(looks) == 42
