"""People in a report: sentences held to their numbers, gains, examples, careless people, and maps."""

import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pal.report.page import FEW_PEOPLE, pays
from pal.report.people import answering, corners, draw_map, examples, for_whom, judge_people


def table(rows):
    """Answers from (user, right, one, p, p_one)."""
    names = ("user_id", "right", "one", "p", "p_one")
    frame = pl.DataFrame(rows, schema=list(names), orient="row")
    return frame.with_columns(users=pl.lit("seen"), prompt=-1, chosen=pl.int_range(pl.len()), rejected=0)


share = st.floats(0, 1)


@given(share, share, st.floats(0, 0.5), st.floats(0, 0.5), st.integers(1, 50))
def test_the_answer_claims_no_more_than_its_numbers(personal, one, below, above, users):
    difference = personal - one
    said = pays(difference, difference - below, difference + above, users, personal, one)
    numbers = [float(x.replace("\u2212", "-")) for x in re.findall("[\u2212]?\\d+\\.\\d", said["sentence"])]
    assert numbers[:2] == [round(100 * personal, 1), round(100 * one, 1)]
    if users < FEW_PEOPLE:
        assert (said["answer"], numbers[2:]) == ("Too few people to tell", [])
        return
    assert (said["answer"] == "Yes") == (difference - below > 0)
    assert (said["answer"] == "No, it costs") == (difference + above < 0)
    assert numbers[3] <= numbers[2] <= numbers[4]


def test_gains_and_the_worst_served():
    answers = table([("a", 1.0, 0.0, 0.9, 0.4), ("a", 1.0, 1.0, 0.8, 0.7), ("b", 0.0, 1.0, 0.2, 0.6)])
    people = judge_people(answers)
    assert people.select("user_id", "n", "accuracy", "gain").rows() == [
        ("a", 2, 1.0, 0.5),
        ("b", 1, 0.0, -1.0),
    ]
    found = for_whom(people, {"group": {"a": "x", "b": "y"}})
    assert "more often for 1, as often for 0, and less often for 1" in found["sentence"]
    assert [row["user_id"] for row in found["worst"]] == ["b", "a"]
    assert [(row["value"], row["gain"]) for row in found["groups"]] == [("x", 0.5), ("y", -1.0)]
    assert [row["people"] for row in found["bins"] if row["people"]] == [1, 1]
    assert found["bins"][0]["at"] == -1.0
    told = examples(answers, ["a", "b"])
    assert [row["p"] for row in told["a"]["telling"]] == [0.9, 0.8]
    assert [row["chosen"] for row in told["b"]["mistakes"]] == [2]


def test_without_one_reward_or_answers_nothing_is_said_of_gains():
    people = judge_people(table([("a", 1.0, None, 0.9, None)]).cast({"one": pl.Float64, "p_one": pl.Float64}))
    assert for_whom(people)["bins"] == []
    assert for_whom(people.clear()) is None


def test_careless_people_stand_out_and_others_do_not():
    """Of 40 people one agrees with the model in 5 of 10, another contradicts herself, a third clicks one side."""
    rows = [
        (f"u{u}", float(n % 10 > (5 if u == 0 else 0)), 0.5, 0.5, 0.5) for u in range(40) for n in range(20)
    ]
    habits = pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in range(40)],
            "itself": [{1: 0.0, 2: 1.0}.get(u) for u in range(40)],
            "repeated": [6 if u in (1, 2) else None for u in range(40)],
            "first": [{3: 1.0, 4: 0.5}.get(u) for u in range(40)],
            "shown": [20 if u in (3, 4) else None for u in range(40)],
            "seconds": [1.0 if u == 5 else 30.0 for u in range(40)],
        }
    )
    low = [0.5 if u == 6 else 0.1 for u in range(40)]
    care = pl.DataFrame({"user_id": [f"u{u}" for u in range(40)], "lapse": [0.2] * 40, "low": low})
    found = answering(judge_people(table(rows)), habits, care)
    why = {row["user_id"]: row["why"] for row in found["rows"] if row["why"]}
    assert why == {
        "u0": ["hardly agrees with their own model"],
        "u1": ["answers the same question in both ways"],
        "u3": ["nearly always chooses the response shown first"],
        "u5": ["answers every 1.0 seconds"],
        "u6": ["answers as if at random"],
    }
    assert found["lapse"] == pytest.approx(0.2)
    assert found["sentence"].startswith("5 of 40 people stand out")
    assert {row["user_id"]: row["itself"] for row in found["rows"]}["u2"] == pytest.approx(1.0)


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
