"""Images into the store: fixed batches in reading order, bad ones told and counted, a kill loses a group."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pal.encoders import pictures
from pal.encoders.classical import Classical
from pipeline import paths
from pipeline.encoding import colour, encode_images
from pipeline.errors import PipelineError
from pipeline.stages import encode
from pipeline.storage import shards

ROOT = Path(__file__).parents[3]
HTML = b"<html><body>404 not found</body></html>"
WARM = "mix #ff5f1f 0.5"
N = 20  # pictures: three groups of two batches of four, the last one smaller


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr(encode_images, "GROUP_ROWS", 8)


@pytest.fixture
def full(album, drawn):
    """Twenty pictures: eight files, some with a filter, and six rows of two in a Parquet file."""
    album.data = {}
    for n in range(8):
        data = drawn(n, "JPEG" if n % 2 else "PNG")
        item = album.file(f"{n}.jpg", data, filter=WARM if n >= 4 else None)
        album.data[item] = (data, WARM if n >= 4 else None)
    columns = {f"jpg_{m}": [drawn(100 + 10 * m + n) for n in range(6)] for m in range(2)}
    file = album.table("train.parquet", columns, 4)
    for column, cells in columns.items():
        for n, data in enumerate(cells):
            item = album.item(file, row_group=n // 4, row=n % 4, column=column)
            album.data[item] = (data, None)
    album.write()
    return album


def written():
    return {path.name: path.read_bytes() for path in paths.embeddings("own").rglob("*.*")}


def read(modality="image"):
    ids, vectors, embedder = shards.read_folder(paths.embeddings("own") / modality, "")
    return dict(zip(shards.unpacked(ids), vectors, strict=True)), embedder


def manifest():
    return json.loads((paths.embeddings("own") / "manifest.json").read_text())


def dropped():
    with (paths.embeddings("own") / "dropped.csv").open(newline="") as file:
        return list(csv.DictReader(file))


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


def test_every_image_has_the_vector_of_its_filtered_pixels(full):
    encode.main("own")
    found, embedder = read()
    assert embedder.encoder == "classical"
    assert set(found) == set(full.data)
    ours = Classical()
    for item, (data, filtered) in full.data.items():
        pixels = pictures.read(data)
        pixels = colour.apply(pixels, filtered) if filtered else pixels
        expected = ours.encode_images(torch.stack([ours.shrink(pixels)]))[0]
        assert np.allclose(found[item], expected, atol=1e-4)


def test_all_items_are_accounted_for(full):
    encode.main("own")
    told = manifest()
    assert told["counts"] == {"read": N, "kept": N, "dropped": 0}
    assert (told["modalities"]["image"]["in"], told["modalities"]["image"]["out"]) == (N, N)
    assert (told["reasons"], dropped()) == ({}, [])


def test_a_second_run_decodes_nothing_and_gives_the_same_bytes(full, encoded, monkeypatch, capsys):
    encode.main("own")
    before = written()
    assert len(encoded) == 5
    encoded.clear()
    monkeypatch.setattr(pictures, "read", lambda data: pytest.fail("decoded again"))
    encode.main("own")
    assert encoded == []
    assert written() == before
    assert "20 image items, 20 in the store, 0 to encode" in capsys.readouterr().out


def test_a_killed_run_resumes_to_the_same_bytes(full, encoded, monkeypatch):
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
    encode.main("own")
    assert written() == whole
    assert list(encoded) == batches[2:]


@pytest.mark.parametrize("workers", [2, 5])
def test_workers_change_nothing(full, monkeypatch, workers):
    encode.main("own")
    before = written()
    shutil.rmtree(paths.store() / "embeddings")
    full.project.set({"encode.workers": workers})
    encode.main("own")
    assert written() == before


def test_new_images_alone_go_into_the_store(full, drawn, capsys):
    encode.main("own")
    full.file("new.png", drawn(77))
    full.write()
    capsys.readouterr()
    encode.main("own")
    assert "21 image items, 20 in the store, 1 to encode" in capsys.readouterr().out
    assert len(read()[0]) == N + 1


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


def test_a_bad_image_stops_the_run_with_its_name_and_its_reason(spoiled):
    with pytest.raises(PipelineError) as caught:
        encode.main("own")
    said = str(caught.value)
    names = ("the image page.jpg of", "the image cut.png of", "the image in jpg_0, row 1 of row group 0, of ")
    assert said.startswith(names)
    assert " of own (and 2 more) cannot be encoded: " in said
    assert said.endswith("; mend it, or set encode.on_bad_item to skip")
    assert not paths.embeddings("own").exists()


def test_the_good_ones_of_a_stopped_run_need_not_be_encoded_again(spoiled, capsys):
    with pytest.raises(PipelineError, match="cannot be encoded"):
        encode.main("own")
    spoiled.project.set({"encode.on_bad_item": "skip"})
    encode.main("own")
    assert "9 image items, 6 in the store, 3 to encode" in capsys.readouterr().out


def test_skipped_images_are_counted_and_listed_with_their_reasons(spoiled, capsys):
    spoiled.project.set({"encode.on_bad_item": "skip"})
    encode.main("own")
    told = manifest()
    assert told["counts"] == {"read": 9, "kept": 6, "dropped": 3}
    assert (told["modalities"]["image"]["in"], told["modalities"]["image"]["out"]) == (9, 6)
    assert sum(told["reasons"].values()) == 3
    assert {row["item_id"] for row in dropped()} == set(spoiled.bad)
    reasons = {row["item_id"]: row["reason"] for row in dropped()}
    assert reasons[spoiled.bad[0]] == "an HTML page; only JPEG, PNG and WebP are opened"
    assert "truncated PNG" in reasons[spoiled.bad[1]]
    assert reasons[spoiled.bad[2]] == "it has no bytes"
    (cell,) = [row for row in dropped() if row["item_id"] == spoiled.bad[2]]
    assert (cell["row_group"], cell["row"], cell["column"]) == ("0", "1", "jpg_0")
    assert not set(read()[0]) & set(spoiled.bad)
    assert "encode@own: 1 items skipped: it has no bytes" in capsys.readouterr().out


def test_a_run_that_skips_gives_the_same_bytes_again_and_encodes_nothing(spoiled, encoded):
    """Bad images are tried again, and the groups of good ones in which they lie are not."""
    spoiled.project.set({"encode.on_bad_item": "skip"})
    encode.main("own")
    before = written()
    encoded.clear()
    encode.main("own")
    assert written() == before
    assert encoded == []


def test_a_new_image_beside_bad_ones_is_encoded_and_all_are_told_once(spoiled, drawn):
    spoiled.project.set({"encode.on_bad_item": "skip"})
    encode.main("own")
    new = spoiled.file("new.png", drawn(70))
    spoiled.write()
    encode.main("own")
    assert manifest()["counts"] == {"read": 10, "kept": 7, "dropped": 3}
    assert new in read()[0]
    assert {row["item_id"] for row in dropped()} == set(spoiled.bad)


def test_where_all_are_skipped_an_empty_shard_tells_the_encoder(album):
    album.file("page.jpg", HTML)
    album.project.set({"encode.on_bad_item": "skip"})
    album.write()
    encode.main("own")
    found, embedder = read()
    assert (found, embedder.encoder) == ({}, "classical")


def test_texts_and_images_have_a_folder_and_an_encoder_each(full):
    full.texts = ["a red thing", "a blue thing"]
    full.write()
    encode.main("own")
    texts, by_words = read("text")
    images, by_pixels = read("image")
    assert (by_words.encoder, by_pixels.encoder) == ("hashed-words", "classical")
    assert (len(texts), len(images)) == (2, N)
    assert manifest()["counts"] == {"read": N + 2, "kept": N + 2, "dropped": 0}


@pytest.mark.parametrize(
    ("named", "wrong"),
    [
        ("hashed-words", "the image items of own, got 'hashed-words', which reads text"),
        ("classical", "the text items of own, got 'classical', which reads image"),
    ],
)
def test_an_encoder_that_does_not_read_a_modality_is_one_sentence(full, named, wrong):
    full.texts = ["a red thing"]
    full.write()
    full.project.set({"own.encoder": named})
    with pytest.raises(
        PipelineError, match=rf"^own\.encoder in params\.yaml must read {wrong}; name another, or"
    ):
        encode.main("own")
    assert not paths.embeddings("own").exists()


def test_a_fault_of_our_own_is_not_taken_for_a_bad_image(full, monkeypatch):
    def fail(self, pixels):
        raise ZeroDivisionError("ours")

    full.project.set({"encode.on_bad_item": "skip"})
    monkeypatch.setattr(Classical, "shrink", fail)
    with pytest.raises(ZeroDivisionError, match="ours"):
        encode.main("own")


def test_a_filter_that_is_none_is_one_sentence(album, drawn):
    """It is the table that is wrong, not the image: skipping is no way out."""
    album.project.set({"encode.on_bad_item": "skip"})
    album.file("a.png", drawn(0), filter="sepia")
    album.write()
    with pytest.raises(PipelineError, match=r"a colour filter must be .* got 'sepia'"):
        encode.main("own")


def test_workers_leave_cores_to_the_encoder(monkeypatch):
    """On 1 to 3 cores one thread; on 16 all but two."""
    for cores, workers in ((None, 1), (1, 1), (2, 1), (3, 1), (16, 14)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert encode_images.default_workers() == workers
