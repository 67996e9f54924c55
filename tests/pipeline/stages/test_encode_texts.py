"""Texts into the store: batches of like length that what is stored cannot change; bad texts told and counted."""

import csv
import json

import pytest

from pal.encoders import vector_store as embeddings
from pipeline import PipelineError, paths
from pipeline.stages import encode
from pipeline.storage import tables

HEBREW = "\u200f\N{HEBREW LETTER SHIN}\N{HEBREW LETTER LAMED}"
GOOD = ["a red thing", "a blue thing", HEBREW, "\N{PILE OF POO}", "a\x00b", "x" * 5000]
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
    return json.loads((paths.embeddings("own") / "manifest.json").read_text())


def test_skipped_texts_are_counted_and_listed_with_their_reasons(own, monkeypatch):
    monkeypatch.setattr(encode, "TEXTS_AT_ONCE", 4)  # nine texts, four at a time
    message = r"^the text '' of own \(and 2 more\) cannot be encoded: is empty; mend"
    with pytest.raises(PipelineError, match=message):
        encode.main("own")
    own.set({"encode.on_bad_item": "skip"})
    encode.main("own")
    assert manifest()["counts"] == {"read": 9, "kept": 6, "dropped": 3}
    assert manifest()["reasons"] == {BAD["\u200f\u202e"]: 2, BAD[""]: 1}
    with (paths.embeddings("own") / "dropped.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["item_id"]: row["reason"] for row in rows} == {tables.text_id(k): v for k, v in BAD.items()}
    assert {row["modality"] for row in rows} == {"text"}
    ids, vectors, _ = tables.read_shards(paths.embeddings("own") / "text", "")
    assert sorted(embeddings.unpacked(ids)) == sorted(tables.text_id(text) for text in GOOD)
    assert len(vectors) == len(GOOD)
