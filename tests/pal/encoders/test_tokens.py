"""Tokens: kept flat, padded by hand, and no more of a long text read than is needed."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pal.encoders import tokens as module
from pal.encoders.tokens import FIRST, Tokeniser, Tokens

LIMIT = 4


@pytest.fixture(scope="module")
def library(minilm):
    """MiniLM's own tokeniser."""
    return minilm._tokenise._tokenizer


def three() -> Tokens:
    """Three texts: 5 6, then 7, then 8 9."""
    return Tokens(np.array([5, 6, 7, 8, 9], dtype=np.int32), np.array([0, 2, 3, 5]))


def test_lengths_are_differences_of_starts():
    assert three().lengths == [2, 1, 2]


def test_rows_of_one_length_need_no_mask():
    numbers, own = three().padded([2, 0], pad=0)
    assert numbers.tolist() == [[8, 9], [5, 6]]
    assert own is None


@pytest.mark.parametrize(
    ("side", "numbers", "own"),
    [("right", [[7, 1], [5, 6]], [[1, 0], [1, 1]]), ("left", [[1, 7], [5, 6]], [[0, 1], [1, 1]])],
)
def test_shorter_rows_are_filled_up_on_the_tokenisers_side(side, numbers, own):
    got = three().padded([1, 0], pad=1, side=side)
    assert [x.tolist() for x in got] == [numbers, own]


def test_no_texts_have_no_tokens(library):
    assert Tokeniser(library, LIMIT)([]).lengths == []


def test_a_prompt_stands_before_every_text(library):
    """[CLS] query : cat [SEP]."""
    numbers = Tokeniser(library, 8, "query: ")(["cat"]).numbers.tolist()
    assert numbers == library("query: cat")["input_ids"]


def test_texts_in_portions_are_those_in_one(library, monkeypatch):
    texts = [f"text number {n}" for n in range(7)]
    whole = Tokeniser(library, 16)(texts)
    monkeypatch.setattr(module, "AT_ONCE", 3)
    parts = Tokeniser(library, 16)(texts)
    assert np.array_equal(whole.numbers, parts.numbers)
    assert np.array_equal(whole.starts, parts.starts)


pieces = st.sampled_from(
    [
        "a",
        "word",
        " ",
        "\n",
        ".",
        "!",
        "\u200b",
        "\0",
        "e\u0301",
        "[CLS]",
        "[",
        "\u6f22",
        "x" * 120,
        "-",
        "\u03a3",
        "\ufffd",
    ]
)


@given(st.lists(pieces, max_size=400).map("".join))
def test_a_text_read_in_part_has_the_tokens_of_the_whole(library, text):
    """A limit of 4 tokens reads 128 characters first: most of these texts are longer."""
    whole = library([text], truncation=True, max_length=LIMIT)["input_ids"][0]
    assert Tokeniser(library, LIMIT)([text]).numbers.tolist() == whole


def test_a_long_text_is_not_read_to_its_end(library):
    """The tokeniser sees at most 32 characters a token where words end within them."""
    seen = []

    def spy(texts, **options):
        seen.extend(map(len, texts))
        return library(texts, **options)

    watched = Tokeniser(library, LIMIT)
    watched._tokenizer = spy
    watched(["word " * 100_000, "short"])
    assert seen == [
        FIRST * LIMIT - 4,
        5,
    ]  # 128 characters are 25 words and 3 letters; the last space is at 124


def test_another_kind_of_tokeniser_is_given_the_whole_text(library):
    """What comes later may change its first tokens."""
    seen = []

    def spy(texts, **options):
        seen.extend(map(len, texts))
        return library(texts, **options)

    spy.backend_tokenizer = SimpleNamespace(pre_tokenizer=object())
    spy.truncation_side = "right"
    spy.get_added_vocab = dict
    Tokeniser(spy, LIMIT)(["word " * 1_000])
    assert seen == [5_000]
