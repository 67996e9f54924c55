"""Failing system calls, a small campaign: what `python -m faults calls` does at length."""

from faults import calls
from pal import placing


def test_every_call_of_a_table_fails_and_nothing_is_half_done():
    tally = calls.disturb(calls.RUNS["table"], step=5, faults=("ENOSPC", "short"))
    assert tally.failures == []
    assert tally.cases > 20


def test_a_stage_survives_a_full_disk():
    tally = calls.disturb(calls.RUNS["prepare"], step=40, faults=("ENOSPC",))
    assert tally.failures == []
    assert tally.cases >= 4


def test_a_real_process_ends_with_a_sentence():
    tally = calls.disturb(
        calls.RUNS["download"], step=25, start=calls.in_a_child("download"), faults=("ENOSPC",)
    )
    assert tally.failures == []
    assert tally.cases >= 2


def test_a_writer_that_breaks_its_promise_is_found(monkeypatch):
    """Written straight under its final name, a table is neither old nor new."""
    monkeypatch.setattr(calls.temporaries, "beside", lambda path, end="new": path)
    monkeypatch.setattr(placing, "put", lambda new, path: None)
    monkeypatch.setattr("pal.writing._create", lambda path: placing.os.open(path, placing.os.O_WRONLY))
    monkeypatch.setattr(calls.temporaries, "remove", lambda path: None)
    tally = calls.disturb(calls.RUNS["table"], step=9, faults=("ENOSPC",))
    assert "table.parquet is neither the old nor the new" in tally.failures[0]
