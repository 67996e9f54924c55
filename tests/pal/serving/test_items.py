from inspect import unwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pal.errors import PalError
from pal.serving.items import Rows, checked, kind_of, listed

PICTURE = Image.new("RGB", (2, 2))


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        ("text", "text"),
        ("", "text"),
        (b"bytes", "image"),
        (Path("a.png"), "image"),
        (PICTURE, "image"),
        (torch.zeros(3), "vector"),
        (np.zeros(3), "vector"),
        ([0.5, 1], "vector"),
        ((1, 2), "vector"),
    ],
)
def test_the_kind_of_an_item_is_that_of_its_type(item, kind):
    assert kind_of(item) == kind


@pytest.mark.parametrize("item", [None, 3, {"text": "a"}, [], [None], [True]])
def test_anything_else_is_refused(item):
    with pytest.raises(PalError, match=f"or an embedding, got {type(item).__name__}"):
        kind_of(item)


@pytest.mark.parametrize("item", ["text", b"bytes", PICTURE])
def test_one_item_becomes_a_list(item):
    assert listed(item) == [item]
    assert listed((item, item)) == [item, item]


@pytest.mark.parametrize("vector", [torch.tensor([1.0, 2.0]), np.array([1.0, 2.0]), [1.0, 2.0], (1, 2)])
def test_vectors_become_a_table(vector):
    for found, rows in ((listed(vector), 1), (listed([vector, vector]), 2)):
        assert found.float().tolist() == [[1.0, 2.0]] * rows


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["a", torch.zeros(2)], "all embeddings or none, got both"),
        ([torch.zeros(2), torch.zeros(3)], r"vectors of one width, got the shapes \[\(2,\), \(3,\)\]"),
        ([torch.zeros(1, 2)], r"vectors of one width, got the shapes \[\(1, 2\)\]"),
        ([[1.0, "a"]], "an embedding must be numbers, got something else"),
        (np.array(["a"]), "an embedding must be numbers"),
        (["a", None], "got NoneType"),
        (None, "got NoneType"),
    ],
)
def test_lists_that_are_no_items_are_refused(items, message):
    with pytest.raises(PalError, match=message):
        unwrap(listed)(items)  # past the check of types


def test_a_huge_sum_is_no_infinity():
    """Two of 3e38 overflow float32 when added, and are finite."""
    table = torch.full((2, 2), 3e38)
    assert checked(table, 2, str) is table


def test_the_row_of_a_number_that_is_not_finite_is_found_in_any_block():
    table = torch.zeros(9000, 2)
    table[8500, 1] = torch.inf
    with pytest.raises(PalError, match="infinity in row 8500; encode it again"):
        checked(table, 2, lambda row: f"row {row}")


def test_rows_know_their_items():
    rows = Rows(torch.tensor([[1.0], [2.0]]), torch.tensor([1, 0, 1]))
    assert (len(rows), rows.block(1, 3).tolist()) == (3, [[1.0], [2.0]])
    assert Rows(rows.table).rows.tolist() == [0, 1]
    assert len(Rows(rows.table[:1]).repeated(4)) == 4


@pytest.mark.parametrize("step", [1, -1])
def test_arrays_that_may_not_be_written_are_read_and_left_alone(step):
    """As columns of a table file come, or views turned round."""
    array = np.arange(6, dtype=np.float32).reshape(3, 2)[::step]
    array.flags.writeable = False
    assert listed(array).tolist() == array.tolist()
