"""Cross-validation of the number of prototypes."""

import numpy as np
import pytest
import torch

from benchmarks import validity
from pal.comparisons import Comparisons
from pal.config import FitConfig, HeadConfig
from pal.methods.choose_k import (
    PAIR_FOLDS,
    choose_k,
    decide,
    folds_of_sides,
)

HEAD = HeadConfig(model="B", latent=4, hidden_layers=0, bias=False, similarity="inner")
ONE = FitConfig(objective="mixture", grid_points=0, epochs=80, learning_rate=0.1, batch_size=0, restarts=2)


def test_the_smallest_candidate_within_one_standard_error_of_the_best_is_chosen():
    """Eight users, 1,000 comparisons each. K = 3 is best: four have 850 right, four 950, 90 % in the mean.

    Its standard error is sqrt(8 * 25 / 7) / sqrt(8) = 1.89 points, so the 88.2 % of K = 2 are just within; K = 1
    lacks 4 points, each user 3 or 5: an error of sqrt(8 / 7) / sqrt(8) = 0.378, of which 2.365 are allowed.
    """
    best = np.repeat([850.0, 950.0], 4)
    right = {1: best - 10 * np.array([3, 5] * 4), 2: best - 18, 3: best}
    choice = decide(right, np.full(8, 1000))
    assert choice.K == 2
    assert [row.accuracy for row in choice.candidates] == pytest.approx([0.86, 0.882, 0.9])
    assert choice.candidates[2].standard_error == pytest.approx(0.0189, abs=1e-4)
    assert [row.sufficient for row in choice.candidates] == [False, True, True]
    assert (choice.n_users, choice.n_comparisons) == (8, 8000)


def test_few_users_whose_gains_differ_decide_nothing():
    """K = 2 gains 20 points, but in one of three users alone: 60, 0 and 0, an error of 20, of which Student's
    quantile of 2 degrees allows 4.3. One user tells nothing."""
    right = {1: np.array([4.0, 5.0, 5.0]), 2: np.array([10.0, 5.0, 5.0])}
    assert decide(right, np.full(3, 10)).K == 1
    assert decide({1: np.array([0.0]), 2: np.array([9.0])}, np.array([10])).K == 1


def test_people_who_prefer_alike_ask_for_one_prototype():
    assert validity.chosen_k(10, 0) == 1


def test_people_who_answer_at_random_ask_for_no_prototype_of_their_own():
    """K = 1 fitted alone, at one temperature, is clearly beaten here: 2 was chosen, as in 3 of 10 data sets."""
    assert validity.chosen_of("a fifth answers at random", 3) == 1


def test_two_groups_ask_for_two_prototypes(toy):
    choice = choose_k(
        toy.embeddings, toy.train, n_users=20, head=HEAD, config=ONE, candidates=range(1, 5), seed=1
    )
    assert choice.K == 2
    assert choice.n_comparisons == len(toy.train)
    accuracy = {row.K: row.accuracy for row in choice.candidates}
    assert accuracy[1] < 0.7
    assert accuracy[2] > 0.9


def test_without_one_prototype_per_user_candidates_end_two_beyond_the_best_and_repeat_under_a_seed(toy):
    """Grid points between the prototypes: every K is fitted from a new start. K = 5 is never tried.

    Held-out users are located among points, whatever population the model will have.
    """
    config = FitConfig(epochs=3, learning_rate=0.1, batch_size=200, population="gaussian")
    once, again = (
        choose_k(
            toy.embeddings, toy.train, n_users=20, head=HEAD, config=config, candidates=range(1, 6),
        )
        for _ in range(2)
    )  # fmt: skip
    assert once == again
    best = max(range(len(once.candidates)), key=lambda i: once.candidates[i].accuracy)
    assert len(once.candidates) == min(5, best + 3)


def test_no_fold_gives_away_another_by_transitivity():
    """User 0 compared five items in all ways, user 1 two items twice and others once, user 2 new items each."""
    pairs = [(0, a, b) for a in range(5) for b in range(a)]
    pairs += [(1, 0, 1), (1, 1, 0), *((1, n, n + 1) for n in range(10, 22, 2))]
    pairs += [(2, n, n + 1) for n in range(30, 60, 2)]
    user, chosen, rejected = torch.tensor(pairs).T
    comparisons = Comparisons.from_pairs(user=user, prompt=None, chosen=chosen, rejected=rejected)
    first, second = folds_of_sides(comparisons, np.random.default_rng(0))
    for fold in range(PAIR_FOLDS):
        for person in range(3):
            judged = {
                (c, r)
                for (u, c, r), a, b in zip(pairs, first, second, strict=True)
                if u == person and a == b == fold
            }
            located = {
                x
                for (u, *both), a, b in zip(pairs, first, second, strict=True)
                if u == person and fold not in (a, b)
                for x in both
            }
            assert not located & {x for pair in judged for x in pair}
    assert (first == second)[10:].all()  # whole blocks
    counts = np.bincount(first[-15:], minlength=4)
    assert counts.max() - counts.min() <= 1
