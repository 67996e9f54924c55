"""Pictures from where they lie: every item its own bytes, in order, and no more of a file than is wanted."""

import io

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pal.encoders import images
from pal.errors import PalError
from pipeline import paths
from pipeline.encoding import colour, pixels
from pipeline.errors import PipelineError
from pipeline.storage import raw, tables


def items():
    frame = tables.read_table(paths.recoloured("own") / tables.ITEMS, "")
    return pixels.in_order(frame.filter(frame["modality"] == "image"))


def read():
    """Item ids and pictures, in the order in which they are read."""
    frame = items()
    ids = frame["item_id"].to_list()
    return [(ids[one.at], one) for one in pixels.read(frame, "own")]


@pytest.fixture
def shelf(album, drawn):
    """Two Parquet files of two pictures a row, three rows in groups of two, some wanted; and a plain file."""
    album.expected = {}
    for name in "ab":
        data = {side: [drawn(10 * n + m) for n in range(3)] for m, side in enumerate(("jpg_0", "jpg_1"))}
        data["jpg_1"][1] += name.encode()  # what follows a picture's end is ignored; the files differ
        file = album.table(f"{name}.parquet", {**data, "caption": ["x", "y", "z"]}, 2)
        for row, side in ((2, "jpg_1"), (0, "jpg_0"), (1, "jpg_0"), (1, "jpg_1"), (2, "jpg_0")):
            item = album.item(file, row_group=row // 2, row=row % 2, column=side)
            album.expected[item] = data[side][row]
    alone = drawn(99, "JPEG")
    album.expected[album.file("alone.jpg", alone)] = alone
    album.write()
    return album


def test_every_item_gets_its_own_bytes(shelf):
    assert {item: one.data for item, one in read()} == shelf.expected


def test_pictures_come_in_the_order_in_which_they_lie(shelf):
    frame = items()
    assert [one.at for one in pixels.read(frame, "own")] == list(range(len(frame)))
    places = [row for row in frame.select("file", "row_group", "row", "column").iter_rows() if row[3]]
    assert places == sorted(places)


def test_only_wanted_columns_are_read(shelf, monkeypatch):
    """Neither captions nor, where nothing in it is wanted, the other picture."""
    asked = []
    real = pq.ParquetFile.iter_batches

    def watched(self, *words, **how):
        asked.append((how["row_groups"], how["columns"]))
        return real(self, *words, **how)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    frame = items()
    list(pixels.read(frame.filter((pl.col("row") == 0).fill_null(value=True)), "own"))
    assert asked == [([0], ["jpg_0"]), ([1], ["jpg_0", "jpg_1"])] * 2


def test_a_few_rows_are_in_memory_at_a_time(shelf, monkeypatch):
    monkeypatch.setattr(pixels, "ROWS_AT_ONCE", 1)
    assert {item: one.data for item, one in read()} == shelf.expected


def test_the_same_picture_with_and_without_filters_is_three_items(album, drawn):
    data = drawn(0)
    file = album.table("a.parquet", {"jpg_0": [data]}, 1)
    filters = (None, "mix #1f5fff 0.35", "multiply #ff5f1f 1")
    ids = [album.item(file, row_group=0, row=0, column="jpg_0", filter=one) for one in filters]
    album.write()
    found = {item: pixels.pixels(one) for item, one in read()}
    plain = images.read(data)
    assert len(found) == 3
    assert found[ids[0]].equal(plain)
    for item, one in zip(ids[1:], filters[1:], strict=True):
        assert found[item].equal(colour.apply(plain, one))
        assert not found[item].equal(plain)


def test_a_filter_is_put_over_the_decoded_picture(album):
    """A black PNG under half of white in linear light: sRGB 188, by hand (0.5 -> 187.5)."""
    out = io.BytesIO()
    Image.new("RGB", (3, 2)).save(out, "PNG")
    album.file("black.png", out.getvalue(), filter="mix #ffffff 0.5")
    album.write()
    ((_, one),) = read()
    assert pixels.pixels(one).unique().tolist() == [188]
    assert tuple(pixels.pixels(one).shape) == (3, 2, 3)


def test_a_cell_without_bytes_is_a_fault_of_its_item_alone(album, drawn):
    file = album.table("a.parquet", {"jpg_0": [None, b"", drawn(0)]}, 3)
    ids = [album.item(file, row_group=0, row=row, column="jpg_0") for row in range(3)]
    album.write()
    found = dict(read())
    for item in ids[:2]:
        with pytest.raises(PalError, match=r"^it has no bytes$|^empty$"):
            pixels.pixels(found[item])
    assert tuple(pixels.pixels(found[ids[2]]).shape) == (3, 16, 24)


def test_a_huge_file_is_not_read(album, drawn, monkeypatch):
    album.file("a.png", drawn(0))
    album.write()
    monkeypatch.setattr(pixels, "LARGEST_FILE", 100)
    ((_, one),) = read()
    assert one.data is None
    with pytest.raises(PalError, match=r"^larger than 0 MiB$"):
        pixels.pixels(one)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ({"row_group": 1, "row": 0, "column": "jpg_0"}, "row_group_indices is 1"),
        ({"row_group": 0, "row": 9, "column": "jpg_0"}, "row group 0 ends before row 9"),
        ({"row_group": 0, "row": 0, "column": "jpg_7"}, "jpg_7"),
        ({"row_group": 0, "row": 0, "column": "caption"}, "column caption holds no bytes but str"),
    ],
)
def test_a_place_that_is_not_there_is_one_sentence(album, drawn, place, reason):
    album.item(album.table("a.parquet", {"jpg_0": [drawn(0)], "caption": ["x"]}, 1), **place)
    album.write()
    with pytest.raises(PipelineError, match=rf"^a\.parquet of own is damaged or has not the .*{reason}"):
        read()


