"""Raw items to embeddings, by encoders that need no download."""

import io
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pal import encoders
from pal.encoders.images import read as decode
from pal.encoders.model_free import CLASSICAL_DIM as DIM
from pal.encoders.model_free import Classical, HashedWords
from pal.errors import PalError
from pal.serving.reader import Reader

WORDS = {"encoder": "hashed-words", "weights_sha256": "", "files_sha256": "", "dim": 256, "dtype": "float32"}
PIXELS = {**WORDS, "encoder": "classical", "dim": DIM}
MINILM = {
    "encoder": "all-MiniLM-L6-v2",
    "weights_sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "dim": 384,
}


def picture(colour: str, size=(6, 4), mode="RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def png(image: Image.Image) -> bytes:
    into = io.BytesIO()
    image.save(into, "PNG")
    return into.getvalue()


@pytest.mark.parametrize(
    "encoder",
    [
        {"prompts": WORDS, "responses": WORDS},
        WORDS,  # as models were saved at first: one encoder for both
        {key: WORDS[key] for key in ("encoder", "dim")},
    ],
)
def test_texts_are_encoded_as_their_encoder_does(encoder):
    texts = ["the cat", "a dog barks", "the cat"]
    rows = Reader(encoder).read(texts, "prompts", 256)
    assert rows.table.shape == (2, 256)
    np.testing.assert_array_equal(rows.block(0, 3).numpy(), HashedWords().encode(texts))


def test_pictures_come_as_bytes_files_or_images(tmp_path):
    image = picture("teal")
    (tmp_path / "teal.png").write_bytes(png(image))
    found = Reader({"prompts": WORDS, "responses": PIXELS}).read(
        [png(image), tmp_path / "teal.png", image, png(picture("red"))], "responses", DIM
    )
    encoder = Classical()
    expected = encoder.encode_images(encoder.shrink(decode(png(image)))[None])
    block = found.block(0, 4)
    for row in range(3):
        np.testing.assert_allclose(block[row], expected[0], atol=1e-6)
    assert (block[3] - block[0]).abs().max() > 0.1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "HSV", "I;16", "F"])
def test_images_in_memory_may_have_any_mode(mode):
    image = Image.new(mode, (5, 5)) if mode != "P" else picture("red").convert("P")
    assert Reader(PIXELS).read(image, "responses", DIM).table.shape == (1, DIM)


def test_an_image_in_memory_is_turned_upright():
    wide = Image.fromarray(np.arange(600, dtype=np.uint8).reshape(10, 20, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    wide.save(turned, "PNG", exif=exif)
    reader = Reader(PIXELS)
    with Image.open(io.BytesIO(turned.getvalue())) as image:
        found = reader.read([image], "responses", DIM)
    expected = reader.read([turned.getvalue()], "responses", DIM)
    torch.testing.assert_close(found.table, expected.table)
    assert not torch.allclose(found.table, reader.read([wide], "responses", DIM).table)


def test_what_repeats_is_encoded_once(monkeypatch):
    seen = []
    real = HashedWords.encode
    monkeypatch.setattr(HashedWords, "encode", lambda self, texts: [seen.extend(texts), real(self, texts)][1])
    Reader(WORDS).read(["a", "b", "a", "a", "b"], "responses", 256)
    assert sorted(seen) == ["a", "b"]


def test_long_texts_are_batched_under_a_budget(monkeypatch):
    """Of 1, 2, 3 and 4 words with a budget of 6: two of 2 and fewer, then one each."""
    sizes = []
    real = HashedWords.encode
    monkeypatch.setattr(
        HashedWords, "encode", lambda self, texts: [sizes.append(len(texts)), real(self, texts)][1]
    )
    monkeypatch.setattr("pal.serving.reader.TOKENS_PER_BATCH", 6)
    texts = ["d d d d", "a", "c c c", "b b"]
    found = Reader(WORDS).read(texts, "responses", 256)
    assert sizes == [2, 1, 1]
    np.testing.assert_array_equal(found.block(0, 4).numpy(), HashedWords().encode(texts))


def test_many_pictures_go_in_batches(monkeypatch):
    monkeypatch.setattr("pal.serving.reader.IMAGES_PER_BATCH", 3)
    colours = ["red", "lime", "blue", "gray", "teal", "pink", "navy"]
    files = [png(picture(colour)) for colour in colours]
    reader = Reader(PIXELS)
    alone = torch.cat([reader.read(file, "responses", DIM).table for file in files])
    torch.testing.assert_close(reader.read(files, "responses", DIM).block(0, 7), alone)


def test_vectors_are_rounded_as_training_saw_them():
    half = Reader({**WORDS, "dtype": "float16"}).read("three words here", "responses", 256)
    whole = Reader(WORDS).read("three words here", "responses", 256)
    assert half.table.dtype == torch.float32
    assert torch.equal(half.table, whole.table.half().float())
    assert not torch.equal(half.table, whole.table)


def test_an_encoder_is_loaded_once_and_only_when_needed(monkeypatch):
    loaded = []
    real = encoders.load
    monkeypatch.setattr(encoders, "load", lambda *given: [loaded.append(given), real(*given)][1])
    reader = Reader({"prompts": WORDS, "responses": WORDS})
    reader.read(torch.zeros(1, 256), "responses", 256)
    assert loaded == []
    for side in ("prompts", "responses", "prompts"):
        reader.read("text", side, 256)
    assert len(loaded) == 1


@pytest.mark.parametrize(
    "encoder", [{}, {"prompts": None, "responses": {**WORDS, "encoder": "none"}}, {"name": "other"}]
)
def test_a_model_of_vectors_takes_embeddings_alone(encoder):
    assert len(Reader(encoder).read(torch.zeros(2, 3), "responses", 3)) == 2
    for side in ("prompts", "responses"):
        with pytest.raises(PalError, match=f"{side} must be embeddings, got texts or pictures; the model"):
            Reader(encoder).read("text", side, 3)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["ok", "\u200b"], r"responses\[1\] holds nothing but spaces and invisible characters; leave it out"),
        (["ok", "half \ud800"], r"responses\[1\] holds half of a surrogate pair"),
        (["ok", "ok", ""], r"responses\[2\] is empty"),
        (
            [b"\x89PNG"],
            r"responses\[0\] must be one of the texts that hashed-words reads, got one of the pict",
        ),
        (torch.zeros(2, 5), r"the shape \(n, 256\) for responses\[0\], got \(2, 5\)"),
    ],
)
def test_items_that_an_encoder_cannot_read_are_refused(items, message):
    with pytest.raises(PalError, match=message):
        Reader(WORDS).read(items, "responses", 256)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["text"], r"responses\[0\] must be one of the pictures that classical reads, got one of the texts"),
        ([png(picture("red"))[:50]], r"responses\[0\] cannot be read as a picture: truncated PNG"),
        ([png(picture("red")), b"GIF89a"], r"responses\[1\] cannot be read as a picture: no image, .*; only JPEG"),
    ],
)
def test_pictures_that_cannot_be_read_are_refused(items, message):
    with pytest.raises(PalError, match=message):
        Reader(PIXELS).read(items, "responses", DIM)


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(
        PalError, match=r"responses\[0\] cannot be read as a picture: .*gone\.png \(No such file"
    ):
        Reader(PIXELS).read(tmp_path / "gone.png", "responses", DIM)


