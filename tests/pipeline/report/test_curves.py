"""What choose-k found, as the report shows it."""

import pytest

from pal.files import write_json
from pipeline import paths
from pipeline.errors import PipelineError
from pipeline.paths import AS_FITTED, ONE_PER_USER
from pipeline.report import curves

EVALUATED = {"head": {"K": 2}}


def curve(K, *accuracies):
    rows = [
        {"K": k, "accuracy": accuracy, "standard_error": 0.01, "sufficient": k >= K}
        for k, accuracy in enumerate(accuracies, 1)
    ]
    return {"K": K, "candidates": rows, "n_users": 30, "n_comparisons": 600}


BOTH = {AS_FITTED: curve(2, 0.8, 0.95, 0.95), ONE_PER_USER: curve(3, 0.8, 0.9, 0.995)}


def test_the_sentence_gives_both_numbers_and_says_why_they_may_differ():
    said = curves.said(BOTH, EVALUATED).replace("\u00a0", " ")
    assert "With every user at one prototype, 3 groups describe these users (K = 3)." in said
    assert "Fitted as this model is, K = 2 suffices." in said
    assert "affine in the weights" in said
    assert said.endswith("The model of this page has K = 2.")


def test_one_curve_needs_no_reason_and_one_group_is_nobody_told_apart():
    said = curves.said({ONE_PER_USER: curve(1, 0.9, 0.9)}, EVALUATED).replace("\u00a0", " ")
    assert "nobody is told apart (K = 1)" in said
    assert "affine" not in said


def test_bars_are_one_standard_error_and_end_at_a_hundred():
    drawn = curves.chart(BOTH)
    (values,) = drawn["datasets"].values()
    last = next(value for value in values if value["way"] == ONE_PER_USER and value["K"] == 3)
    assert (last["accuracy"], last["low"], last["high"], last["chosen"]) == (99.5, 98.5, 100.0, True)
    assert [value["K"] for value in values if value["chosen"]] == [2, 3]


def test_without_curves_nothing_is_drawn_or_said():
    assert curves.chart({}) is None
    assert not curves.said({}, EVALUATED)


def test_curves_are_read_where_choose_k_left_some(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert curves.read("own") == {}
    write_json(paths.chosen("own"), {"K": 3, "curves": BOTH})
    assert curves.read("own") == BOTH
    paths.chosen("own").write_text("{", encoding="utf-8")
    with pytest.raises(PipelineError, match="choose-k@own"):
        curves.read("own")
