"""Pick-a-Pic: which files there are and what each must hold; what counts, is dropped and counted; who is seen."""

import polars as pl
import pyarrow.parquet as pq
import pytest

from pal.errors import PalError
from pipeline import PipelineError, params
from pipeline.datasets import pickapic, pickapic_v2
from pipeline.storage import tables


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
    message = r"must have a column jpg_0, .* are these the tables without images"
    with pytest.raises(PipelineError, match=message):
        pickapic.find(params.load()).check()


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ([], r"pickapic_v1\.source must hold Parquet files named train-\*, .*which has none"),
        (["extra.parquet"], r"must hold files named .* got 'extra\.parquet' in .*; rename it"),
        (["train-0.parquet", "data/train-0.parquet"], r"must hold each file once, got 'train-0\.parquet' twice"),
    ],
)  # fmt: skip
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


def prepared(files, out, ties="drop"):
    """Prepare as v1 does; returns the counts."""
    out.mkdir(exist_ok=True)
    kept, images = pickapic.load(files, ties=ties)
    return kept.counts() | pickapic.write(pickapic.place(kept.rows, 0.0, 0), images, out)


def test_label_0_says_which_picture_wins(shards, tmp_path, read_pairs):
    labels = {("a", "b"): 1.0, ("c", "d"): 0.0, ("e", "f"): 0.5}
    rows = [shards.row(label=label, images=images) for images, label in labels.items()]
    shards.write("train-0.parquet", rows)
    files = shards.files()
    counts = prepared(files, tmp_path / "out", ties="keep")
    pairs, _ = read_pairs(tmp_path / "out", files)
    assert pairs.select("chosen", "rejected", "label").rows() == [
        ("a", "b", 1),
        ("d", "c", 1),
        ("e", "f", 0.5),
    ]
    assert (counts["read"], counts["kept"], counts["dropped"]) == (3, 3, 0)


def test_what_is_no_comparison_is_dropped_and_counted_by_reason(shards, tmp_path, read_pairs):
    train = [{}, {"label": 0.5}, {"images": ("x", "x")}, {"prompt": None}, {"prompt": " "}, {"user": None},
             {"image_1_uid": None}, {"image_0_uid": ""}, {"has_label": False, "label": None},
             {"has_label": False},  # train is as PickScore takes it: what has a label counts
             {"has_label": None, "label": float("nan")}]  # fmt: skip
    train = [shards.row(**changes) for changes in train]
    shards.write("train-0.parquet", train, row_group_size=4)
    shards.write("test-0.parquet", [shards.row(), shards.row(has_label=False), shards.row(has_label=None)])
    shards.write("validation_unique-0.parquet", [shards.row(), shards.row()])
    counts = prepared(shards.files(), tmp_path / "out")
    assert counts == {
        "read": 16, "kept": 3, "dropped": 13, "validation_unique": 2, "incomplete": 5, "without_label": 4,
        "same_image": 1, "ties": 1, "prompts": 1, "images": 6, "users": 1,
    }  # fmt: skip
    _, items = read_pairs(tmp_path / "out")
    assert items["modality"].value_counts().sort("count").rows() == [("text", 1), ("image", 6)]


@pytest.mark.parametrize("label", [0.3, float("nan"), None])
def test_a_label_that_is_none_of_the_three_is_refused_by_file_and_row(shards, tmp_path, label):
    shards.write("train-0.parquet", [shards.row(), shards.row(), shards.row(label=label)], row_group_size=2)
    message = r"train-0\.parquet, row 0 of row group 1, must have a label_0 of 1 .*, got "
    with pytest.raises(PipelineError, match=message):
        prepared(shards.files(), tmp_path / "out")


def test_a_picture_is_where_its_bytes_first_occur(shards, tmp_path, read_pairs):
    """b lies first on the right of train's first row, a on the left of its second, in another row group."""
    shards.write("test-0.parquet", [shards.row(images=("a", "c"))])
    first, second = shards.row(images=("c", "b")), shards.row(images=("a", "b"))
    shards.write("train-0.parquet", [first, second], row_group_size=1)
    files = shards.files()
    prepared(files, tmp_path / "out")
    pairs, items = read_pairs(tmp_path / "out", files)
    train = files["train-0.parquet"].name
    places = [("file", pl.String), ("row_group", pl.Int32), ("row", pl.Int32), ("column", pl.String)]
    images = items.filter(pl.col("modality") == "image")
    images = images.select(pl.col(name).cast(kind) for name, kind in places)
    assert sorted(images.rows()) == [(train, 0, 0, "jpg_0"), (train, 0, 0, "jpg_1"), (train, 1, 0, "jpg_0")]
    assert pairs.select("chosen", "rejected").rows() == [("c", "b"), ("a", "b"), ("a", "c")]
    ids = {tables.image_id(train, 0, 0, "jpg_0"), tables.image_id(train, 0, 0, "jpg_1"),
           tables.image_id(train, 1, 0, "jpg_0"), tables.text_id("a dog")}  # fmt: skip
    assert set(items["item_id"]) == ids
