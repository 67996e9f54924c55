"""Baselines that need no model, and what a learner gets right who knows how the data were made, by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.encoders.vector_store import Embedder
from pal.files import write_json
from pipeline import params, paths, study
from pipeline.datasets import DATASETS
from pipeline.evaluation import references
from pipeline.evaluation.predictions import without_ties
from pipeline.storage import tables
from pipeline.storage.tables import read_json

CLIP = Embedder("clip-vit-h-14", "w", "f", 2, "float32", "as published")


def answers(rows, label=None):
    """Comparisons from rows of (prompt, chosen, rejected)."""
    prompt, chosen, rejected = torch.tensor(rows).T
    label = None if label is None else torch.tensor(label)
    return Comparisons.from_pairs(
        user=torch.zeros(len(rows)).long(), prompt=prompt, chosen=chosen, rejected=rejected, label=label
    )


# Five pairs of responses, 2 to 11, each met once: with them there are more than ten answers.
MANY = [(0, n, n + 1) for n in range(2, 12, 2)]


def test_where_answers_are_few_the_commoner_one_wins_everywhere_and_soft_labels_vote_in_part():
    """Yes (0) is chosen once and no (1) three times: the net of -2 over 4 met, halved, is -1/4; +1/4 for no.
    The margin is 1/2 for no, also on the prompt where yes won."""
    found = answers([(0, 0, 1), (1, 1, 0), (2, 1, 0), (3, 1, 0)])
    majority = references.Majority.from_votes(found)
    assert majority.few_answers
    assert majority.by_response.tolist() == [-0.25, 0.25]
    assert majority.margins(found).tolist() == [-0.5, 0.5, 0.5, 0.5]
    soft = answers([(0, 0, 1), (1, 1, 0)], label=[0.75, 0.5])
    assert references.Majority.from_votes(soft).by_question.tolist() == [0.5, 0]


def test_where_answers_are_many_the_votes_on_the_same_question_win():
    """Two of three take 0 over 1 on prompt 0: a vote of +1 for who chose 0, -1 for who chose 1."""
    found = answers([(0, 0, 1), (0, 0, 1), (0, 1, 0), *MANY])
    majority = references.Majority.from_votes(found)
    assert not majority.few_answers
    assert majority.margins(found[torch.arange(3)]).tolist() == [1, 1, -1]


def data_of(rows, prompts=None, responses=None, embedders=(CLIP, CLIP), ids=None):
    """What baselines read of a study: rows of (prompt, chosen, rejected), all of them training too."""
    vectors = torch.zeros(12, 2) if responses is None else torch.tensor(responses)
    pairs = answers(rows)
    return SimpleNamespace(
        embeddings=Embeddings(vectors if prompts is None else torch.tensor(prompts), vectors),
        embedders=dict(zip(("prompts", "responses"), embedders, strict=True)),
        response_ids=ids or [f"item {n}" for n in range(12)],
        select=lambda users, split: pairs,
        comparisons=pairs,
    )


def test_the_longer_text_wins_by_its_characters():
    """Lengths are the item's numbers: 7 over 2 by 5, 2 over 7 by -5."""
    found = answers([(0, 7, 2), (1, 2, 7)])
    assert references.longer(torch.arange(12), found).tolist() == [5, -5]


def test_the_response_nearer_to_its_prompt_wins():
    """Prompt (2, 0). Cosines: 1 with (3, 0), 0.6 with (3, 4), 0 with (0, 5)."""
    data = data_of(
        [(0, 0, 1), (0, 2, 1)], prompts=[[2.0, 0.0]], responses=[[3.0, 0.0], [3.0, 4.0], [0.0, 5.0]]
    )
    assert references.similarity(data, data.comparisons).tolist() == pytest.approx([0.4, -0.6])


@pytest.mark.parametrize(
    "embedders",
    [
        (None, CLIP),
        (replace(CLIP, encoder="none"), replace(CLIP, encoder="none")),
        (replace(CLIP, files_sha256="other"), CLIP),
    ],
)
def test_only_one_encoder_the_same_to_the_last_file_puts_both_into_one_space(embedders):
    assert not references.in_one_space(data_of(MANY, embedders=embedders))


def group_margins(agrees, user, would, test_user, n_users):
    made = [torch.tensor(each) for each in (agrees, user, would, test_user)]
    return references.group_margins(*made, n_users).tolist()


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
    bound = references.bayes_bound(data, values)
    pairs = data.select("unseen", "adapt")
    test, _ = without_ties(data.select("unseen", "test"))
    none, all_known = bound.margins("unseen", [pairs.slice(0, 0), pairs], test)
    right = [float((found > 0).double().mean()) for found in (none, all_known)]
    assert right[0] < right[1]
    assert right[1] > 0.9
    again = references.bayes_bound(data, values).margins("unseen", [pairs.slice(0, 0), pairs], test)
    assert all(torch.equal(a, b) for a, b in zip((none, all_known), again, strict=True))


def share_of(K, walls, planes):
    """Shares of what walls leave of the simplex of K weights, about a point that they all leave in."""
    inside = np.arange(K, 0, -1) / np.arange(1, K + 1).sum()
    parts = references.simplices(np.reshape(walls, (-1, K)).astype(float), inside)
    return references.shares(parts, np.array(planes, dtype=float)).tolist()


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
    parts = references.simplices(walls, np.array([0.9, 0.1 - 2e-14, 1e-14, 1e-14]))
    planes = np.array([[0.125, -0.875, -0.875, -0.875], [0, 1, -1, 0]])
    assert references.shares(parts, planes) == pytest.approx([1 / 8, 1 / 2])


def test_the_exact_bound_is_what_points_drawn_from_the_posterior_come_to():
    """Six answers about four prototypes: the share of 300,000 points that fit them, of four test questions."""
    rng = np.random.default_rng(0)
    true, w = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4), 300_000)
    walls, planes = rng.normal(size=(6, 4)), rng.normal(size=(4, 4))
    walls *= np.sign(walls @ true)[:, None]
    fits = w[(w @ walls.T > 0).all(1)]
    parts = references.simplices(walls, true)
    assert references.shares(parts, planes) == pytest.approx((fits @ planes.T > 0).mean(0), abs=0.02)
    assert len(fits) > 6_000


def test_without_the_truth_there_is_no_bound(simulated):
    data, values = simulated
    (paths.prepared("simulated") / "truth.json").unlink()
    assert references.bayes_bound(data, values) is None
    assert references.bayes_bound(study.load("own"), values) is None
