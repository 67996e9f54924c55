"""Odd texts, each with its stated result: refused in words, or a finite vector of the real MiniLM."""

import unicodedata

import numpy as np
import pytest

from pal.encoders.texts import LONGEST, complaint
from pal.errors import PalError

INVISIBLE = "holds nothing but spaces and invisible characters"
HALF = "holds half of a surrogate pair, which is no character"
EMPTY = 2  # tokens of no text at all: the two at the ends

REFUSED = {
    "empty": ("", "is empty"),
    "spaces": (" \t \u00a0\u3000", INVISIBLE),
    "10,000 newlines": ("\n" * 10_000, INVISIBLE),
    "zero-width characters": ("\u200b\u200d\u2060\ufeff", INVISIBLE),
    "NULs": ("\0\0\0", INVISIBLE),
    "marks of direction": ("\u200f\u202e\u202c", INVISIBLE),
    "private characters": ("\ue000\uf8ff", INVISIBLE),
    "a surrogate that comes first": ("I like \ud83e", HALF),
    "a surrogate that comes second": ("\udfff", HALF),
    "surrogates in the wrong order": ("\udfff\ud83e", HALF),
    "too long": ("a" * (LONGEST + 1), "is longer than 2,000,000 characters (got 2,000,001)"),
}

# What is read, and its tokens with the two at the ends.
READ = {
    "1 MB of words": ("word " * 200_000, 256),
    "1 MB without a space": ("x" * 1_000_000, 3),
    "1 MB of exclamation marks": ("!" * 1_000_000, 256),
    "a word of 101 letters": ("x" * 101, 3),
    "unknown tokens alone": ("\ua66e \ua66e", 4),
    "an emoji of several people": ("\U0001f469\u200d\U0001f469\u200d\U0001f467", 3),
    "right to left": ("\u200f\u05e9\u05dc\u05d5\u05dd", 6),
    "Chinese": ("\u6f22\u5b57", 4),
    "the names of special tokens": ("[PAD] [MASK]", 4),
    "a lone accent": ("\u0301", EMPTY),
    "a replacement character": ("\ufffd", EMPTY),
}

# Two texts that are one to MiniLM.
ALIKE = {
    "accents in one character or two": ("caf\u00e9", "cafe\u0301"),
    "a NUL": ("he\0llo", "hello"),
    "a bell and an escape": ("he\x07llo\x1b", "hello"),
    "a mark of direction": ("\u200fhello\u202c", "hello"),
    "a byte order mark": ("\ufeffhello", "hello"),
    "a line separator": ("hello\u2028you", "hello you"),
    "a lone accent": ("\u0301", ""),
    "a replacement character": ("\ufffd", ""),
    "10,000 newlines in between": ("hello" + "\n" * 10_000 + "you", "hello you"),
    "a million invisible characters before": ("\u200b" * 1_000_000 + "hello", "hello"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_this_is_refused_with_its_reason(name):
    text, reason = REFUSED[name]
    assert complaint(text) == reason


@pytest.mark.parametrize("name", READ)
def test_this_is_read_and_has_a_finite_vector_of_unit_length(minilm, name):
    text, tokens = READ[name]
    assert complaint(text) is None
    assert minilm.lengths([text]) == [tokens]
    vector = minilm.encode([text])[0]
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ALIKE)
def test_these_two_have_one_vector(minilm, name):
    first, second = (minilm.encode([text]) for text in ALIKE[name])
    assert np.array_equal(first, second)


def test_accents_in_one_character_or_two_are_two_texts():
    """To Python, and so to the store; only the tokeniser sees one."""
    one, two = ALIKE["accents in one character or two"]
    assert one != two
    assert unicodedata.normalize("NFC", two) == one


@pytest.mark.parametrize(
    "name", ["a surrogate that comes first", "surrogates in the wrong order", "too long"]
)
def test_the_encoder_itself_refuses_what_cannot_be_read_and_says_which(minilm, name):
    text, reason = REFUSED[name]
    with pytest.raises(PalError) as caught:
        minilm.lengths(["fine", text])
    assert str(caught.value) == f"text 2 {reason}; change it or leave it out"


@pytest.mark.parametrize("name", ["empty", "spaces", "10,000 newlines", "zero-width characters", "NULs"])
def test_what_leaves_no_tokens_has_the_vector_of_no_text(minilm, name):
    """Where a caller passes it on all the same."""
    assert np.array_equal(minilm.encode([REFUSED[name][0]]), minilm.encode([""]))
