"""What a learner gets right who knows how the data were made, by hand."""

import numpy as np
import pytest
import torch

from pal.files import write_json
from pipeline import params, paths, study
from pipeline.datasets import DATASETS
from pipeline.evaluation import bounds
from pipeline.evaluation.predictions import without_ties
from pipeline.storage import tables
from pipeline.storage.tables import read_json


def group_margins(agrees, user, would, test_user, n_users):
    made = [torch.tensor(each) for each in (agrees, user, would, test_user)]
    return bounds.group_margins(*made, n_users).tolist()


def test_a_user_whose_answers_leave_one_group_is_known():
    """Three groups; the one answer fits the second alone, which would not answer the test so."""
    assert group_margins([[False, True, False]], [0], [[True, False, True]], [0], 1) == [-0.5]


def test_groups_that_fit_alike_vote_a_tie_is_a_tie_and_else_those_with_the_fewest_wrong_count():
    """Groups 1 and 2 fit user 0: one of the two would answer so; of user 1 nothing is known: 2 of 3."""
    found = group_margins([[True, True, False]], [0], [[True, False, False], [True, True, False]], [0, 1], 2)
    assert found == [0.0, pytest.approx(2 / 3 - 1 / 2)]
    agrees = [[True, False], [False, True], [True, False]]
    assert group_margins(agrees, [0, 0, 0], [[True, False]], [0], 1) == [0.5]


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
    tables.write_manifest(path.parent)
    bound = bounds.bayes_bound(data, values)
    pairs = data.select("unseen", "adapt")
    test, _ = without_ties(data.select("unseen", "test"))
    none, all_known = bound.margins("unseen", [pairs.slice(0, 0), pairs], test)
    right = [float((found > 0).double().mean()) for found in (none, all_known)]
    assert right[0] < right[1]
    assert right[1] > 0.9
    again = bounds.bayes_bound(data, values).margins("unseen", [pairs.slice(0, 0), pairs], test)
    assert all(torch.equal(a, b) for a, b in zip((none, all_known), again, strict=True))


def share_of(K, walls, planes):
    """Shares of what walls leave of the simplex of K weights, about a point that they all leave in."""
    inside = np.arange(K, 0, -1) / np.arange(1, K + 1).sum()
    parts = bounds.simplices(np.reshape(walls, (-1, K)).astype(float), inside)
    return bounds.shares(parts, np.array(planes, dtype=float)).tolist()


@pytest.mark.parametrize("K", [2, 3, 4, 5])
def test_parts_of_a_simplex_have_the_volumes_worked_out_by_hand(K):
    """w1 > 1/2 cuts off a corner of half the size: a share of 2 ** (1 - K); w1 > w2 halves, and leaves it all."""
    beyond_half = [0.5] + [-0.5] * (K - 1)
    larger, smaller = ([s, -s] + [0] * (K - 2) for s in (1, -1))
    always, never = [1] * K, [-1] * K
    planes = [beyond_half, larger, always, never]
    assert share_of(K, [], planes) == pytest.approx([0.5 ** (K - 1), 0.5, 1, 0])
    assert share_of(K, [larger], [*planes, smaller]) == pytest.approx([0.5 ** (K - 2), 1, 1, 0, 0], abs=1e-12)


def test_a_plane_through_a_tetrahedron_cuts_off_the_volume_of_its_smaller_copies():
    """w1 + w2 > 1/2 halves a tetrahedron by symmetry; where w1 > 3/4 was all that is left, w1 > 7/8 is an eighth
    of it, also where a true place lies on a face to the last digit."""
    assert share_of(4, [], [[1, 1, -1, -1]]) == pytest.approx([1 / 2])
    walls = np.array([[0.25, -0.75, -0.75, -0.75]])
    parts = bounds.simplices(walls, np.array([0.9, 0.1 - 2e-14, 1e-14, 1e-14]))
    planes = np.array([[0.125, -0.875, -0.875, -0.875], [0, 1, -1, 0]])
    assert bounds.shares(parts, planes) == pytest.approx([1 / 8, 1 / 2])


def test_the_exact_bound_is_what_points_drawn_from_the_posterior_come_to():
    """Six answers about four prototypes: the share of 300,000 points that fit them, of four test questions."""
    rng = np.random.default_rng(0)
    true, w = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4), 300_000)
    walls, planes = rng.normal(size=(6, 4)), rng.normal(size=(4, 4))
    walls *= np.sign(walls @ true)[:, None]
    fits = w[(w @ walls.T > 0).all(1)]
    parts = bounds.simplices(walls, true)
    assert bounds.shares(parts, planes) == pytest.approx((fits @ planes.T > 0).mean(0), abs=0.02)
    assert len(fits) > 6_000


def test_without_the_truth_there_is_no_bound(simulated):
    data, values = simulated
    (paths.prepared("simulated") / "truth.json").unlink()
    assert bounds.bayes_bound(data, values) is None
