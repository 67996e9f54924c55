"""What to ask next, by hand: bits of the answer less bits of noise."""

import pytest
import torch

from pal.users.question_choice import choose_together, interview, rank_questions

HALF = torch.tensor([0.5, 0.5], dtype=torch.float64)


def table(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_information_by_hand():
    """A certain answer that differs tells 1 bit; the same coin tells none; 3/4 against 1/4 tells
    1 - H(1/4) = 1 - 0.811278; 1 against 1/2 tells H(3/4) - 1/2 = 0.311278."""
    ranked = rank_questions(table([1, 0], [0.5, 0.5], [0.75, 0.25], [1, 0.5], [1, 1]), HALF)
    assert [one.index for one in ranked] == [0, 3, 2, 1, 4]
    assert [one.bits for one in ranked] == pytest.approx([1, 0.3112781, 0.1887219, 0, 0], abs=1e-7)


def test_a_sequence_asks_for_what_is_not_known_yet():
    """Four points: two questions halve them crosswise, one repeats the first; alone all tell a bit."""
    chance = table([1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0])
    belief = torch.full((4,), 0.25, dtype=torch.float64)
    assert [one.index for one in rank_questions(chance, belief)] == [0, 1, 2]
    asked = choose_together(chance, belief, 3)
    assert [one.index for one in asked] == [0, 2, 1]
    assert [one.bits for one in asked] == pytest.approx([1, 1, 0])


# Four people types; question 0 halves them, 1 halves each half, 2 is nearly a coin for everybody.
CHANCE = torch.tensor([[0.9, 0.9, 0.1, 0.1], [0.9, 0.1, 0.9, 0.1], [0.5, 0.5, 0.5, 0.6]])
MASS = torch.full((4,), 0.25)


def interviewed(types, rounds, allowed=None):
    """Everyone answers as their type mostly would."""
    chance = CHANCE.expand(len(types), -1, -1)
    yes = CHANCE[:, types].T > 0.5
    answers = torch.where(yes[:, :, None], chance.log(), (1 - chance).log())
    allowed = torch.ones(len(types), 3, dtype=torch.bool) if allowed is None else allowed
    return interview(chance, answers, allowed, MASS, rounds)


def test_what_may_not_be_asked_is_not_asked_and_nothing_is_asked_twice():
    allowed = torch.tensor([[False, True, True], [True, True, True]])
    found = interviewed([0, 0], 3, allowed)
    assert found.questions[:, 0].tolist() == [1, 2, -1]
    assert sorted(found.questions[:, 1].tolist()) == [0, 1, 2]
    assert torch.equal(found.likelihood[1, 0], found.likelihood[2, 0])
