"""Kills, a small campaign, and how it counts: what `python -m faults kills` does at length."""

import pytest

from faults import kills, trace
from faults.killed import Target
from faults.kills import Kill


def test_what_is_killed_while_it_writes_to_the_store_resumes_to_the_same_bytes():
    (tally,) = kills.run(kills=1, only=("store write",))
    assert tally.failures == []
    assert tally.about["at work when killed"] == 1
    assert tally.about["pieces"] == trace.GROUPS


def test_a_piece_that_was_begun_in_both_runs_was_done_twice():
    killed, resumed = ["start a", "kept a", "start b"], ["start b", "kept b", "start c", "kept c", "end"]
    assert trace.twice(killed + resumed) == (1, 0)


def test_a_piece_that_was_kept_and_done_again_is_lost():
    assert trace.twice(["start a", "kept a", "start a", "kept a"]) == (1, 1)


def test_kills_are_the_same_for_a_seed_and_fall_within_the_work():
    aims = kills.aimed(40, 20, "0 encode")
    assert aims == kills.aimed(40, 20, "0 encode")
    assert all(1 <= aim.lines <= 36 and 0 <= aim.delay <= kills.DELAY for aim in aims)


@pytest.mark.parametrize(("at_work", "failures"), [(18, 0), (17, 1)])
def test_fewer_than_nine_tenths_at_work_is_a_failure(at_work, failures):
    target = Target("encode", (), (), lambda here, count: None)
    found = [Kill("", n < at_work) for n in range(20)]
    assert len(kills._tally(target, found, [], 20).failures) == failures


def test_a_store_that_forgets_what_it_kept_is_found(tmp_path, monkeypatch):
    """The notes of two whole runs, between which the store was emptied, hold every group twice."""
    monkeypatch.setattr(trace, "GROUPS", 3)
    lines = []
    for run in ("one", "two"):
        monkeypatch.setenv("PAL_STORE", str(tmp_path / run))
        trace.write(lines.append)
    assert trace.twice(lines) == (3, 3)


def test_a_group_is_noted_when_it_is_begun_and_when_it_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("PAL_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(trace, "GROUPS", 2)
    trace.main(str(tmp_path / "log"), ["write"])
    lines = (tmp_path / "log").read_text().split()
    assert lines[0::2][:4] == ["start", "kept", "start", "kept"]
    assert lines[-1] == "end"
