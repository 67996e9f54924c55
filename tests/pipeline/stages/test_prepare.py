"""prepare: raw files, from the store alone, into items and pairs; a failure leaves what was there."""

import json

import pytest

from pipeline import paths
from pipeline.stages import download, prepare
from pipeline.storage import tables

OWN = "user_id,prompt,chosen,rejected\nann,why?,so,no\nbob,why?,no,so\n"


@pytest.fixture
def own(project):
    project.set({"datasets": ["own"], "own.source": "own.csv"})
    (project.root / "own.csv").write_text(OWN)
    download.main("own")
    return project


def test_items_are_distinct_texts_and_pairs_name_them(own, capsys):
    """Two rows of one prompt and two answers: three items, two pairs."""
    (own.root / "own.csv").write_text("something else")  # files come from the store
    prepare.main("own")
    folder = paths.prepared("own")
    items = tables.read_table(folder / tables.ITEMS, "")
    pairs = tables.read_table(folder / tables.PAIRS, "")
    assert sorted(items["text"]) == ["no", "so", "why?"]
    assert pairs["chosen"].to_list() == [tables.text_id("so"), tables.text_id("no")]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["source"] == "own: own.csv"
    assert (manifest["counts"]["read"], manifest["counts"]["kept"]) == (2, 2)
    assert "prepare@own: 2 read" in capsys.readouterr().out
