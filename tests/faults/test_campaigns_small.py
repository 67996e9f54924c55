"""The campaigns that `make faults` runs in full, each in a small version."""

import pytest

from faults import damage, fuzz, malice


def held(*tallies):
    assert [tally.failures for tally in tallies if tally.failures] == []
    assert all(tally.cases for tally in tallies)


def test_damage_is_told_or_changes_nothing():
    held(*damage.run(cases=12))


def test_nonsense_is_a_result_or_a_sentence():
    held(*fuzz.run(examples=60, number=1))


SLOW = ("100,000", "million", "huge cells", "endless")
CASES = [(name, attempt) for name, attempt in malice.cases() if not any(word in name for word in SLOW)]


@pytest.mark.parametrize(("name", "attempt"), CASES, ids=[name for name, _ in CASES])
def test_malicious_files_are_refused_and_nothing_in_them_runs(name, attempt, tmp_path):
    with damage._inside(tmp_path):
        assert malice.outcome(attempt) == ""
