"""Texts, pictures, embeddings and comparisons as callers pass them."""

import collections
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from pal.errors import PalError
from pal.serving.inputs import (
    InputEncoder,
    Preference,
    Preferences,
    as_columns,
    as_list,
    as_row,
)

ROW = Preference("q", "a", "b", 0.75)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["a", torch.zeros(2)], "all embeddings or none, got both"),
        ([torch.zeros(2), torch.zeros(3)], r"vectors of one width, got the shapes \[\(2,\), \(3,\)\]"),
        ([[1.0, "a"]], "an embedding must be numbers, got something else"),
        ([b"picture", [1.0]], "all embeddings or none, got both"),
        (["a", None], "or an embedding, got NoneType"),
        (torch.tensor(1.0), "must be a list of numbers, got a single number"),
        (np.float32([1.0])[0], "or an embedding, got float32"),
        (
            torch.ones(2, 2, device="meta"),
            "must be a dense tensor with its numbers, got one on the meta device",
        ),
        (
            torch.eye(2).to_sparse(),
            "must be a dense tensor with its numbers, got one of the layout torch.sparse_coo",
        ),
        (pd.DataFrame({"prompt": ["a"]}), "or an embedding, got DataFrame"),
        (pa.table({"prompt": ["a"]}), "or an embedding, got Table"),
        ({"prompt": ["a"]}, "or an embedding, got dict"),
        ({"a", "b"}, "or an embedding, got set"),
    ],
)
def test_what_is_no_item_is_refused(items, message):
    with pytest.raises(PalError, match=message):
        getattr(as_list, "__wrapped__", as_list)(items)  # past the check of types


COLUMNS = [
    np.array, pd.Series, lambda items: pd.Series(items, index=range(9, 7, -1)), pl.Series, pa.array,
    lambda items: pa.chunked_array([items]), collections.deque,
]  # fmt: skip


@pytest.mark.parametrize("column", COLUMNS)
def test_columns_of_tables_are_lists(column):
    unchecked = getattr(as_list, "__wrapped__", as_list)  # Arrow's columns are no collections to Python
    assert unchecked(column(["a cup", "of tea"])) == ["a cup", "of tea"]


def test_an_embedding_that_is_not_finite_is_named_in_any_block():
    """Two of 3e38 overflow float32 when added, and are finite."""
    encode = InputEncoder({}).encode
    encode(torch.full((2, 2), 3e38), "responses", 2)
    table = torch.zeros(9000, 2)
    table[8500, 1] = torch.inf
    with pytest.raises(PalError, match=r"^responses\[8510\] must be finite") as caught:
        encode(table, "responses", 2, start=10)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.row, error.column, error.user) == (8510, "responses", None)
    assert f"responses[8510] {error.problem}" == str(error)


@pytest.mark.parametrize(
    "given", [ROW, ["q", "a", "b", 0.75], {"prompt": "q", "chosen": "a", "rejected": "b", "label": 0.75}]
)
def test_a_comparison_comes_in_many_shapes(given):
    assert as_row(Preference, given, "a comparison") == ROW


def test_rows_become_columns():
    columns = as_columns([ROW, ("p", "c", "d")], needs_prompts=True)
    assert (columns.prompts, columns.chosen, columns.rejected) == (["q", "p"], ["a", "c"], ["b", "d"])
    assert columns.label.tolist() == [0.75, 1.0]
    assert as_columns([ROW], needs_prompts=False).prompts is None
    one_prompt = as_columns(Preferences("q", ["a", "b"], ["c", "d"]), needs_prompts=True)
    assert (one_prompt.prompts, one_prompt.label) == (["q", "q"], None)
    vectors = as_columns(Preferences(torch.zeros(1), torch.zeros(2, 1), torch.ones(2, 1)), needs_prompts=True)
    assert vectors.prompts.shape == (2, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "comparisons must be a list, got int"),
        (
            [("a", "b")],
            r"comparison 0 must be prompt, chosen, rejected, label, by name or in this order, got \('a', 'b'\)",
        ),
        ([{"chosen": "a"}], "by name or in this order, got {'chosen': 'a'}"),
        ([{"chosen": "a", "rejected": "b", "lable": 1}], "got .*'lable'"),
        ([ROW, ("q", "a", "b", 1.5)], r"^label of comparison 1 must lie in \[0, 1\], got 1.5"),
        ([ROW, (None, "a", "b")], "must all have a prompt or none, got none in comparison 1"),
        (Preferences(["p", "q", "r"], ["a", "b"], ["c", "d"]), "one for each of 2 chosen, got 3"),
        (Preferences("p", ["a", "b"], ["c"]), "as many as the 2 chosen, got 1 and 2"),
    ],
)
def test_comparisons_that_cannot_be_used_are_refused(given, message):
    with pytest.raises(PalError, match=message):
        as_columns(given, needs_prompts=True)
