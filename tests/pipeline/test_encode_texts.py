"""Texts into the store: batches of like length that what is stored cannot change; bad texts told and counted."""

import csv
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import encode, encode_texts, layout, shards, tables
from pipeline.errors import PipelineError

QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)
LENGTHS = st.lists(st.integers(1, 40), max_size=60)


def ids_of(lengths):
    return [f"item {(7 * row) % 100:03d}-{row}" for row in range(len(lengths))]


@QUICK
@given(lengths=LENGTHS, budget=st.integers(1, 100))
def test_every_row_is_in_one_batch_and_no_batch_is_over_budget(lengths, budget):
    found = list(encode_texts.batches(lengths, ids_of(lengths), budget))
    assert sorted(row for batch in found for row in batch) == list(range(len(lengths)))
    for batch in found:
        padded = max(lengths[row] for row in batch) * len(batch)
        assert padded <= budget or len(batch) == 1


@QUICK
@given(lengths=LENGTHS, order=st.randoms(use_true_random=False))
def test_batches_do_not_depend_on_the_order_of_the_items(lengths, order):
    ids = ids_of(lengths)
    rows = list(range(len(ids)))
    order.shuffle(rows)
    shuffled = encode_texts.batches([lengths[row] for row in rows], [ids[row] for row in rows], 64)
    expected = [[ids[row] for row in batch] for batch in encode_texts.batches(lengths, ids, 64)]
    assert [[ids[rows[row]] for row in batch] for batch in shuffled] == expected


def test_batches_by_hand():
    """By length, then id: c (1), b (2), d (2), a (5). 1; with b 2 x 2 = 4; with d 2 x 3 = 6 is past 5."""
    assert list(encode_texts.batches([5, 2, 1, 2], ["a", "b", "c", "d"], 5)) == [[2, 1], [3], [0]]


def test_groups_by_hand():
    """At least 3 rows a group: 2 + 2, then 3, and the 1 that is left."""
    batches = [[0, 1], [2, 3], [4, 5, 6], [7]]
    assert list(encode_texts.groups(iter(batches), rows=3)) == [[[0, 1], [2, 3]], [[4, 5, 6]], [[7]]]
    assert list(encode_texts.groups(iter([]), rows=3)) == []


GOOD = [
    "a red thing",
    "a blue thing",
    "\u200f\N{HEBREW LETTER SHIN}\N{HEBREW LETTER LAMED}",
    "\N{PILE OF POO}",
    "a\x00b",
    "x" * 5000,
]
BAD = {
    "": "is empty",
    " \t\n": "holds nothing but spaces and invisible characters",
    "\u200f\u202e": "holds nothing but spaces and invisible characters",
}


@pytest.fixture
def own(album):
    """Six good texts and three bad ones."""
    album.texts = [*GOOD, *BAD]
    album.write()
    return album.project


def manifest():
    return json.loads((layout.embeddings("own") / "manifest.json").read_text())


def test_a_bad_text_stops_the_run_in_its_own_words(own):
    with pytest.raises(
        PipelineError,
        match=r"^the text '.*' of own \(and 2 more\) cannot be encoded: (is empty|holds nothing but .*); mend it",
    ):
        encode.main("own")
    assert not layout.embeddings("own").exists()


def test_skipped_texts_are_counted_and_listed_with_their_reasons(own):
    own.set({"encode.on_bad_item": "skip"})
    encode.main("own")
    assert manifest()["counts"] == {"read": 9, "kept": 6, "dropped": 3}
    assert manifest()["reasons"] == {BAD["\u200f\u202e"]: 2, BAD[""]: 1}
    with (layout.embeddings("own") / "dropped.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["item_id"]: row["reason"] for row in rows} == {tables.text_id(k): v for k, v in BAD.items()}
    assert {row["modality"] for row in rows} == {"text"}
    ids, vectors, _ = shards.read_folder(layout.embeddings("own") / "text", "")
    assert sorted(shards.unpacked(ids)) == sorted(tables.text_id(text) for text in GOOD)
    assert len(vectors) == len(GOOD)


def test_bad_texts_do_not_change_the_good_ones_vectors(own):
    own.set({"encode.on_bad_item": "skip"})
    encode.main("own")
    before = (layout.embeddings("own") / "text/shard-00000.parquet").read_bytes()
    frame = tables.text_items(GOOD)
    tables.write_table(layout.recoloured("own") / tables.ITEMS, frame, tables.items_schema())
    own.set({"encode.on_bad_item": "fail"})
    encode.main("own")
    assert (layout.embeddings("own") / "text/shard-00000.parquet").read_bytes() == before
