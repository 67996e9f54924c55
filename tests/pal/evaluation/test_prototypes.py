"""Agreement of prototypes, dead ones, users outside the hull, and plurality, on margins made by hand."""

import numpy as np
import pytest
import torch

from benchmarks import validity
from pal.comparisons import Comparisons, Embeddings
from pal.errors import PalError
from pal.evaluation.prototypes import (
    alike_questions,
    dead_prototypes,
    match_prototypes,
    one_state_for_all,
    outside_hull,
    plurality_test,
    shuffle_test,
)
from tests.pal.conftest import line_head

EVEN = torch.full((2,), 0.5)


def test_prototypes_that_only_changed_places_agree_fully_and_what_everybody_likes_is_no_agreement():
    """On a question that everybody answers alike both differ from it alone: by +1, -1 and by -1, +1. Less the
    means, the last two fits differ on question 2 or 3 alone: nothing in common."""
    one = torch.tensor([[5.0, 5.0], [1.0, -1.0]])
    found = match_prototypes(one, one.flip(1) * 3, EVEN, EVEN)
    assert found.partner.tolist() == [1, 0]
    assert found.agreement.tolist() == [1, 1]
    one = torch.tensor([[9.0, 9.0], [1.0, -1.0], [0.0, 0.0]])
    assert match_prototypes(one, one[[0, 2, 1]], EVEN, EVEN).agreement.tolist() == [0, 0]


def test_a_prototype_is_dead_that_is_nobodys_nearest_or_has_hardly_any_weight():
    """The third is nobody's nearest; with 40 users the second's one user holds 0.025 + ... of 1 / 30."""
    weights = torch.tensor([[0.6, 0.0, 0.4]] * 39 + [[0.0, 1.0, 0.0]])
    assert dead_prototypes(weights).tolist() == [False, True, True]
    assert dead_prototypes(torch.eye(3)).tolist() == [False, False, False]


def mirrored(first, n):
    """n answers to a question that the two prototypes see with margins 1 and 0, and their mirror image."""
    return torch.tensor([first, [-x for x in first]]).repeat(n, 1)


def test_who_is_described_by_a_mix_is_inside_and_who_wants_more_than_any_is_outside_hull():
    """Prototype margins 1 and 0; the wider simplex reaches 1.5, where 40 answers gain 40 log(s(1.5)/s(1)) = 4.4.

    The answers of the second user, half of either side, are likeliest at 0, which both simplices hold.
    """
    strong, undecided = torch.tensor([[1.0, 0.0]] * 40), mirrored([1.0, 0.0], 20)
    user = torch.tensor([0] * 40 + [1] * 40)
    found = outside_hull(torch.cat([strong, undecided]), user, n_users=3)
    assert found.tolist() == [True, False, False]
    gain = 40 * (torch.tensor(1.5).sigmoid().log() - torch.tensor(1.0).sigmoid().log())
    assert 3.0 < float(gain) < 4.5  # log 20 is 3.0


EMBEDDINGS = Embeddings(torch.zeros(1, 0), torch.tensor([[0.0], [1.0]]))


def answers(user: list[int], chosen: list[int]) -> Comparisons:
    c = torch.tensor(chosen)
    return Comparisons.from_pairs(user=torch.tensor(user), prompt=None, chosen=c, rejected=1 - c)


def test_one_state_for_all_is_where_the_careful_are_however_many_answers_are_random():
    """The first user takes 0 eight times, the second, in the middle, each side twenty times. At one temperature
    the middle is likeliest: 48 log 2 = 33.3 below 8 log(1 + 1/e) + 20 log((1 + 1/e) (1 + e)) = 35.1 nats."""
    states = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    train = answers([0] * 8 + [1] * 40, [0] * 8 + [0, 1] * 20)
    assert one_state_for_all(line_head(), states, EMBEDDINGS, train).tolist() == [[1.0, 0.0]]
    assert one_state_for_all(line_head(), states[:1].expand(2, -1), EMBEDDINGS, train) is None


@pytest.mark.parametrize("kind", validity.ALIKE)
def test_prototypes_do_not_beat_one_reward_where_all_prefer_alike(kind):
    """A small part of `benchmarks one_reward`."""
    assert not any(validity.beats_one_reward(kind, seed, "60 epochs") for seed in range(2))


def test_care_is_no_preference():
    """Every state is good or useless, users careful or not, and the careful have the good states.

    Margins of user u under state v are care(u) * quality(v): of rank one, so nothing is left to shuffle.
    """
    quality = np.repeat([1.0, 0.2], 10)
    margins = np.where(quality[:, None] > 0.5, 1.0, 0.1) * np.ones((20, 20))
    alike = shuffle_test(
        margins, np.arange(20), np.zeros(20, dtype=int), shuffles=99, rng=np.random.default_rng(0)
    )
    assert alike == 1


def test_users_of_different_topics_are_shuffled_within_them_or_not_at_all():
    """Two topics of four users each, ten questions each; then as many topics as users."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(8), 10)
    noise = rng.normal(size=(80, 3))
    assert len(set(alike_questions(noise, user))) == 1
    strata = alike_questions(noise + 9.0 * (user < 4)[:, None], user)
    assert len(set(strata[:4])) == len(set(strata[4:])) == 1
    assert strata[0] != strata[7]
    assert alike_questions(noise + 9.0 * user[:, None], user) is None


@pytest.mark.parametrize("null", ["easy items for half", "a topic each, linear rewards", "10 users"])
def test_plurality_keeps_its_level_where_all_prefer_alike(null):
    """Of 40 data sets at most 6 at a level of 5 %, which more come to in one of 70; the benchmark has them all."""
    assert sum(validity.cheap_p_value(null, seed) <= 0.05 for seed in range(40)) <= 6


@pytest.mark.parametrize("truth", validity.PLURAL)
def test_plurality_is_found_where_it_is(truth):
    assert sum(validity.cheap_p_value(truth, seed) <= 0.05 for seed in range(10)) >= 4


def test_nothing_held_out_is_refused():
    with pytest.raises(PalError, match="held_out must hold at least one comparison, got none"):
        plurality_test(
            line_head(), torch.eye(2), EMBEDDINGS, answers([0], [0])[torch.tensor([], dtype=torch.long)]
        )
