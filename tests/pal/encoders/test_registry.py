"""The registry of encoders: names lead to modules, one more is one module and one line; texts that are refused."""

import sys
from types import ModuleType

import numpy as np
import pytest

from pal import encoders
from pal.encoders import registry
from pal.encoders.registry import LONGEST, complaint
from pal.errors import PalError


def test_an_unknown_name_lists_those_known_with_the_ways_to_name_any_other():
    with pytest.raises(PalError) as caught:
        encoders.describe("clip")
    known = "all-MiniLM-L6-v2, all-mpnet-base-v2, clip-vit-h-14, pickscore, hashed-words, classical"
    assert ", ".join(encoders.names()) == known
    assert str(caught.value) == (
        f"encoder must be one of {known}, or start with sentence-transformers:, open_clip:, untrained-, got "
        "'clip'"
    )


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("classical", "model-free"),
        ("untrained-vit-b-32", "open_clip"),
        ("all-MiniLM-L6-v2", "sentence-transformers"),
    ],
)
def test_each_name_leads_to_the_module_that_runs_it(name, family):
    encoders.check_name(name)
    assert encoders.describe(name).family == family


def test_another_encoder_is_a_module_and_a_line(monkeypatch):
    """Its vectors are the lengths of texts."""

    class Lengths:
        def lengths(self, texts):
            return [1 for _ in texts]

        def encode(self, texts):
            return np.array([[len(text)] for text in texts], dtype=np.float32)

    module = ModuleType("toy_encoder")
    module.NAMES, module.PREFIXES = ("text-length",), ()
    module.describe = lambda name, weights, **how: encoders.Described(name, 1, "", "", "", None, "toy")
    module.load = lambda described, device: Lengths()
    monkeypatch.setitem(sys.modules, "toy_encoder", module)
    monkeypatch.setitem(registry.ENCODERS, "toy", "toy_encoder")
    assert "text-length" in encoders.names()
    assert encoders.load(encoders.describe("text-length")).encode(["abc"]).tolist() == [[3]]


INVISIBLE = "holds nothing but spaces and invisible characters"
HALF = "holds half of a surrogate pair, which is no character"
EMPTY = 2  # tokens of no text at all: the two at the ends

REFUSED = {
    "empty": ("", "is empty"),
    "spaces": (" \t \u00a0\u3000", INVISIBLE),
    "zero-width characters": ("\u200b\u200d\u2060\ufeff", INVISIBLE),
    "NULs": ("\0\0\0", INVISIBLE),
    "marks of direction": ("\u200f\u202e\u202c", INVISIBLE),
    "private characters": ("\ue000\uf8ff", INVISIBLE),
    "a surrogate that comes first": ("I like \ud83e", HALF),
    "too long": ("a" * (LONGEST + 1), "is longer than 2,000,000 characters (got 2,000,001)"),
}

# What is read, and its tokens with the two at the ends.
READ = {
    "1 MB of words": ("word " * 200_000, 256),
    "1 MB without a space": ("x" * 1_000_000, 3),
    "unknown tokens alone": ("\ua66e \ua66e", 4),
    "an emoji of several people": ("\U0001f469\u200d\U0001f469\u200d\U0001f467", 3),
    "right to left": ("\u200f\u05e9\u05dc\u05d5\u05dd", 6),
    "the names of special tokens": ("[PAD] [MASK]", 4),
    "a lone accent": ("\u0301", EMPTY),
    "a replacement character": ("\ufffd", EMPTY),
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


@pytest.mark.parametrize("name", ["a surrogate that comes first", "too long"])
def test_the_encoder_itself_refuses_what_cannot_be_read_and_says_which(minilm, name):
    text, reason = REFUSED[name]
    with pytest.raises(PalError) as caught:
        minilm.lengths(["fine", text])
    assert str(caught.value) == f"text 2 {reason}; change it or leave it out"
