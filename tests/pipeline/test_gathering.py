"""Gathering: vectors in the order asked for, the same through memory and through a file without a name."""

import errno

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import gathering
from pipeline.errors import PipelineError

QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)
FILES = [np.arange(24).reshape(12, 2).astype(np.float16) + 100 * number for number in range(4)]


def gathered(wanted, rows, folder, most):
    file, row = (np.array([one[i] for one in wanted], dtype=np.int32) for i in (0, 1))
    read = []

    def vectors(number):
        read.append(number)
        return FILES[number]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "IN_MEMORY", most)
        parts = list(gathering.gather(vectors, file, row, rows, (2, np.dtype("float16")), folder))
    assert len(read) == len(set(read))
    return parts


@QUICK
@given(
    wanted=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 11)), min_size=1, max_size=70),
    rows=st.integers(1, 80),
    most=st.sampled_from([0, 1 << 20]),
)
def test_both_ways_give_each_vector_in_its_place(tmp_path_factory, wanted, rows, most):
    folder = tmp_path_factory.getbasetemp()
    parts = gathered(wanted, rows, folder, most)
    assert [len(part) for part in parts[:-1]] == [rows] * (len(parts) - 1)
    assert np.array_equal(np.concatenate(parts), [FILES[file][row] for file, row in wanted])


def test_the_file_has_no_name(tmp_path):
    gathered([(n % 4, n % 12) for n in range(50)], 7, tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


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
