"""Prototypes of several fits held against each other, on margins and users made by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from pal.comparisons import Comparisons, Embeddings
from pal.config import preset
from pal.evaluation.stability import adjusted_rand, dead, match, outside
from pal.fitting.trainer import fit

EVEN = torch.full((2,), 0.5)


def test_prototypes_that_only_changed_places_are_matched_and_agree_fully():
    """On a question that everybody answers alike both differ from it alone: by +1, -1 and by -1, +1."""
    one = torch.tensor([[5.0, 5.0], [1.0, -1.0]])
    found = match(one, one.flip(1) * 3, EVEN, EVEN)
    assert found.partner.tolist() == [1, 0]
    assert found.agreement.tolist() == [1, 1]


def test_what_everybody_likes_makes_no_agreement():
    """Less the means, one fit differs on question 2 alone, the other on question 3 alone: nothing in common."""
    one = torch.tensor([[9.0, 9.0], [1.0, -1.0], [0.0, 0.0]])
    other = torch.tensor([[9.0, 9.0], [0.0, 0.0], [1.0, -1.0]])
    assert match(one, other, EVEN, EVEN).agreement.tolist() == [0, 0]


def test_a_prototype_that_nobody_uses_moves_no_other():
    one = torch.tensor([[1.0, -1.0, 50.0], [0.0, 0.0, 7.0]])
    other = torch.tensor([[1.0, -1.0, -30.0], [0.0, 0.0, 1.0]])
    shares = torch.tensor([0.5, 0.5, 0.0])
    assert match(one, other, shares, shares).agreement[:2].tolist() == [1, 1]


def test_the_adjusted_rand_index_of_a_division_by_hand():
    """Groups of 2 and 2 against 3 and 1: both 1 pair, by chance 2 * 3 / 6 = 1, at most 2.5: (1-1)/1.5."""
    assert adjusted_rand(np.array(list("aabb")), np.array([0, 0, 0, 1])) == 0
    assert adjusted_rand(np.array(list("aabb")), np.array([7, 7, 3, 3])) == 1
    assert adjusted_rand(np.zeros(4), np.zeros(4)) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_the_adjusted_rand_index_is_scikit_learns(pairs):
    one, other = np.array(pairs).T
    assert adjusted_rand(one, other) == pytest.approx(adjusted_rand_score(one, other))


def test_a_prototype_is_dead_that_is_nobodys_nearest_or_has_hardly_any_weight():
    """The third is nobody's nearest; with 40 users the second's one user holds 0.025 + ... of 1 / 30."""
    weights = torch.tensor([[0.6, 0.0, 0.4]] * 39 + [[0.0, 1.0, 0.0]])
    assert dead(weights).tolist() == [False, True, True]
    assert dead(torch.eye(3)).tolist() == [False, False, False]


def answers(first, n):
    """n answers to a question that the two prototypes see with margins 1 and 0, and their mirror image."""
    return torch.tensor([first, [-x for x in first]]).repeat(n, 1)


def test_who_is_described_by_a_mix_is_inside_and_who_wants_more_than_any_is_outside():
    """Prototype margins 1 and 0; the wider simplex reaches 1.5, where 40 answers gain 40 log(s(1.5)/s(1)) = 4.4.

    The answers of the second user, half of either side, are likeliest at 0, which both simplices hold.
    """
    strong, undecided = torch.tensor([[1.0, 0.0]] * 40), answers([1.0, 0.0], 20)
    user = torch.tensor([0] * 40 + [1] * 40)
    found = outside(torch.cat([strong, undecided]), user, n_users=3)
    assert found.tolist() == [True, False, False]
    gain = 40 * (torch.tensor(1.5).sigmoid().log() - torch.tensor(1.0).sigmoid().log())
    assert 3.0 < float(gain) < 4.5  # log 20 is 3.0


def test_one_prototype_has_no_outside():
    assert outside(torch.ones(2, 1), torch.tensor([0, 1]), n_users=2).tolist() == [False, False]


def simulated(groups, seed, users=60, pairs=40, dim=4):
    """Users who prefer what lies nearer to their group's point; items and points are drawn."""
    rng = torch.Generator().manual_seed(seed)
    ideal = 2 * torch.eye(dim)[torch.arange(users) % groups]
    items = torch.randn(2 * users * pairs, dim, generator=rng)
    user = torch.arange(users).repeat_interleave(pairs)
    distance = (items - ideal[user].repeat_interleave(2, 0)).square().sum(1).view(-1, 2)
    first = distance[:, 0] < distance[:, 1]
    rows = torch.arange(2 * users * pairs).view(-1, 2)
    chosen = torch.where(first, rows[:, 0], rows[:, 1])
    rejected = torch.where(first, rows[:, 1], rows[:, 0])
    comparisons = Comparisons.from_pairs(user=user, prompt=None, chosen=chosen, rejected=rejected)
    return Embeddings(torch.zeros(0, 0), items), comparisons, (torch.arange(users) % groups).numpy()


def refitted(groups, objective):
    """Two fits of K = 3 from other seeds: agreement weighted by share, Rand indices, dead prototypes."""
    embeddings, train, true = simulated(groups, 0)
    options = {"objective": objective, "epochs": 100, "batch_size": 3000}
    head, config = preset("ours", "A", head={"K": 3, "latent": 4}, fit=options)
    fits = [fit(embeddings, train, n_users=60, head=head, config=config, seed=seed) for seed in (0, 1)]
    at = [
        f.head.prototype_margins(f.head.question_features(embeddings, train.questions)).detach() for f in fits
    ]
    shares = [f.states.mean(0) for f in fits]
    nearest = [f.states.argmax(1).numpy() for f in fits]
    agreement = float(match(*at, *shares).agreement @ shares[0].double())
    return agreement, adjusted_rand(*nearest), adjusted_rand(nearest[0], true), dead(fits[0].states)


def test_well_separated_groups_come_out_the_same_from_another_seed():
    agreement, again, true, unused = refitted(3, "mixture")
    assert agreement > 0.9
    assert again > 0.95
    assert true > 0.95
    assert not unused.any()


def test_prototypes_of_people_who_are_all_alike_do_not():
    agreement, again, _, _ = refitted(1, "pal")
    assert agreement < 0.8
    assert again < 0.5


def test_where_users_are_classes_people_who_are_all_alike_leave_prototypes_dead():
    assert refitted(1, "mixture")[3].any()
