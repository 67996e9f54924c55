"""The real MiniLM from the installed package: the vectors of the library's own encode, batch by batch."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from pal import encoders
from pal.encoders.sentence import SentenceEncoder
from pal.errors import PalError

TEXTS = ["I love painting.", "Numbers bore me, and they always have; I would rather read a novel.", ""]


@pytest.fixture(scope="module")
def described():
    return encoders.describe("all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def encoder(described):
    return encoders.load(described)


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