def test_a_file_that_is_no_parquet_is_one_sentence(album, drawn):
    album.file("a.png", drawn(0))
    album.places[0] |= {"row_group": 0, "row": 0, "column": "jpg_0"}
    album.write()
    with pytest.raises(
        PipelineError, match=r"^a\.png of own is damaged or has not the images that it had \("
    ):
        read()


def test_a_raw_file_that_is_not_listed_names_the_stage_to_run(album, drawn):
    album.file("a.png", drawn(0))
    album.item("f" * 64)
    album.write()
    with pytest.raises(
        PipelineError, match=r"raw file f{64} that download@own does not list; run `dvc repro prepare@own`"
    ):
        read()


def test_a_raw_file_that_is_gone_names_the_stage_to_run(album, drawn):
    album.file("a.png", drawn(0))
    album.write()
    raw.stored(raw.read_manifest("own").files[0], "own").unlink()
    with pytest.raises(PipelineError, match=r"a\.png of own is not in the store .*download@own`"):
        read()


def test_thumbnails_are_small_and_leave_out_what_is_no_picture(album, drawn):
    """24 x 16 in a square of 12: 12 x 8."""
    good = album.file("a.png", drawn(0))
    small = album.file("b.jpg", drawn(1, "JPEG", (6, 4)))
    album.file("c.png", b"<html>not found</html>")
    album.write()
    found = pixels.thumbnails(items(), "own", 12)
    shown = {item: Image.open(io.BytesIO(data)) for item, data in found.items()}
    assert {item: (one.format, one.size) for item, one in shown.items()} == {
        good: ("JPEG", (12, 8)), small: ("JPEG", (6, 4)),
    }  # fmt: skip


def test_thumbnails_show_the_filter(album):
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(out, "PNG")
    item = album.file("white.png", out.getvalue(), filter="mix #0000ff 1")
    album.write()
    shown = np.asarray(Image.open(io.BytesIO(pixels.thumbnails(items(), "own", 8)[item])))
    assert np.abs(shown.reshape(-1, 3).mean(0) - (0, 0, 255)).max() < 3
