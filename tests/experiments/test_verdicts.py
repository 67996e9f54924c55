"""Verdicts and intervals, by numbers worked out by hand."""

import numpy as np
import pytest

from experiments import intervals, page, verdicts
from experiments.entries import Claim, Published
from experiments.measure import Arm, summary
from pal.evaluation.accuracy import Judged


def judged(*right):
    """One seed's users, of ten comparisons each so many judged right."""
    return Judged(np.array(right, dtype=float), np.full(len(right), 10))


def arm(*right, **at):
    """Two seeds of the same users; of a single number, four users alike."""
    right = right * 4 if len(right) == 1 else right
    return Arm({"preset": "paper", "what": "seen", **at}, [judged(*right)] * 2)


ARMS = [
    *(arm(right, groups=2, K=K) for K, right in ((1, 7), (2, 9), (3, 9))),
    *(arm(right, groups=3, K=K) for K, right in ((1, 7), (2, 8), (3, 7))),
]


def check(arms=ARMS, **said):
    (row,) = verdicts.claim(Claim(says="so", place="S1", **said), arms)
    return row


@pytest.mark.parametrize(
    ("paper", "tolerance", "verdict"),
    [
        (91.0, 0.0, "reproduced"),  # inside 90 to 94
        (89.5, 0.0, "better"),  # ours, 92, lies above
        (94.5, 0.0, "worse"),
        (94.5, 2.5, "reproduced"),  # 2.5 from our mean
    ],
)
def test_a_number_is_held_to_our_interval_and_its_tolerance(paper, tolerance, verdict):
    assert verdicts.of_number(paper, 92.0, 90.0, 94.0, tolerance) == verdict


def test_means_and_intervals_count_seeds_alike_and_users_by_their_comparisons():
    uneven = Judged(np.array([9.0, 1.0]), np.array([10, 2]))  # 10 of 12
    assert intervals.mean([uneven, judged(5, 5)]) == pytest.approx(100 * (10 / 12 + 0.5) / 2)
    low, high = intervals.interval(intervals.resampled([judged(9, 9), judged(5, 5)]))
    assert (low, high) == pytest.approx((50, 90))


def test_a_difference_is_paired_by_user():
    """Users differ widely, but every one gains exactly one of ten."""
    less, more = [judged(1, 3, 5, 7)] * 2, [judged(2, 4, 6, 8)] * 2
    draws = intervals.resampled(more) - intervals.resampled(less)
    assert draws == pytest.approx(np.full(len(draws), 10.0))


def test_a_published_number_meets_every_preset_and_others_numbers_none():
    rows = [{**summary(arm(9, K=2)), "preset": name} for name in ("paper", "ours")] + [summary(arm(5, K=1))]
    number = Published(at={"K": 2, "what": "seen"}, value=95.2, tolerance=1.0, place="S1")
    found = [(row["preset"], row["ours"], row["verdict"]) for row in verdicts.published(number, rows)]
    assert found == [("paper", 90.0, "worse"), ("ours", 90.0, "worse")]
    others = Published(value=61.72, whose="others", why="another system", place="S1")
    (row,) = verdicts.published(others, rows)
    assert (row["verdict"], row["why"]) == ("not repeated here", "another system")
    picture = Published(at={"K": 2}, value=None, place="S1")
    assert {row["verdict"] for row in verdicts.published(picture, rows)} == {"no number given"}


def test_a_similarity_which_no_preset_changes_is_held_to_its_number_once():
    rows = [{**summary(arm(6, what="similarity_test")), "preset": name} for name in ("paper", "authors")]
    number = Published(at={"what": "similarity_test"}, value=60.0, place="S1")
    assert len(verdicts.published(number, rows)) == 1


def test_a_difference_is_looked_at_wherever_the_other_axes_agree():
    said = {"check": "difference", "more": {"K": "groups"}, "less": {"K": 1}}
    row = check(**said)
    assert [(cell["ours"], cell["holds"]) for cell in row["cells"]] == [(20.0, True), (0.0, False)]
    assert (row["verdict"], row["holds_in"]) == ("not reproduced", 1)
    assert check(**said, value=7.0, tolerance=3.0)["verdict"] == "reproduced"  # (20 + 0) / 2 = 10
    assert check(**said, value=7.0, tolerance=2.0)["verdict"] == "better"


def test_reaching_ranging_rising_and_staying_below_are_read_off_the_cells():
    assert check(check="reaches", at={"K": 2}, least=80.0)["verdict"] == "reproduced"
    assert check(check="reaches", at={"K": 2}, least=85.0)["holds_in"] == 1
    assert check(check="below", at={"K": 1}, least=70.0)["verdict"] == "better"
    assert check(check="below", at={"K": 1}, least=70.1)["verdict"] == "reproduced"
    assert [c["ours"] for c in check(check="range", over="K", most=15.0)["cells"]] == [20.0, 10.0]
    assert check(check="rises", over="K", at={"groups": 2})["cells"][0]["ours"] == 20.0
    assert check(check="rises", over="K", at={"groups": 3})["verdict"] == "not reproduced"
    row = check(check="gap", over="K", more={"groups": 2}, less={"groups": 3})
    assert (row["cells"][0]["ours"], row["verdict"]) == (20.0, "reproduced")


def test_a_variant_of_a_preset_stands_beside_without_a_verdict():
    arms = [arm(right, K=K, preset="paper-full") for K, right in ((3, 9), (1, 2))]
    row = check(arms, check="difference", more={"K": 3}, less={"K": 1}, value=7.0)
    assert (row["preset"], row["verdict"]) == ("paper-full", verdicts.BESIDE)


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        # Every user gains 1 of 10, or 3: 20 in the mean, 10 to 30 in any draw.
        ({"check": "difference", "more": {"K": 2}, "less": {"K": 1}, "least": 9.9}, "reproduced"),
        ({"check": "difference", "more": {"K": 2}, "less": {"K": 1}, "least": 19.0}, "undecided"),
        ({"check": "difference", "more": {"K": 2}, "less": {"K": 1}, "least": 30.1}, "not reproduced"),
        # Users are right in 3, 5, 7 or 9 of 10: 30 to 90 % in any draw.
        ({"check": "reaches", "at": {"K": 2}, "least": 60.0}, "undecided"),
        ({"check": "reaches", "at": {"K": 2}, "least": 90.1}, "worse"),
        ({"check": "below", "at": {"K": 2}, "least": 29.9}, "better"),
    ],
)
def test_a_claim_is_decided_by_our_whole_interval(said, verdict):
    assert check([arm(2, 4, 4, 6, K=1), arm(3, 7, 5, 9, K=2)], **said)["verdict"] == verdict


def test_an_interval_is_written_without_a_minus_zero_and_without_a_minus_beside_a_dash():
    assert page.ends({"low": 82.69, "high": 87.13}) == "82.7\u201387.1"
    assert page.ends({"low": -0.01, "high": 0.04}) == "0.0\u20130.0"
    assert page.ends({"low": -1.35, "high": 1.84}) == "-1.4 to 1.8"
