"""At length: what benchmarks of validity claim, measured anew and held to their limits by `make faults`.

A small part of each runs every time: in tests/pal/evaluation nulls, one reward, intervals and choose-k, in
tests/pipeline/evaluation/test_bounds.py the bound, and here memory.
"""

from importlib import import_module

import pytest

from benchmarks.__main__ import MODULES
from benchmarks.scale import large_csv

SECTIONS = ("plurality", "one_reward", "intervals", "homogeneous", "bound", "large_csv")


@pytest.mark.slow
@pytest.mark.parametrize("name", SECTIONS)
def test_what_is_claimed_is_reached(name):
    section = getattr(import_module(f"benchmarks.{MODULES[name]}"), name)()
    missed = {row.what: row.verdict for row in section.rows if row.verdict.startswith("missed")}
    assert missed == {}


def test_a_csv_of_ten_megabytes_is_read_in_parts():
    """130 to 200 MB beside the program, by machine; five times the file, twice, would be 100 MB more."""
    section = large_csv(comparisons=50_000, people=2_500)
    taken = [row.got for row in section.rows if row.at_most is not None]
    assert len(taken) == 3
    assert max(taken) < 250
