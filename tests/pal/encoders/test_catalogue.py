"""Encoders by name: each name leads to the module that runs it."""

import pytest

from pal import encoders
from pal.errors import PalError

MINILM = "all-MiniLM-L6-v2"


def test_an_unknown_name_lists_those_known():
    """With the ways to name any other."""
    with pytest.raises(PalError) as caught:
        encoders.describe("clip")
    known = f"encoder must be one of {', '.join(encoders.names())}, or start with open_clip:, "
    assert str(caught.value) == known + "sentence-transformers:, untrained-, got 'clip'"


def test_the_names_are_those_of_the_families():
    assert {"all-MiniLM-L6-v2", "clip-vit-h-14", "pickscore", "hashed-words", "classical"} <= set(
        encoders.names()
    )


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("classical", "classical"),
        ("hashed-words", "hashed"),
        ("untrained-vit-b-32", "clip"),
        (MINILM, "sentence"),
    ],
)
def test_each_name_leads_to_the_module_that_runs_it(name, module):
    assert encoders.describe(name).module == module


def test_hashed_words_need_no_files():
    found = encoders.describe("hashed-words", "hub")
    assert (found.dim, found.weights_sha256, found.folder) == (256, "", None)
    assert encoders.load(found).lengths(["a b"]) == [2]
