"""Gathering: vectors in the order asked for, the same in memory, in passes, and through a file without a name."""

import errno

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.storage import gathering

QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)
FILES = [np.arange(24).reshape(12, 2).astype(np.float16) + 100 * number for number in range(4)]


def gathered(wanted, rows, folder, most, passes=0):
    file, row = (np.array([one[i] for one in wanted], dtype=np.int32) for i in (0, 1))
    read = []

    def vectors(number):
        read.append(number)
        return FILES[number]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "IN_MEMORY", most)
        patch.setattr(gathering, "PASSES", passes)
        parts = list(gathering.gather(vectors, file, row, rows, (2, np.dtype("float16")), folder))
    assert max(read.count(number) for number in set(read)) <= max(1, passes)
    return parts


@QUICK
@given(
    wanted=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 11)), min_size=1, max_size=70),
    rows=st.integers(1, 80),
    most=st.sampled_from([0, 100, 1 << 20]),
    passes=st.sampled_from([0, 1, 100]),
)
def test_all_ways_give_each_vector_in_its_place(tmp_path_factory, wanted, rows, most, passes):
    folder = tmp_path_factory.getbasetemp()
    parts = gathered(wanted, rows, folder, most, passes)
    assert [len(part) for part in parts[:-1]] == [rows] * (len(parts) - 1)
    assert np.array_equal(np.concatenate(parts), [FILES[file][row] for file, row in wanted])


def test_the_file_has_no_name(tmp_path):
    gathered([(n % 4, n % 12) for n in range(50)], 7, tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


def test_parts_made_ahead_are_the_same_parts():
    made = [np.arange(n) for n in (3, 1, 4)]
    assert [part.tolist() for part in gathering.one_ahead(iter(made))] == [part.tolist() for part in made]


def test_what_fails_ahead_fails_for_the_taker():
    def parts():
        yield np.arange(2)
        raise PipelineError("the second is lost")

    taken = gathering.one_ahead(parts())
    assert len(next(taken)) == 2
    with pytest.raises(PipelineError, match="the second is lost"):
        next(taken)


def test_where_no_file_can_be_made_the_systems_folder_serves(tmp_path):
    """As in a store that cannot be written."""
    assert len(gathered([(0, 1), (1, 2)], 1, tmp_path / "none", 0)) == 2


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gathering, "_spread", fail)
    with pytest.raises(
        PipelineError, match=r"could not be put in order beside .* \(No space left on device\); make"
    ):
        gathered([(0, 1), (1, 2)], 1, tmp_path, 0)
