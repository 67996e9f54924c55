"""Descriptions in words: log-odds by hand, likes against the average, directions, and the six Persona interests."""

import math

import numpy as np
import pytest
import torch

from pal.errors import PalError
from pal.evaluation.describe import (
    chances,
    describe,
    feature_contrasts,
    main_directions,
    without_opening,
    word_contrasts,
)
from pal.users.gaussian import Gaussian


def test_the_log_odds_of_a_word_with_their_prior():
    """A word of 8 of 10 liked texts and none of 10 others; its prior share is 8.5 / 21, worth 10 texts.

    Odds (8 + 4.0476) / (2 + 5.9524) and 4.0476 / (10 + 5.9524): ln 1.51497 - ln 0.253731 = 1.78691, with the
    error sqrt(1/12.0476 + 1/7.9524 + 1/4.0476 + 1/15.9524) = 0.71988; one word, so 1.95996 of these.
    """
    words = [{"sea"}] * 8 + [set()] * 12
    (sea,) = word_contrasts(words, np.arange(20) < 10)
    assert sea == (
        "sea",
        pytest.approx(1.7869, abs=1e-3),
        pytest.approx(0.376, abs=2e-3),
        pytest.approx(3.198, abs=2e-3),
    )


def test_words_that_come_by_chance_are_not_told():
    draw = np.random.default_rng(0)
    told = 0
    for _ in range(40):
        words = [{f"w{w}" for w in np.flatnonzero(draw.random(50) < 0.2)} for _ in range(200)]
        told += bool(word_contrasts(words, draw.random(200) < 0.3))
    assert told <= 4  # about one in forty, as told from one side


def test_longer_answers_that_are_liked_are_said_to_be_longer():
    texts = ["word " * n for n in range(1, 41)]
    found = feature_contrasts(texts, np.arange(40.0), np.repeat(np.arange(20), 2))
    assert (
        found == []
    )  # within each prompt the longer is no more liked than elsewhere: all differ by one word
    (longer,) = feature_contrasts(texts, np.arange(40.0), np.zeros(40, int))
    assert longer[:2] == ("longer", 1.0)
    assert 0.99 < longer.low <= longer.high <= 1


def test_chances_against_the_others_of_a_prompt():
    """Rewards 0, ln 3 and 0 of one prompt, and one alone: sigmoid(ln 3) = 3/4."""
    rewards = torch.tensor([[0.0], [math.log(3)], [5.0], [0.0]])
    found = chances(rewards, torch.tensor([0, 0, 1, 0]))
    assert found[:, 0].tolist() == pytest.approx([(0.25 + 0.5) / 2, 0.75, 0.0, (0.25 + 0.5) / 2])


def test_a_gaussian_populations_first_direction_is_that_of_rewards_and_not_of_numbers():
    """Rewards vary by 2 x 1 along the first number of the state, and by 2 x 100 / 4 along the second."""
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 10.0], [0.0, -10.0]])
    population = Gaussian(torch.zeros(2), torch.diag(torch.tensor([1.0, 0.25])), torch.zeros(1))
    along, share = main_directions(
        population, lambda states: features @ states.T, torch.zeros(4, dtype=torch.long)
    )
    assert torch.allclose(along.abs(), torch.tensor([[0.0, 0.5], [1.0, 0.0]]), atol=1e-6)
    assert share.tolist() == pytest.approx([50 / 52, 2 / 52])


def test_one_person_or_prototypes_of_a_model_and_the_refusal_of_single_responses(worded):
    prompts = [f"prompt {n // 3}" for n in range(30)]
    responses = [f"{word} {n}" for n, word in enumerate(["sea", "sun", "sand"] * 10)]
    assert [each.name for each in describe(worded, responses, prompts)] == [
        f"prototype {k}" for k in (1, 2, 3)
    ]
    (person,) = describe(worded, responses, prompts, user="user 3", number=2)
    assert (person.name, person.share, len(person.likes)) == ("user 3", None, 2)
    assert person.likes[0].above >= person.likes[1].above > 0 > person.dislikes[0].above
    with pytest.raises(PalError, match="some prompt must have two responses or more"):
        describe(worded, responses[:2], ["a", "b"])


def test_a_shared_opening_is_left_out_of_prompts():
    assert without_opening(["Say yes?\none", "Say yes?\ntwo"]) == ["one", "two"]
    assert without_opening(["alone", "alone"]) == ["alone", "alone"]
