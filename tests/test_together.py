"""Two encodes at once on one store, and one beside a process that claims everything: as one after the other."""

import pytest

from faults import together


@pytest.mark.xdist_group("dag")
def test_two_at_once_give_the_result_of_one_after_the_other():
    (tally,) = together.run(texts=1_500, only=2)
    assert (tally.cases, tally.failures) == (2, [])
