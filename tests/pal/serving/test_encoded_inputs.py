"""Texts and pictures to embeddings, by encoders that need no download."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pal import encoders
from pal.encoders.images import read as decode
from pal.encoders.model_free import CLASSICAL_DIM as DIM
from pal.encoders.model_free import Classical, HashedWords
from pal.errors import PalError
from pal.serving.inputs import InputEncoder, as_list

WORDS = {"encoder": "hashed-words", "weights_sha256": "", "files_sha256": "", "dim": 256, "dtype": "float32"}
PIXELS = {**WORDS, "encoder": "classical", "dim": DIM}
MINILM = {"encoder": "all-MiniLM-L6-v2", "dim": 384}


def encode(encoder, items, dim=256, side="responses", **options):
    return InputEncoder({side: encoder}, **options).encode(as_list(items), side, dim)


def png(colour: str = "teal", size=(6, 4)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("encoder", [WORDS, {key: WORDS[key] for key in ("encoder", "dim")}])
def test_texts_are_encoded_as_their_encoder_does(encoder, monkeypatch):
    texts = ["the cat", "a dog barks", "the cat"]
    expected, seen, real = HashedWords().encode(texts), [], HashedWords.encode
    monkeypatch.setattr(HashedWords, "encode", lambda self, texts: [seen.extend(texts), real(self, texts)][1])
    embedded = encode(encoder, texts, side="prompts")
    np.testing.assert_array_equal(embedded.tensor().numpy(), expected)
    assert sorted(seen) == ["a dog barks", "the cat"]


def test_long_texts_are_batched_under_a_budget(monkeypatch):
    """Of 1, 2, 3 and 4 words with a budget of 6: two of 2 and fewer, then one each."""
    sizes, real = [], HashedWords.encode
    monkeypatch.setattr(
        HashedWords, "encode", lambda self, texts: [sizes.append(len(texts)), real(self, texts)][1]
    )
    monkeypatch.setattr("pal.serving.inputs.TOKENS_PER_BATCH", 6)
    texts = ["d d d d", "a", "c c c", "b b"]
    embedded = encode(WORDS, texts)
    assert sizes == [2, 1, 1]
    np.testing.assert_array_equal(embedded.tensor().numpy(), HashedWords().encode(texts))


def test_pictures_come_as_bytes_files_or_images_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("pal.serving.inputs.IMAGES_PER_BATCH", 3)
    (tmp_path / "teal.png").write_bytes(png())
    given = [png(), tmp_path / "teal.png", Image.open(io.BytesIO(png())), png("red")]
    embedded = encode(PIXELS, given, DIM).tensor()
    encoder = Classical()
    expected = encoder.encode_images(encoder.shrink(decode(png()))[None])
    for row in range(3):
        np.testing.assert_allclose(embedded[row], expected[0], atol=1e-6)
    assert (embedded[3] - embedded[0]).abs().max() > 0.1


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "I;16"])
def test_images_in_memory_may_have_any_mode(mode):
    assert encode(PIXELS, Image.new(mode, (5, 5)), DIM).table.shape == (1, DIM)


def test_messages_are_read_as_what_was_said():
    """Of a prompt all but the system's, of a response what the assistant said."""
    messages = [{"role": r, "content": c} for r, c in (("system", "be"), ("user", "hi"), ("assistant", "ho"))]
    for side, text in (("prompts", "hi\n\nho"), ("responses", "ho")):
        expected = encode(WORDS, [text], side=side).tensor()
        assert torch.equal(encode(WORDS, messages, side=side).tensor(), expected)
        assert torch.equal(encode(WORDS, [messages, text], side=side).tensor(), expected.expand(2, -1))
    with pytest.raises(
        PalError, match=r"responses\[0\] must have contents of text alone, got a part of the kind"
    ):
        encode(WORDS, [[{"role": "assistant", "content": [{"type": "image"}]}]])


@pytest.mark.parametrize("device", ["foo", "cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_even_where_none_is_needed(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PalError, match="device must be cpu"):
        InputEncoder(WORDS, {}, device)


@pytest.mark.parametrize(
    ("encoder", "items", "message"),
    [
        ({}, "text", "responses must be embeddings, got texts or pictures; the model was fitted on vectors"),
        (WORDS, ["ok", "ok", ""], r"responses\[2\] is empty"),
        (WORDS, [b"\x89PNG"], r"responses\[0\] must be one of the texts that hashed-words reads, got one of"),
        (WORDS, torch.zeros(2, 5), r"responses\[0\] must be an embedding of 256 numbers, .* \(5,\)"),
        (WORDS, torch.zeros(2, 256).int(), r"responses\[0\] must be an embedding of floats, got torch.int32"),
        (PIXELS, [png(), b"GIF89a"], r"responses\[1\] cannot be read as a picture: "),
        (PIXELS, Path("gone.png"), r"responses\[0\] cannot be read as a picture: gone\.png \(No such file"),
        ({**WORDS, "dim": 255}, "text", "must have the dim that the model was fitted with, 255, got 256"),
        (
            {**MINILM, "weights_sha256": "00"},
            "text",
            "must have the weights_sha256 that the model was fitted",
        ),
        ({"encoder": "hashed-words"}, "text", "config must give the width of hashed-words, got None"),
        ({**WORDS, "encoder": "tomorrow's"}, "text", "encoder of the model's responses cannot be used: enc"),
    ],
)
def test_items_that_an_encoder_cannot_read_are_refused(encoder, items, message):
    with pytest.raises(PalError, match=message):
        encode(encoder, items, DIM if encoder is PIXELS else 256)


def test_other_files_than_the_models_are_told(monkeypatch):
    described = replace(encoders.describe("hashed-words"), files_sha256="11")
    monkeypatch.setattr(encoders, "describe", lambda *_, **__: described)
    with pytest.warns(UserWarning, match=r"its other files \(tokeniser, configuration\) are not the same"):
        encode({**WORDS, "files_sha256": "22"}, "text")
    encode({**WORDS, "files_sha256": "11"}, "text")  # warnings are errors


@pytest.mark.parametrize(
    ("name", "weights", "source"),
    [
        ("all-MiniLM-L6-v2", {}, "package"),
        ("a", {"a": "some/folder"}, "some/folder"),
        ("open_clip:a", {}, "hub"),
    ],
)
def test_weights_come_from_where_they_are_said_to_be(monkeypatch, name, weights, source):
    calls = []

    def describe(name, source, **options):
        calls.append((name, source, options))
        raise PalError("set encode.weights to a folder")

    monkeypatch.setattr(encoders, "describe", describe)
    with pytest.raises(
        PalError, match=rf"cannot be used: set encode.weights to a folder .*weights=\{{'{name}': PLACE\}}"
    ):
        encode({**WORDS, "encoder": name, "engine": "onnx"}, "text", weights=weights)
    assert calls == [(name, source, {"precision": "float32", "engine": "onnx"})]
