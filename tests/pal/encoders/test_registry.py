"""The registry of encoders: names lead to modules, which texts no encoder reads, and batches of texts."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pal import encoders
from pal.encoders import LONGEST, complaint, split_name
from pal.errors import PalError


def test_an_unknown_name_lists_those_known_with_the_ways_to_name_any_other():
    with pytest.raises(PalError) as caught:
        encoders.describe("clip")
    known = "all-MiniLM-L6-v2, all-mpnet-base-v2, clip-vit-h-14, pickscore, hashed-words, classical"
    assert ", ".join(encoders.names()) == known
    assert str(caught.value) == (
        f"encoder must be one of {known}, or start with sentence-transformers:, transformers:, open_clip:, "
        "untrained-, got 'clip'"
    )


def test_options_stand_in_the_name_and_weights_are_found_without_them():
    name = "sentence-transformers:a/b@main+instruction=1+1=2? +measures"
    assert split_name(name) == ("sentence-transformers:a/b@main", {"instruction": "1+1=2? "}, True)
    assert encoders.plain_name(name) == "sentence-transformers:a/b@main"
    with pytest.raises(PalError) as caught:
        encoders.describe("hashed-words+layer=2")
    assert str(caught.value) == (
        "encoder must be hashed-words without +layer=, which it does not take, got 'hashed-words+layer=2'"
    )


def test_an_instruction_stands_before_every_text(minilm):
    described = encoders.describe("all-MiniLM-L6-v2+instruction=query: ")
    assert described.preprocessing.endswith(", after 'query: '")
    assert described.dim == 384
    vector = encoders.load(described).encode(["tea"])
    assert (vector == minilm.encode(["query: tea"])).all()


REFUSED = {
    "": "is empty",
    " \t \u00a0\u200b\ufeff\0\u202e\ue000": "holds nothing but spaces and invisible characters",
    "I like \ud83e": "holds half of a surrogate pair, which is no character",
    "a" * (LONGEST + 1): "is longer than 2,000,000 characters (got 2,000,001)",
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.items(), ids=["empty", "invisible", "half", "long"])
def test_a_text_that_no_encoder_reads_is_refused_with_its_reason(text, reason):
    assert complaint(text) == reason


# What is read, and its tokens with the two at the ends; 2 are those of no text at all.
READ = {
    "1 MB of words": ("word " * 200_000, 256),
    "1 MB without a space": ("x" * 1_000_000, 3),
    "unknown tokens alone": ("\ua66e \ua66e", 4),
    "the names of special tokens": ("[PAD] [MASK]", 4),
    "a lone accent": ("\u0301", 2),
}


@pytest.mark.parametrize("name", READ)
def test_this_is_read_and_has_a_finite_vector_of_unit_length(minilm, name):
    text, tokens = READ[name]
    assert complaint(text) is None
    assert minilm.lengths([text]) == [tokens]
    vector = minilm.encode([text])[0]
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@given(lengths=st.lists(st.integers(1, 40), max_size=60).map(sorted), budget=st.integers(1, 100))
def test_every_text_is_in_one_batch_and_no_batch_is_over_budget(lengths, budget):
    edges = encoders.batches(lengths, budget)
    assert (edges[0], edges[-1]) == (0, len(lengths))
    for start, stop in pairwise(edges):
        padded = lengths[stop - 1] * (stop - start)
        assert stop > start
        assert padded <= budget or stop - start == 1
        if stop < len(lengths):  # none is cut short
            assert lengths[stop] * (stop + 1 - start) > budget


def test_batches_by_hand():
    """Lengths 1, 2, 2, 5 within 5: 1 and 2 make 2 x 2 = 4, a third 2 x 3 = 6 is past 5; 2 and 5 are past it too."""
    assert encoders.batches([1, 2, 2, 5], 5) == [0, 2, 3, 4]
    assert encoders.batches([], 5) == [0]
