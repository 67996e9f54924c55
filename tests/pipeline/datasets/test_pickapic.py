"""The format of Pick-a-Pic: which files there are, what each must hold, and what is read of it."""

from datetime import datetime
from pathlib import Path
from random import Random

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import PipelineError, params
from pipeline.datasets import pickafilter, pickapic_files, pickapic_v1, pickapic_v2

FIXTURE = Path(__file__).parents[3] / "../shared/data/pickapic_fixture"


def test_a_files_name_says_its_split():
    names = {
        "train-00000-of-00387-0123456789abcdef.parquet": "train",
        "v1/test-00000-of-00001.parquet": "test",
        "test_unique-00000-of-00001-ab.parquet": "test_unique",
        "test.parquet": None,
        "train-0.jsonl": None,
    }
    assert {name: pickapic_files.split_of(name) for name in names} == names


def test_the_hub_is_asked_for_the_four_splits_at_the_pinned_revision(project):
    project.set({"pickafilter.source": "pickapic_v1", "pickapic_v1.hub.revision": "abc"})
    values = params.load()
    [remote] = pickapic_v1.find(values).remotes
    assert (remote.repo, remote.revision) == ("yuvalkirstain/pickapic_v1", "abc")
    assert remote.files == [f"data/{s}-*.parquet" for s in ("train", "validation", "test", "test_unique")]
    assert pickafilter.find(values) == pickapic_v1.find(values)


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
    without = pickapic_files.JPEGS  # v1's tables have none, and need none
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
        PipelineError, match=r"must have one column jpg_0 .* are these the tables without images"
    ):
        pickapic_v1.find(params.load()).check()


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
        pickapic_v1.find(params.load())


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
    frame = pickapic_files.read(shards.files())
    assert frame["prompt"].to_list() == list("abcdefg")
    assert frame["split"].to_list() == ["train"] * 5 + ["validation", "test"]
    assert frame["row_group"].to_list() == [0, 0, 1, 0, 0, 0, 0]
    assert frame["row"].to_list() == [0, 1, 0, 0, 1, 0, 0]
    assert frame["file"].cast(pl.String).n_unique() == 4
    assert names == set(pickapic_files.COLUMNS)


def test_columns_of_any_width_and_extra_columns_are_read_alike(shards):
    plain = shards.write("train-0.parquet", [shards.row(created_at=datetime(2023, 1, 1))])
    frame = pickapic_files.read({"train-0.parquet": plain})
    wide = {
        "caption": pa.dictionary(pa.int32(), pa.string()), "image_0_uid": pa.large_string(),
        "image_1_uid": pa.string_view(), "user_id": pa.int32(), "label_0": pa.float32(),
        "created_at": pa.timestamp("ms", "UTC"), "jpg_0": pa.large_binary(),
    }  # fmt: skip
    table = pq.read_table(plain)
    for column, kind in wide.items():
        table = table.set_column(table.schema.get_field_index(column), column, table[column].cast(kind))
    pq.write_table(table.append_column("extra", pa.array([1])), plain)
    again = pickapic_files.read({"train-0.parquet": plain})
    assert again.equals(frame)
    assert again["time"].to_list() == [datetime(2023, 1, 1)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": ["caption"]}, r"one column caption \(string\), as Pick-a-Pic has, got none"),
        ({"cast": {"caption": pa.binary()}}, "caption of type string, as Pick-a-Pic has, got binary"),
        ({"cast": {"has_label": pa.int8()}}, "has_label of type bool, as Pick-a-Pic has, got int8"),
        ({"cast": {"ranking_id": pa.float64()}}, "ranking_id of type int64, as Pick-a-Pic has, got double"),
        ({"cast": {"created_at": pa.int64()}}, "created_at of type timestamp, as Pick-a-Pic has, got int64"),
        ({"cast": {"jpg_1": pa.string()}}, "jpg_1 of type binary, as Pick-a-Pic has, got string"),
    ],
)
def test_a_column_that_is_missing_or_of_another_type_is_named(shards, changes, message):
    shards.write("train-0.parquet", [shards.row()], **changes)
    with pytest.raises(PipelineError, match=rf"train-0\.parquet must have {message}"):
        pickapic_files.check(shards.files(), pixels=True)


@pytest.mark.parametrize("kept", [0, 200])
def test_a_truncated_file_is_refused_with_its_reason(shards, kept):
    path = shards.write("train-0.parquet", [shards.row()])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        PipelineError, match=r"train-0\.parquet must be a whole Parquet file .* fetch it again"
    ):
        pickapic_files.read(shards.files())


def test_a_flipped_byte_is_read_or_refused_in_one_sentence(shards):
    path = shards.write(
        "train-0.parquet", [shards.row(prompt=f"dog {n}") for n in range(9)], row_group_size=4
    )
    whole = path.read_bytes()
    damaged = shards.folder / "damaged.parquet"
    random = Random(0)
    refused = []
    for _ in range(150):
        place = random.randrange(len(whole))
        damaged.write_bytes(whole[:place] + bytes([random.randrange(256)]) + whole[place + 1 :])
        try:
            frame = pickapic_files.read({"train-0.parquet": damaged})
            assert len(frame.columns) == 4 + len(pickapic_files.COLUMNS)
        except PipelineError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert not any("\n" in sentence for sentence in refused)


def test_files_without_a_row_among_them_are_refused(shards):
    shards.write("train-0.parquet", [])
    with pytest.raises(PipelineError, match="must hold comparisons, got not one row"):
        pickapic_files.read(shards.files())
