"""Manifests: none that does not add up is ever written."""

import json

import polars as pl
import pytest

from pipeline import manifest
from pipeline.errors import PipelineError


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "pairs.parquet"
    pl.DataFrame({"pair_id": [0, 1, 2]}).write_parquet(path)
    return path


def test_a_manifest_tells_the_counts_and_whatever_else_there_is(tmp_path, table):
    manifest.write(tmp_path, {"read": 5, "kept": 3, "dropped": 2, "ties": 2}, table, source="a log")
    assert json.loads((tmp_path / "manifest.json").read_text()) == {
        "counts": {"read": 5, "kept": 3, "dropped": 2, "ties": 2},
        "source": "a log",
    }


def test_what_went_in_must_have_come_out_or_been_dropped(tmp_path):
    with pytest.raises(
        PipelineError, match=r"read must be kept \+ dropped, got .*'read': 5, 'kept': 3, 'dropped': 1"
    ):
        manifest.write(tmp_path, {"read": 5, "kept": 3, "dropped": 1})
    assert list(tmp_path.iterdir()) == []


def test_what_is_said_to_be_kept_must_be_in_the_table(tmp_path, table):
    with pytest.raises(PipelineError, match=r"does not add up: pairs\.parquet has 3 rows, got .*'kept': 4"):
        manifest.write(tmp_path, {"read": 4, "kept": 4, "dropped": 0}, table)
