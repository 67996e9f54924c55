"""What stages read, kept and dropped, from manifests written by hand."""

import pytest

from pal.files import write_json
from pipeline import paths
from pipeline.errors import PipelineError
from pipeline.evaluation import account
from pipeline.storage.manifests import write_manifest as manifest


def test_every_stage_says_what_it_dropped_and_why(project):
    manifest(
        paths.prepared("own"), source="s", counts={"read": 10, "kept": 7, "dropped": 3, "ties_dropped": 3}
    )
    manifest(paths.splits("own"), counts={"read": 7, "kept": 5, "dropped": 2, "users_dropped": 1}, places={})
    reasons = {"it is no picture": 1, "it has 300 megapixels": 2}
    manifest(paths.embeddings("own"), counts={"read": 9, "kept": 6, "dropped": 3}, reasons=reasons)
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
    write_json(paths.prepared("own") / "notes.json", ["answers were simulated by length"])
    write_json(paths.prepared("own") / "table3.json", {"rows": [{"group": "G1", "seen": 3}]})
    assert account.notes("own") == ["answers were simulated by length"]
    assert account.split_table("own") == [{"group": "G1", "seen": 3}]


def test_a_split_counted_by_group_and_users_becomes_rows_with_the_papers_beside_them(project):
    counted = {"cool": {"seen": [5, 2, 1], "unseen": [3, 0, 4]}}
    content = {"pairs": counted, "published": {"cool": {"seen": [9, 8, 7]}}}
    write_json(paths.prepared("own") / "table3.json", content)
    paper = {"train_published": 9, "val_published": 8, "test_published": 7}
    assert account.split_table("own") == [
        {"group": "cool, seen", "train": 5, "val": 2, "test": 1, **paper},
        {"group": "cool, unseen", "train": 3, "val": 0, "test": 4},
    ]


def test_whether_data_are_the_published_ones_is_said_where_prepare_compared_them(project):
    assert account.published("own") == []
    content = {"says": "Not the published ones.", "rows": {}, "leakage": {"says": "3 of 4 leak."}}
    write_json(paths.prepared("own") / "published.json", content)
    assert account.published("own") == ["Not the published ones.", "3 of 4 leak."]


@pytest.mark.parametrize("content", [{"rows": 1}, {"rows": [1]}, {"pairs": {"cool": {"seen": [1]}}}, [], {}])
def test_a_split_table_without_rows_names_the_stage_to_run(project, content):
    write_json(paths.prepared("own") / "table3.json", content)
    with pytest.raises(
        PipelineError, match=r"table3.json must hold a list of rows; run `dvc repro -f prepare@own`"
    ):
        account.split_table("own")
