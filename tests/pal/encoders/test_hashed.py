"""The bag of hashed words, by hand."""

import hashlib

import numpy as np
import pytest

from pal.encoders import TextEncoder
from pal.encoders.hashed import DIM, HashedWords


def place(word):
    """From `printf WORD | sha256sum`: the first four bytes, little-endian, mod 256, so the first; the fifth's
    lowest bit is the sign."""
    digest = hashlib.sha256(word.encode()).hexdigest()
    return int(digest[:2], 16), 1 if int(digest[8:10], 16) % 2 else -1


def test_it_is_a_text_encoder():
    assert isinstance(HashedWords(), TextEncoder)


def test_a_word_is_one_signed_bucket():
    """sha256 of hello begins 2cf24dba 5f: bucket 0x2c = 44, and 0x5f is odd."""
    assert place("hello") == (44, 1)
    vector = HashedWords().encode(["hello"])[0]
    assert (vector.shape, vector.dtype) == ((DIM,), np.float32)
    assert np.flatnonzero(vector).tolist() == [44]
    assert vector[44] == 1


def test_words_add_up_to_unit_length():
    """hello twice and world once: (2, 1) over the root of 5, each with its sign."""
    (hello, plus), (world, sign) = place("hello"), place("world")
    assert hello != world
    vector = HashedWords().encode(["hello, world! hello"])[0]
    assert vector[hello] == pytest.approx(plus * 2 / 5**0.5)
    assert vector[world] == pytest.approx(sign * 1 / 5**0.5)


def test_case_order_and_punctuation_do_not_count():
    a, b = HashedWords().encode(["I like STRASSE", "straße: like? i"])
    assert np.array_equal(a, b)


@pytest.mark.parametrize("text", ["", " ", "🧀 …!"])
def test_a_text_without_words_is_zero(text):
    assert not HashedWords().encode([text]).any()


def test_lengths_are_words_and_at_least_one():
    assert HashedWords().lengths(["", "one", "one, two;three"]) == [1, 1, 3]


def test_no_texts_give_no_vectors():
    assert HashedWords().encode([]).shape == (0, DIM)
