"""Stability of prototypes and the test of plurality, on the small projects."""

import shutil

from pal.serving.reward_model import RewardModel
from pipeline import params, paths, study
from pipeline.evaluation import prototypes


def found(dataset):
    return prototypes.stability(study.load(dataset), RewardModel.load(paths.models(dataset) / "model"))


def test_a_model_held_against_itself_agrees_in_everything(small):
    shutil.rmtree(paths.models("own") / "again-1")
    shutil.copytree(paths.models("own") / "model", paths.models("own") / "again-1")
    same = found("own")
    assert (same["seeds"], same["agreement"], same["same_groups"], same["same_answers"]) == (1, 1, 1, 1)
    assert same["by_prototype"] == [1, 1]
    assert (same["true_groups"], same["n_groups"]) == (None, None)


def test_true_groups_and_users_outside_are_counted_where_they_are_known(small):
    """The partition of two groups; 8 seen and 6 unseen users, all with comparisons to locate them by."""
    known = found("simulated")
    assert known["n_groups"] == 2
    assert -1 <= known["true_groups"] <= 1
    assert [half["of"] for half in known["outside"].values()] == [8, 6]


def plurality(dataset, users):
    model = RewardModel.load(paths.models(dataset) / "model")
    return prototypes.plurality(study.load(dataset), model, users, params.load().evaluate)


def test_two_groups_differ(small):
    """Own comparisons: half like red, half blue. A tenth or so of six seen users' shuffles keep everyone's kind.

    Of two unseen users either shuffle is likely, so nothing can be shown, whatever they prefer.
    """
    assert plurality("own", "seen")["differ_p"] < 0.15
    assert plurality("own", "unseen")["differ_p"] > 0.4
