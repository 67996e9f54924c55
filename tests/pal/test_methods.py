"""Methods by name, and what cross-validation makes of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pal.comparisons import Embeddings
from pal.config import registered
from pal.methods import METHODS
from pal.methods.auto import Tried, decide, explain, folds, learn_auto, race
from pal.methods.base import Task
from pal.methods.mixed_effects import likeliest_scale
from tests.pal.conftest import duels


def people(users=40, answers=40, spread=0.0, careless=0) -> Task:
    """Answers on 120 items of people who share a direction, and differ from it by `spread`; some at random."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 4, generator=generator)
    w = torch.tensor([1.0, 0, 0, 0]) + spread * torch.randn(users, 4, generator=generator)
    w[:careless] = 0
    user = torch.arange(users).repeat_interleave(answers)
    return Task(Embeddings(torch.zeros(0, 0), x), duels(1.5 * w @ x.T, user, generator), users, K=2)


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch):
    """Each candidate of auto takes seconds to cross-validate, most of all those with prototypes."""
    monkeypatch.setattr("pal.methods.auto.CANDIDATES", ("bt", "mixed_effects"))


def test_people_who_are_alike_get_one_reward_and_others_their_own():
    alike = learn_auto(people())
    assert "auto: bt, since no personal method" in alike.said[-1]
    assert float(alike.population.covariance.abs().max()) == 0
    assert "auto: bt, since no personal method" in learn_auto(people(careless=16)).said[-1]
    different = learn_auto(people(spread=1.0))
    assert "auto: mixed_effects, since it beats one reward for everyone significantly" in different.said[-1]


def test_too_few_people_get_one_reward_and_are_told_so():
    (said,) = learn_auto(people(users=5, spread=1.0)).said
    assert said.startswith("auto: bt, since there are fewer than 10 people")


def test_the_decision_by_hand():
    """Losses of four people. b gains 0.1 +- 0; c gains 0.12 but no more than b within its error; d is noise."""
    shared = np.full(4, 0.7)

    def tried(name, loss):
        return Tried(name, np.array(loss)[None], {}, personal=name[:2] != "bt")

    bt, b = tried("bt", shared), tried("b", shared - 0.1)
    c = tried("c", shared - [0.0, 0.1, 0.2, 0.18])
    d = tried("d", shared - [1.0, -1.0, 1.0, -0.9])
    assert decide([bt, b, c, d]) == "b"
    assert decide([bt, tried("b", shared - 0.01), c]) == "c"
    assert decide([bt, d]) == "bt"
    # What b gains by what it says of everyone is nothing personal.
    assert decide([bt, replace(b, alike=b.loss + np.array([0.1, -0.1, 0.1, 0.0]))]) == "bt"
    assert decide([bt, replace(b, alike=b.loss + 0.01)]) == "b"
    # Nor is what one reward gains where some answer at random.
    assert decide([replace(bt, alike=b.loss), b]) == "bt"
    # One reward that reads more is what a personal one has to beat.
    assert decide([bt, tried("bt_prompts", shared - 0.1), b]) == "bt_prompts"


def test_a_candidate_far_behind_is_given_up_and_never_taken(monkeypatch):
    """Popularity knows of each item how much everyone likes it, where people differ in what they like."""
    task = people(spread=1.0)
    shared, own, alone = race(["bt", "mixed_effects", "popularity"], task)
    assert (shared.folds, own.folds) == (5, 5)
    assert alone.folds < 5
    assert decide([shared, alone]) == "bt"
    assert f"given up after {alone.folds} of 5 folds," in explain([shared, alone], "bt")[1]


def test_folds_hold_apart_people_items_and_a_persons_own_responses():
    task = people()
    q = task.train.questions

    def sides(pairs):
        return torch.stack([q.first, q.second], 1)[pairs.question]

    def cells(pairs):
        return {
            (u, i) for u, pair in zip(pairs.user.tolist(), sides(pairs).tolist(), strict=True) for i in pair
        }

    *of_people, first, second = folds(task)
    tested: list[tuple[str, int]] = []
    for fold in of_people:
        (_, _, known), *strangers = fold.tests
        assert len(fold.learn) > 0.7 * len(task.train)  # everyone else's answers stay
        # What a person compared is on one side alone.
        assert not cells(fold.learn) & cells(known)
        for _, located, pairs in strangers:
            assert not cells(located) & cells(pairs)
            assert not set(fold.learn.user.tolist()) & set(pairs.user.tolist())
        assert min(len(pairs) for _, _, pairs in fold.tests) > 0
        tested += {(regime, user) for regime, _, pairs in fold.tests for user in pairs.user.tolist()}
    assert len(tested) == len(set(tested)) == len({user for _, user in tested})  # each person once
    for fold in (first, second):
        ((_, _, new),) = fold.tests
        assert len(new)
        assert not set(sides(fold.learn).flatten().tolist()) & set(sides(new).flatten().tolist())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_and_says_what_it_is(name):
    method, task = registered(METHODS, name), people(users=12, answers=10)
    learned = method.learn(task)
    belief = learned.posterior(task.embeddings, task.train, task.n_users)
    chance = learned.probability(task.embeddings, task.train, belief)
    assert bool(((chance >= 0) & (chance <= 1)).all())
    assert (chance > 0.5).double().mean() > 0.45
    assert method.title
    assert method.source


def test_a_population_that_is_too_wide_is_made_narrower_by_validation_answers():
    """Half of the answers are for validation; a mean divided by 1.4 and variances doubled are found out."""
    task = people(answers=60, spread=1.0)
    rows = torch.arange(len(task.train))
    halves = [task.train[rows[rows % 2 == side]] for side in (0, 1)]
    learned = registered(METHODS, "mixed_effects").learn(replace(task, train=halves[0]))
    assert learned.scale == (1.0, 1.0)  # without validation answers nothing is known of it
    known = replace(task, train=halves[0], val=halves[1])
    mean, variance = likeliest_scale(learned.rescaled((1 / 1.4, 2.0)), known)
    assert mean >= 1.2
    assert variance < 1
    calibrated = registered(METHODS, "mixed_effects").learn(known)
    assert torch.allclose(calibrated.population.centre, calibrated.scale[0] * learned.population.centre)
