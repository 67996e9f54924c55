"""Verdicts and intervals, by numbers worked out by hand."""

import numpy as np
import pytest

from experiments import verdicts
from experiments.entries import Claim, Published
from experiments.measure import Arm, interval, summary
from experiments.verdicts import Estimate
from pal.evaluation.accuracy import Judged


def judged(*right):
    """One seed's users, of ten comparisons each so many judged right."""
    return Judged(np.array(right, dtype=float), np.full(len(right), 10))


def arm(*right, **at):
    """A row of two seeds of the same users; of a single number, four users alike."""
    right = right * 4 if len(right) == 1 else right
    return summary(Arm({"preset": "paper", "what": "seen", **at}, [judged(*right)] * 2))


ROWS = [
    *(arm(right, groups=2, K=K) for K, right in ((1, 7), (2, 9), (3, 9))),
    *(arm(right, groups=3, K=K) for K, right in ((1, 7), (2, 8), (3, 7))),
]


def check(rows=ROWS, **said):
    """A claim's verdict and what its one preset has."""
    found = verdicts.claim(Claim(says="so", place="S1", **said), rows)
    (preset,) = found["presets"]
    return {**preset, "statement": found["verdict"], "holds": [cell["holds"] for cell in preset["cells"]]}


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
    assert verdicts.of_number(paper, Estimate(92.0, 90.0, 94.0), tolerance) == verdict


def test_means_and_intervals_count_seeds_alike_and_users_by_their_comparisons():
    uneven = Judged(np.array([9.0, 1.0]), np.array([10, 2]))  # 10 of 12
    row = summary(Arm({}, [uneven, judged(5, 5)]))
    assert row["accuracy"] == pytest.approx(100 * (10 / 12 + 0.5) / 2, abs=1e-3)
    assert interval([judged(9, 9), judged(5, 5)]) == pytest.approx((50, 90))


def test_a_published_number_is_one_statement_with_every_preset_beside_it_and_others_numbers_none():
    rows = [{**arm(9, K=2), "preset": name} for name in ("ours", "paper")] + [arm(5, K=1)]
    rows[0]["accuracy"] = rows[0]["low"] = rows[0]["high"] = 99.0
    found = verdicts.published(Published(at={"K": 2}, value=95.2, tolerance=1.0, place="S1"), rows)
    judged = [(row["preset"], row["ours"], row["verdict"]) for row in found["presets"]]
    assert judged == [("ours", 99.0, "better"), ("paper", 90.0, "worse")]
    assert (found["verdict"], found["by"]) == ("worse", "paper")
    both = verdicts.published(Published(at={}, value=90.0, tolerance=1.0, place="S1"), rows)
    assert both["verdict"] == "undecided"  # reproduced at K = 2, another number at K = 1
    others = Published(value=61.72, whose="others", why="another system", place="S1")
    row = verdicts.published(others, rows)
    assert (row["verdict"], row["why"]) == ("not repeated here", "another system")
    picture = Published(at={"K": 2}, value=None, place="S1")
    assert verdicts.published(picture, rows)["verdict"] == "no number given"
    assert verdicts.published(Published(at={"K": 9}, value=1.0, place="S1"), rows)["verdict"] == "not run"


def test_reaching_ranging_rising_and_staying_below_are_read_off_the_cells():
    assert check(check="reaches", at={"K": 2}, least=80.0)["verdict"] == "reproduced"
    assert check(check="reaches", at={"K": 2}, least=85.0)["holds"] == [True, False]
    assert check(check="below", at={"K": 1}, least=70.0)["verdict"] == "better"
    assert check(check="below", at={"K": 1}, least=70.1)["verdict"] == "reproduced"
    assert [c["ours"] for c in check(check="range", over="K", most=15.0)["cells"]] == [20.0, 10.0]
    assert check(check="rises", over="K", at={"groups": 2})["cells"][0]["ours"] == 20.0
    assert check(check="rises", over="K", at={"groups": 3})["verdict"] == "not reproduced"
    row = check(check="gap", over="K", more={"groups": 2}, less={"groups": 3})
    assert (row["cells"][0]["ours"], row["verdict"]) == (20.0, "reproduced")


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        # 20 in the mean, and no interval of a share of 10 is wider than 100.
        ({"check": "difference", "more": {"K": 2}, "less": {"K": 1}, "least": -122.0}, "reproduced"),
        ({"check": "difference", "more": {"K": 2}, "less": {"K": 1}, "least": 19.0}, "undecided"),
        ({"check": "difference", "more": {"K": 2}, "less": {"K": 1}, "least": 162.0}, "not reproduced"),
        # Users are right in 3, 5, 7 or 9 of 10: 30 to 90 % in any draw.
        ({"check": "reaches", "at": {"K": 2}, "least": 60.0}, "undecided"),
        ({"check": "reaches", "at": {"K": 2}, "least": 90.1}, "worse"),
        ({"check": "below", "at": {"K": 2}, "least": 29.9}, "better"),
    ],
)
def test_a_claim_is_decided_by_our_whole_interval(said, verdict):
    assert check([arm(2, 4, 4, 6, K=1), arm(3, 7, 5, 9, K=2)], **said)["verdict"] == verdict
