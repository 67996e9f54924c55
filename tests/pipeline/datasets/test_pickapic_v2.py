"""Pick-a-Pic v2: which test comparisons v1 trained or validated on, beside what was published."""

import json
from types import SimpleNamespace

import pytest

from pipeline import params
from pipeline.datasets import pickapic_v2


@pytest.fixture
def both(shards, more_shards, project):
    """v1 with two comparisons and v2 with a test set that overlaps with them in one way or another."""
    shards.write("train-0.parquet", [shards.row(prompt="old", images=("a", "b"), ranking_id=100)])
    shards.write("validation-0.parquet", [shards.row(prompt="older", images=("c", "d"), ranking_id=101)])
    more = more_shards
    more.write("train-0.parquet", [more.row(user=1, images=("x", "y"), ranking_id=1)])
    test = [
        more.row(user=1, prompt="old", images=("a", "b"), ranking_id=100),  # the same in all
        more.row(user=2, prompt="old", images=("b", "a"), ranking_id=2, label=0.0),  # the same, sides swapped
        more.row(user=1, prompt="new", images=("c", "d"), ranking_id=3),  # of validation
        more.row(user=1, prompt="new", images=("a", "e"), ranking_id=4),  # one picture
        more.row(user=1, prompt="old", images=("e", "f"), ranking_id=5),  # the prompt
        more.row(user=1, prompt="new", images=("g", "h"), ranking_id=101),  # the number alone
        more.row(user=1, prompt="new", images=("i", "j"), ranking_id=6),  # nothing
        more.row(user=1, prompt="old", images=("a", "b"), ranking_id=7, label=0.5),  # a tie
    ]
    more.write("test-0.parquet", test)
    more.write("test_unique-0.parquet", [more.row(user=1, prompt="old", images=("a", "b"), ranking_id=100)])
    out = project.root / "out"
    out.mkdir()
    files = {**more.files(), **shards.files(prefix="v1/")}
    return SimpleNamespace(out=out, v2=more.files(), files=files, project=project)


def test_overlap_is_the_same_two_pictures_counted_on_untied_pairs(both, read_pairs, capsys):
    both.project.set({"pickapic_v2.prepare.ties": "keep"})
    counts = pickapic_v2.prepare(params.load(), both.files, both.out)
    pairs, _ = read_pairs(both.out)
    yes, no = "leakage", "no_leakage"
    assert pairs["test"].to_list() == [None, yes, yes, yes, no, no, no, no, yes, "test_unique"]
    assert counts["read"] == counts["kept"] == 10
    _, overlap = json.loads((both.out / "notes.json").read_text())
    says = "3 of the untied test comparisons overlap with v1 and 4 do not; published was: 10,587 of the"
    assert overlap.startswith(says)
    assert says in capsys.readouterr().out


def test_without_derivation_the_test_set_is_one(both, read_pairs):
    both.project.set({"pickapic_v2.prepare.leakage": "skip"})
    pickapic_v2.prepare(params.load(), both.v2, both.out)
    pairs, _ = read_pairs(both.out)
    assert pairs["test"].to_list() == [None, *["test"] * 7, "test_unique"]
    (note,) = json.loads((both.out / "notes.json").read_text())
    assert (
        note
        == "Not the published Pick-a-Pic v2: rows of train 1 of 959,040, test 8 of 20,716, test_unique 1 of 500."
    )
