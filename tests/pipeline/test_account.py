"""What stages read, kept and dropped, from manifests written by hand."""

import pytest

from pipeline import account, layout
from pipeline.errors import PipelineError
from pipeline.files import write_json


def manifest(folder, **content):
    write_json(folder / "manifest.json", content)


def test_every_stage_says_what_it_dropped_and_why(project):
    manifest(
        layout.prepared("own"), source="s", counts={"read": 10, "kept": 7, "dropped": 3, "ties_dropped": 3}
    )
    manifest(layout.splits("own"), counts={"read": 7, "kept": 5, "dropped": 2, "users_dropped": 1}, places={})
    reasons = {"it is no picture": 1, "it has 300 megapixels": 2}
    manifest(layout.embeddings("own"), counts={"read": 9, "kept": 6, "dropped": 3}, reasons=reasons)
    assert account.account("own") == [
        {"stage": "prepare", "read": 10, "kept": 7, "dropped": 3, "details": {"ties_dropped": 3}, "reasons": {}},
        {"stage": "split", "read": 7, "kept": 5, "dropped": 2, "details": {"users_dropped": 1}, "reasons": {}},
        {
            "stage": "encode", "read": 9, "kept": 6, "dropped": 3, "details": {},
            "reasons": {"it has 300 megapixels": 2, "it is no picture": 1},
        },
    ]  # fmt: skip


def test_stages_without_a_manifest_are_left_out(project):
    assert account.account("own") == []


def test_rare_reasons_are_summed_so_that_none_is_lost():
    assert account.commonest({"a": 1, "b": 5, "c": 2, "d": 1}, most=2) == {"b": 5, "c": 2, "other reasons": 2}


def test_notes_and_the_split_table_are_read_where_they_are_there(project):
    assert (account.notes("own"), account.split_table("own")) == ([], [])
    write_json(layout.prepared("own") / "notes.json", ["answers were simulated by length"])
    write_json(layout.prepared("own") / "table3.json", {"rows": [{"group": "G1", "seen": 3}]})
    assert account.notes("own") == ["answers were simulated by length"]
    assert account.split_table("own") == [{"group": "G1", "seen": 3}]


@pytest.mark.parametrize("content", [{"rows": "none"}, {"rows": [1]}, [], {}])
def test_a_split_table_without_rows_names_the_stage_to_run(project, content):
    write_json(layout.prepared("own") / "table3.json", content)
    with pytest.raises(
        PipelineError, match=r"table3.json must hold a list of rows; run `dvc repro -f prepare@own`"
    ):
        account.split_table("own")
