"""Images into the store: fixed batches in reading order, bad ones told and counted, a kill loses a group."""

import csv
import io
import json
import shutil

import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pal.encoders import vector_store as embeddings
from pal.encoders.model_free import Classical
from pipeline import PipelineError, images, paths
from pipeline.stages import encode
from pipeline.storage import tables

HTML = b"<html><body>404 not found</body></html>"
WARM = "mix #ff5f1f 0.5"


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr(encode, "LEAST_ROWS", 8)


@pytest.fixture
def full(album, drawn):
    """Twenty pictures: eight files, some with a filter, and six rows of two in a Parquet file."""
    for n in range(8):
        album.file(f"{n}.jpg", drawn(n, "JPEG" if n % 2 else "PNG"), filter=WARM if n >= 4 else None)
    columns = {f"jpg_{m}": [drawn(100 + 10 * m + n) for n in range(6)] for m in range(2)}
    file = album.table("train.parquet", columns, 4)
    for column in columns:
        for n in range(6):
            album.item(file, row_group=n // 4, row=n % 4, column=column)
    album.write()
    return album


def written():
    return {path.name: path.read_bytes() for path in paths.embeddings("own").rglob("*.*")}


@pytest.fixture
def encoded(monkeypatch):
    """The batches that the encoder was given; `encoded.stop` ends the run, as a kill would, after as many."""

    class Batches(list):
        stop = None

    seen = Batches()
    real = Classical.encode_images

    def watched(self, batch):
        if seen.stop is not None and len(seen) >= seen.stop:
            raise KeyboardInterrupt
        seen.append(batch.numpy().tobytes())
        return real(self, batch)

    monkeypatch.setattr(Classical, "encode_images", watched)
    return seen


def test_a_killed_run_resumes_to_the_same_bytes_whatever_the_workers(full, encoded, monkeypatch):
    """Three batches of five were done: one group of two is in the store, and only the other three are encoded."""
    root = full.project.root
    monkeypatch.setenv("PAL_STORE", str(root / "undisturbed"))
    shutil.copytree(root / "store", root / "undisturbed")
    encode.main("own")
    whole, batches = written(), list(encoded)
    monkeypatch.setenv("PAL_STORE", str(root / "store"))
    shutil.rmtree(paths.embeddings("own"))
    encoded.clear()
    encoded.stop = 3
    with pytest.raises(KeyboardInterrupt):
        encode.main("own")
    assert not paths.embeddings("own").exists()
    assert len(list((root / "store" / "embeddings").rglob("*.parquet"))) == 1
    encoded.stop = None
    encoded.clear()
    full.project.set({"encode.workers": 5})
    encode.main("own")
    assert written() == whole
    assert list(encoded) == batches[2:]


@pytest.fixture
def spoiled(album, drawn):
    """Nine pictures of which three are none: a page under an image's name, a cut-off file, an empty cell."""
    for n in range(3):
        album.file(f"{n}.png", drawn(n))
    album.bad = [album.file("page.jpg", HTML), album.file("cut.png", drawn(50)[:-40])]
    file = album.table("train.parquet", {"jpg_0": [drawn(60), None, drawn(61), drawn(62)]}, 4)
    cells = [album.item(file, row_group=0, row=row, column="jpg_0") for row in range(4)]
    album.bad.append(cells[1])
    album.write()
    return album


def test_a_bad_image_stops_the_run_or_is_skipped_counted_and_listed(spoiled, encoded, capsys):
    with pytest.raises(PipelineError) as caught:
        encode.main("own")
    names = ("the image page.jpg of", "the image cut.png of", "the image in jpg_0, row 1 of row group 0, of ")
    assert str(caught.value).startswith(names)
    assert " of own (and 2 more) cannot be encoded: " in str(caught.value)
    assert not paths.embeddings("own").exists()
    spoiled.project.set({"encode.on_bad_item": "skip"})
    encode.main("own")
    manifest = json.loads((paths.embeddings("own") / "manifest.json").read_text())
    assert manifest["counts"] == {"read": 9, "kept": 6, "dropped": 3}
    assert sum(manifest["reasons"].values()) == 3
    with (paths.embeddings("own") / "dropped.csv").open(newline="") as file:
        dropped = {row["item_id"]: row for row in csv.DictReader(file)}
    page, cut, cell = (dropped[item] for item in spoiled.bad)
    assert page["reason"].startswith("no image, ")
    assert "truncated PNG" in cut["reason"]
    assert [cell[name] for name in ("row_group", "row", "column", "reason")] == [
        "0", "1", "jpg_0", "it has no bytes",
    ]  # fmt: skip
    ids, _, _ = tables.read_shards(paths.embeddings("own") / "image", "")
    assert not set(embeddings.unpacked(ids)) & set(spoiled.bad)
    assert "encode@own: 1 items skipped: it has no bytes" in capsys.readouterr().out
    # Bad images are tried again, and the groups of good ones in which they lie are not.
    before = written()
    encoded.clear()
    encode.main("own")
    assert (written(), encoded) == (before, [])


def test_an_encoder_that_does_not_read_a_modality_is_one_sentence(full):
    full.project.set({"own.encoder": "hashed-words"})
    wrong = r"must read the image items of own, got 'hashed-words', which reads text; name another, or"
    with pytest.raises(PipelineError, match=rf"^own\.encoder in params\.yaml {wrong}"):
        encode.main("own")
    assert not paths.embeddings("own").exists()


def items():
    frame = tables.read_table(paths.prepared("own") / tables.ITEMS, "")
    return images.in_reading_order(frame.filter(frame["modality"] == "image"))


def pictures_of():
    """Item ids and pictures, in the order in which they are read."""
    frame = items()
    ids = frame["item_id"].to_list()
    return [(ids[one.row], one) for one in images.read_pictures(frame, "own")]


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


def test_every_item_gets_its_own_bytes_and_only_wanted_columns_are_read(shelf, monkeypatch):
    """Neither captions nor, where nothing in it is wanted, the other picture."""
    assert {item: one.data for item, one in pictures_of()} == shelf.expected
    asked = []
    real = pq.ParquetFile.iter_batches

    def watched(self, *words, **how):
        asked.append((how["row_groups"], how["columns"]))
        return real(self, *words, **how)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    frame = items()
    list(images.read_pictures(frame.filter((pl.col("row") == 0).fill_null(value=True)), "own"))
    assert asked == [([0], ["jpg_0"]), ([1], ["jpg_0", "jpg_1"])] * 2


def test_a_filter_is_put_over_the_decoded_picture(album):
    """A black PNG under half of white in linear light: sRGB 188, by hand (0.5 -> 187.5)."""
    out = io.BytesIO()
    Image.new("RGB", (3, 2)).save(out, "PNG")
    album.file("black.png", out.getvalue(), filter="mix #ffffff 0.5")
    album.write()
    ((_, one),) = pictures_of()
    assert images.decoded(one).unique().tolist() == [188]
    assert tuple(images.decoded(one).shape) == (3, 2, 3)


def test_thumbnails_are_small_and_leave_out_what_is_no_picture(album, drawn):
    """24 x 16 in a square of 12: 12 x 8."""
    good = album.file("a.png", drawn(0))
    small = album.file("b.jpg", drawn(1, "JPEG", (6, 4)))
    album.file("c.png", b"<html>not found</html>")
    album.write()
    found = images.thumbnails(items(), "own", 12)
    shown = {item: Image.open(io.BytesIO(data)) for item, data in found.items()}
    assert {item: (one.format, one.size) for item, one in shown.items()} == {
        good: ("JPEG", (12, 8)), small: ("JPEG", (6, 4)),
    }  # fmt: skip


def grey(value):
    return torch.full((3, 1, 1), value, dtype=torch.uint8)


def test_mixing_half_of_a_primary_into_black_and_white():
    """Black: red becomes 0.5 of light, sRGB 1.055 * 0.5^(1/2.4) - 0.055 = 0.735357 -> 187.5 -> 188. White:
    green and blue lose half: 188 as well, red stays."""
    assert images.apply_filter(grey(0), "mix #ff0000 0.5").flatten().tolist() == [188, 0, 0]
    assert images.apply_filter(grey(255), "mix #ff0000 0.5").flatten().tolist() == [255, 188, 188]