def test_weights_other_than_the_models_are_refused():
    about = {**MINILM, "weights_sha256": "00"}
    with pytest.raises(
        PalError, match="all-MiniLM-L6-v2 must have the weights_sha256 that the model was fitted"
    ):
        Reader(about).read("text", "responses", 384)


def test_a_width_other_than_the_models_is_refused():
    with pytest.raises(
        PalError, match="hashed-words must have the dim that the model was fitted with, 255, got"
    ):
        Reader({**WORDS, "dim": 255}).read("text", "responses", 255)
    with pytest.raises(PalError, match="config must give the width of hashed-words, got None"):
        Reader({"encoder": "hashed-words"}).read("text", "responses", 255)


def test_other_files_than_the_models_are_told(monkeypatch):
    found = encoders.describe("hashed-words")
    monkeypatch.setattr(encoders, "describe", lambda *_, **__: replace(found, files_sha256="11"))
    with pytest.warns(UserWarning, match=r"its other files \(tokeniser, configuration\) are not the same"):
        Reader({**WORDS, "files_sha256": "22"}).read("text", "responses", 256)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Reader({**WORDS, "files_sha256": "11"}).read("text", "responses", 256)


@pytest.mark.parametrize(
    ("weights", "source"),
    [
        ({}, "package"),
        ({"all-MiniLM-L6-v2": "hub"}, "hub"),
        ({"all-MiniLM-L6-v2": "some/folder"}, "some/folder"),
    ],
)
def test_weights_come_from_where_they_are_said_to_be(monkeypatch, weights, source):
    asked = []

    def describe(name, source, **how):
        asked.append((name, source, how))
        raise PalError("not here")

    monkeypatch.setattr(encoders, "describe", describe)
    with pytest.raises(PalError, match="not here"):
        Reader({**MINILM, "engine": "onnx"}, weights).read("text", "responses", 384)
    assert asked == [("all-MiniLM-L6-v2", source, {"precision": "float32", "engine": "onnx"})]


def test_other_encoders_come_from_the_hub_by_default(monkeypatch):
    asked = []

    def describe(name, source, **_):
        asked.append(source)
        raise PalError("set encode.weights to a folder")

    monkeypatch.setattr(encoders, "describe", describe)
    with pytest.raises(
        PalError, match=r"encoder of the model's prompts cannot be used: set weights=\{'open_clip:a'"
    ):
        Reader({**WORDS, "encoder": "open_clip:a"}).read("text", "prompts", 256)
    assert asked == ["hub"]


def test_an_encoder_of_another_version_is_told():
    with pytest.raises(
        PalError, match="encoder of the model's prompts cannot be used: encoder must be one of"
    ):
        Reader({**WORDS, "encoder": "tomorrow's"}).read("text", "prompts", 256)


def test_the_real_encoder_is_found_and_held_to_its_hash():
    rows = Reader(MINILM).read(["a cat", "a kitten", "the tax return"], "prompts", 384)
    cat, kitten, tax = rows.block(0, 3)
    assert cat @ kitten > cat @ tax + 0.2
