"""The format of Pick-a-Pic: which files there are, what each must hold, and what is read of it."""

import polars as pl
import pyarrow.parquet as pq
import pytest

from pal.errors import PalError
from pipeline import PipelineError, params
from pipeline.datasets import pickapic, pickapic_v2


def test_v2_brings_the_tables_of_v1_without_pixels(project):
    v2, v1 = pickapic_v2.find(params.load()).remotes
    assert v2.repo == "yuvalkirstain/pickapic_v2"
    assert (v1.repo, v1.prefix) == ("yuvalkirstain/pickapic_v1_no_images", "v1/")
    assert v1.files == ["data/train-*.parquet", "data/validation-*.parquet"]
    project.set({"pickapic_v2.prepare.leakage": "skip"})
    assert [remote.repo for remote in pickapic_v2.find(params.load()).remotes] == [v2.repo]


def test_a_folder_is_linked_to_and_never_copied(project, shards, more_shards):
    shards.write("data/train-00000-of-00001.parquet", [shards.row()])
    shards.write("test-00000-of-00001.parquet", [shards.row()])
    without = pickapic.JPEGS  # v1's tables have none, and need none
    more_shards.write("train-00000-of-00001.parquet", [more_shards.row()], without=without)
    more_shards.write("test-00000-of-00001.parquet", [more_shards.row()])
    project.set({"pickapic_v1.source": str(more_shards.folder), "pickapic_v2.source": str(shards.folder)})
    found = pickapic_v2.find(params.load())
    assert not found.paths
    assert not found.remotes
    assert found.links == {
        "train-00000-of-00001.parquet": shards.folder / "data/train-00000-of-00001.parquet",
        "test-00000-of-00001.parquet": shards.folder / "test-00000-of-00001.parquet",
        "v1/train-00000-of-00001.parquet": more_shards.folder / "train-00000-of-00001.parquet",
    }
    found.check()
    assert found.source == f"Pick-a-Pic v2 from {shards.folder}"
    with pytest.raises(
        PipelineError, match=r"must have a column jpg_0, .* are these the tables without images"
    ):
        pickapic.find(params.load()).check()


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ([], r"pickapic_v1\.source must hold Parquet files named train-\*, .*which has none"),
        (["extra.parquet"], r"must hold files named .* got 'extra\.parquet' in .*; rename it"),
        (
            ["train-0.parquet", "data/train-0.parquet"],
            r"must hold each file once, got 'train-0\.parquet' twice",
        ),
    ],
)
def test_a_folder_that_is_not_as_it_must_be_is_refused(project, shards, names, complaint):
    for name in names:
        shards.write(name, [shards.row()])
    project.set({"pickapic_v1.source": str(shards.folder)})
    with pytest.raises(PipelineError, match=complaint):
        pickapic.find(params.load())


def test_rows_are_read_in_order_and_pixels_never(shards, monkeypatch):
    """In the order of split, file, row group and row."""
    shards.write("test-0.parquet", [shards.row(prompt="g")])
    shards.write("train-1.parquet", [shards.row(prompt="d"), shards.row(prompt="e")])
    shards.write("train-0.parquet", [shards.row(prompt=text) for text in "abc"], row_group_size=2)
    shards.write("validation-0.parquet", [shards.row(prompt="f")])
    names, read = set(), pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, group, columns: [names.update(columns), read(self, group, columns=columns)][1],
    )
    frame = pickapic.read(shards.files())
    assert frame["prompt"].to_list() == list("abcdefg")
    assert frame["split"].to_list() == ["train"] * 5 + ["validation", "test"]
    assert frame["row_group"].to_list() == [0, 0, 1, 0, 0, 0, 0]
    assert frame["row"].to_list() == [0, 1, 0, 0, 1, 0, 0]
    assert frame["file"].cast(pl.String).n_unique() == 4
    assert names == set(pickapic.COLUMNS)


@pytest.mark.parametrize("kept", [0, 200])
def test_a_truncated_file_is_refused_with_its_reason(shards, kept):
    path = shards.write("train-0.parquet", [shards.row()])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(PalError, match=r"train-0\.parquet is damaged or not Parquet \("):
        pickapic.read(shards.files())


def test_files_without_a_row_among_them_are_refused(shards):
    shards.write("train-0.parquet", [])
    with pytest.raises(PipelineError, match="must hold comparisons, got not one row"):
        pickapic.read(shards.files())
