"""The budget behind preset `ours` is the same for every dataset, and reads validation pairs alone."""

import numpy as np
import pytest

from experiments import search
from pal.evaluation.accuracy import Judged
from pipeline.errors import PipelineError


@pytest.mark.parametrize("model", ["A", "B"])
def test_the_preset_comes_first_and_twenty_four_different_configurations_follow(model):
    found = search.configurations(model)
    assert found[0] == ({}, {})
    assert len(found) == 25
    assert len({repr(one) for one in found}) == 25
    assert found == search.configurations(model)


@pytest.mark.parametrize("name", search.SETS)
def test_every_configuration_is_one_that_a_head_can_be_fitted_with(name):
    entry = search.SETS[name]
    for head, fit in search.configurations(entry.model):
        _, config = search._configs(entry, head, fit)
        assert config.max_steps == search.STEPS


def test_halves_of_a_users_pairs_share_none_and_leave_none():
    user = np.array([0, 1, 0, 0, 1, 0])
    first, second = (search._every_other(user, half).tolist() for half in (0, 1))
    assert (first, second) == ([0, 1, 3], [2, 4, 5])


def test_rows_are_sorted_and_differ_from_the_preset_by_what_they_say():
    total = np.array([10, 10])
    ours = [Judged(np.array([5.0, 5.0]), total)]
    better = [Judged(np.array([7.0, 7.0]), total)]
    rows = search._rows("simulated", [({}, {}), ({"hidden": 64}, {})], [ours, better])
    assert [row["options"] for row in rows] == [{"hidden": 64}, "preset ours"]
    # Both users gain two of ten, so every resample does.
    assert (rows[0]["less_ours"], rows[0]["low"], rows[0]["high"]) == (20.0, 20.0, 20.0)


def test_a_dataset_that_is_not_searched_is_refused_with_those_that_are():
    with pytest.raises(PipelineError, match="one of simulated, persona, got 'tldr'"):
        search.main("tldr")
