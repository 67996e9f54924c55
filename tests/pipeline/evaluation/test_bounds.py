"""Bounds: what a learner gets right who knows how the data were made, worked out by hand."""

import numpy as np
import pytest
import torch

from pal.files import write_json
from pipeline import params, paths, study
from pipeline.datasets import DATASETS
from pipeline.evaluation import bounds
from pipeline.evaluation.predictions import without_ties
from pipeline.storage import manifests
from pipeline.storage.manifests import read_json


def margins(agrees, user, would, test_user, n_users):
    made = [torch.tensor(each) for each in (agrees, user, would, test_user)]
    return bounds.group_margins(*made, n_users).tolist()


def test_a_user_whose_answers_leave_one_group_is_known():
    """Three groups; the one answer fits the second alone, which would not answer the test so."""
    assert margins([[False, True, False]], [0], [[True, False, True]], [0], 1) == [-0.5]


def test_groups_that_fit_alike_vote_a_tie_is_a_tie_and_else_those_with_the_fewest_wrong_count():
    """Groups 1 and 2 fit user 0: one of the two would answer so; of user 1 nothing is known: 2 of 3."""
    found = margins([[True, True, False]], [0], [[True, False, False], [True, True, False]], [0, 1], 2)
    assert found == [0.0, pytest.approx(2 / 3 - 1 / 2)]
    agrees = [[True, False], [False, True], [True, False]]
    assert margins(agrees, [0, 0, 0], [[True, False]], [0], 1) == [0.5]


@pytest.fixture
def simulated(small):
    """The small simulation: two groups, everyone at a prototype; and what the bound knows of it."""
    return study.load("simulated"), params.load()


def test_the_simulations_margins_are_those_that_the_answers_were_made_from(simulated):
    """At a user's true weights every answer's margin is positive."""
    data, values = simulated
    truth = read_json(paths.prepared("simulated") / "truth.json", "")
    known = DATASETS["simulated"].bound(data, values)
    weights = dict(zip(truth["user_ids"], truth["weights"], strict=True))
    pairs = data.select("unseen", "adapt")
    true = torch.tensor([weights[data.user_ids["unseen"][user]] for user in pairs.user.tolist()])
    assert bool(((known.margins(pairs) * true).sum(1) > 0).all())


def test_in_the_mixture_setting_more_answers_tell_more_and_none_tells_what_all_share(simulated):
    """The same answers, of which the learner only knows that weights are anywhere between the prototypes."""
    data, values = simulated
    path = paths.prepared("simulated") / "truth.json"
    write_json(path, {**read_json(path, ""), "setting": "mixture"})
    manifests.write_manifest(path.parent)
    bound = bounds.bayes_bound(data, values)
    pairs = data.select("unseen", "adapt")
    test, _ = without_ties(data.select("unseen", "test"))
    none, all_known = bound.margins("unseen", [pairs.slice(0, 0), pairs], test)
    right = [float((found > 0).double().mean()) for found in (none, all_known)]
    assert right[0] < right[1]
    assert right[1] > 0.9
    again = bounds.bayes_bound(data, values).margins("unseen", [pairs.slice(0, 0), pairs], test)
    assert all(torch.equal(a, b) for a, b in zip((none, all_known), again, strict=True))


def test_parts_of_a_triangle_have_the_areas_worked_out_by_hand():
    """Of the triangle (0,0), (1,0), (0,1): w1 > 1/2 is a quarter; w1 > w2 a half, of which w1 > 1/2 is a half."""
    triangle = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    beyond_half, larger, always, never = [1, 0, -0.5], [1, -1, 0], [0, 0, 1], [0, 0, -1]
    lines = np.array([beyond_half, larger, always, never], dtype=float)
    assert bounds.shares(triangle, lines) == pytest.approx([1 / 4, 1 / 2, 1, 0])
    half = bounds.cut(triangle, lines[1])
    assert set(map(tuple, half.tolist())) == {(0.0, 0.0), (0.5, 0.5), (1.0, 0.0)}
    assert bounds.shares(half, lines) == pytest.approx([1 / 2, 1, 1, 0])
    assert bounds.cut(half, lines[2]) is half


def test_without_the_truth_there_is_no_bound(simulated):
    data, values = simulated
    (paths.prepared("simulated") / "truth.json").unlink()
    assert bounds.bayes_bound(data, values) is None
    assert bounds.bayes_bound(study.load("own"), values) is None
