"""Maps of people: between the corners, along a line, in a plane."""

import numpy as np
import pytest

from pal.report.portrait import corners, draw_map


def people(n):
    return [{"user_id": f"u{i}", "users": "seen", "group": None} for i in range(n)]


def test_users_stand_at_the_weighted_mean_of_corners():
    top, right, left = corners(3)
    assert top == pytest.approx((0, 1))
    assert (right[1], left[1]) == pytest.approx((-0.5, -0.5))


def test_equal_people_stand_side_by_side():
    alike = draw_map(people(3), weights=np.full((3, 3), 1 / 3))["points"]
    assert len({(p["x"], p["y"]) for p in alike}) == 3
    line = draw_map(people(3), weights=np.full((3, 2), 0.5))["points"]
    assert [(p["x"], p["y"]) for p in line] == [(50.0, 50.0), (50.0, 42.8), (50.0, 57.2)]


def test_a_map_for_each_kind_of_taste_and_none_where_all_have_one():
    assert draw_map(people(2), weights=np.ones((2, 1))) is None
    assert draw_map([], weights=np.eye(2)) is None
    line = draw_map(people(2), weights=np.eye(2), titles=["sea", "sun"], shares=[0.5, 0.5])
    assert [(p["x"], p["mark"]) for p in line["points"]] == [(86.0, 0), (14.0, 1)]
    assert [label["title"] for label in line["labels"]] == ["sea", "sun"]
    assert draw_map(people(4), weights=np.eye(4))["kind"] == "polygon"
    plane = draw_map(people(2), plane=np.array([[2.0], [-1.0]]), titles=["longer"])
    assert [(p["x"], p["y"]) for p in plane["points"]] == [(86.0, 50.0), (32.0, 50.0)]
    assert plane["axes"] == ["longer"]
