"""From rows to items and pairs: what counts, what is dropped and counted, where pictures lie, who is seen."""

import polars as pl
import pytest

from pipeline import PipelineError
from pipeline.datasets import pickapic
from pipeline.storage import tables


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
    with pytest.raises(
        PipelineError, match=r"train-0\.parquet, row 0 of row group 1, must have a label_0 of 1 .*, got "
    ):
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
    images = items.filter(pl.col("modality") == "image").select(
        pl.col(name).cast(kind) for name, kind in places
    )
    assert sorted(images.rows()) == [(train, 0, 0, "jpg_0"), (train, 0, 0, "jpg_1"), (train, 1, 0, "jpg_0")]
    assert pairs.select("chosen", "rejected").rows() == [("c", "b"), ("a", "b"), ("a", "c")]
    ids = {tables.image_id(train, 0, 0, "jpg_0"), tables.image_id(train, 0, 0, "jpg_1"),
           tables.image_id(train, 1, 0, "jpg_0"), tables.text_id("a dog")}  # fmt: skip
    assert set(items["item_id"]) == ids
