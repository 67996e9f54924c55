"""The drawn sample: Pick-a-Pic's own schema, and nobody is asked twice."""

import polars as pl
import pyarrow.parquet as pq
import pytest

from pipeline.datasets import drawn_scenes, pickapic

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Each split's rows, of files with the exact names and schema."""
    folder = tmp_path_factory.mktemp("sample")
    drawn_scenes.write(folder)
    files = {split: folder / f"{split}-00000-of-00001.parquet" for split in SPLITS}
    assert set(folder.iterdir()) == set(files.values())
    assert all(pq.read_schema(path).equals(pickapic.schema()) for path in files.values())
    return {split: pl.read_parquet(path) for split, path in files.items()}


def test_nobody_is_asked_twice_about_one_prompt(rows):
    for frame in rows.values():
        assert frame.select("user_id", "caption").is_unique().all()
        counts = frame.group_by("caption").agg(pl.len(), pl.col("num_example_per_prompt").unique())
        assert (counts["len"] == counts["num_example_per_prompt"].explode()).all()
