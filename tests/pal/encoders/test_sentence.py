"""The real MiniLM from the installed package: the vectors of the library's own encode, batch by batch."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from pal import encoders
from pal.encoders import sentence_models
from pal.encoders.sentence import SentenceEncoder
from pal.errors import PalError

TEXTS = ["I love painting.", "Numbers bore me, and they always have; I would rather read a novel.", ""]


@pytest.fixture(scope="module")
def described():
    return encoders.describe("all-MiniLM-L6-v2")


@pytest.fixture
def encoder(minilm):
    return minilm


def load(folder):
    """A model of one's own, with the defaults."""
    name = "sentence-transformers:org/tiny"
    return encoders.load(sentence_models.describe(name, str(folder), precision="float32", engine="torch"))


def test_vectors_are_those_of_the_librarys_own_encode(described, encoder):
    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(str(described.folder), device="cpu", local_files_only=True)
    expected = library.encode(TEXTS, show_progress_bar=False)
    assert np.abs(encoder.encode(TEXTS) - expected).max() < 1e-5


def test_vectors_have_unit_length(encoder):
    vectors = encoder.encode(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((3, 384), np.float32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_batch_changes_no_vector_by_more_than_rounding(encoder):
    alone = encoder.encode(TEXTS[:1])
    assert np.abs(encoder.encode(TEXTS)[:1] - alone).max() < 1e-5


def test_the_same_batch_gives_the_same_bytes(encoder):
    assert encoder.encode(TEXTS).tobytes() == encoder.encode(TEXTS).tobytes()


def test_lengths_count_tokens_with_the_two_at_the_ends_and_stop_at_the_limit(encoder):
    """[CLS] i love painting . [SEP] is 6; nothing is 2; a long text is cut to 256."""
    assert encoder.lengths([TEXTS[0], "", "word " * 1000]) == [6, 2, 256]


def test_words_past_the_limit_do_not_count(encoder):
    long = "word " * 300
    a, b = encoder.encode([long, long + "else"])
    assert np.array_equal(a, b)


def test_texts_that_lengths_was_given_are_not_read_again(encoder, monkeypatch):
    """A text that it was not given has its batch read anew."""
    encoder.lengths(TEXTS)
    expected = encoder.encode(TEXTS[:2])
    reads = []
    tokenise = encoder._tokenise
    monkeypatch.setattr(encoder, "_tokenise", lambda texts: reads.append(texts) or tokenise(texts))
    assert encoder.encode(TEXTS[:2]).tobytes() == expected.tobytes()
    assert reads == []
    encoder.encode([TEXTS[0], "new"])
    assert reads == [[TEXTS[0], "new"]]


def test_no_texts_are_no_vectors(encoder):
    assert encoder.encode([]).shape == (0, 384)
    assert encoder.lengths([]) == []


@pytest.mark.parametrize(
    "made",
    [{}, {"pooling": "cls"}, {"dense": 8}, {"unit": False}, {"pooling": "cls", "dense": 8, "unit": False}],
)
def test_pooling_and_what_follows_are_those_of_the_models_own_modules(make_tiny, tmp_path, made):
    from sentence_transformers import SentenceTransformer

    folder = make_tiny(tmp_path / "model", **made)
    library = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    texts = [*TEXTS, "word " * 100]
    expected = library.encode(texts, show_progress_bar=False)
    got = load(folder).encode(texts)
    assert got.shape == expected.shape == (4, made.get("dense") or 16)
    assert np.abs(got - expected).max() < 1e-6


def test_a_models_own_prompt_stands_before_every_text(make_tiny, tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = make_tiny(tmp_path / "model")
    said = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said))
    library = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    assert np.abs(load(folder).encode(TEXTS) - library.encode(TEXTS, show_progress_bar=False)).max() < 1e-6


def test_bfloat16_is_near_float32_and_comes_out_as_float32(described, encoder):
    """Products in bfloat16, sums in float32: a cosine of at least 0.9999 on sentences."""
    near = encoders.load(dataclasses.replace(described, precision="bfloat16")).encode(TEXTS[:2])
    exact = encoder.encode(TEXTS[:2])
    assert near.dtype == np.float32
    assert not np.array_equal(near, exact)
    assert (near * exact).sum(1).min() > 0.9999
    assert np.linalg.norm(near, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_model_with_a_prompt_left_out_of_pooling_is_refused(make_tiny, tmp_path):
    folder = make_tiny(tmp_path / "model", pooling="cls")
    said = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said))
    pooling = {"embedding_dimension": 16, "pooling_mode": "cls", "include_prompt": False}
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    with pytest.raises(
        PalError, match="must have texts without a prompt left out of the pooling, or it is not"
    ):
        load(folder)


def test_damaged_weights_are_one_sentence(make_tiny, tmp_path):
    folder = make_tiny(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(
        PalError, match=r"sentence-transformers:org/tiny could not be loaded from .* get its files"
    ):
        load(folder)


def test_foreign_modules_are_refused_before_anything_is_loaded(described, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(described.folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "evil.Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(
        PalError, match=r"modules\.json must name modules of sentence_transformers, got 'evil"
    ):
        SentenceEncoder(dataclasses.replace(described, folder=folder), "cpu")


def test_an_encoder_without_files_is_no_sentence_encoder():
    with pytest.raises(PalError, match="hashed-words is no sentence-transformers model: it has no files"):
        SentenceEncoder(encoders.describe("hashed-words"), "cpu")
