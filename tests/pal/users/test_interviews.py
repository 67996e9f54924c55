"""Interviews: each next question is the one whose answer tells most, given the answers before it."""

import torch

from pal.users.question_choice import interview, rank_questions

# Four people types; question 0 halves them, 1 halves each half, 2 is nearly a coin for everybody.
CHANCE = torch.tensor([[0.9, 0.9, 0.1, 0.1], [0.9, 0.1, 0.9, 0.1], [0.5, 0.5, 0.5, 0.6]])
MASS = torch.full((4,), 0.25)


def asked(types, rounds, allowed=None):
    """Everyone answers as their type mostly would."""
    chance = CHANCE.expand(len(types), -1, -1)
    yes = CHANCE[:, types].T > 0.5
    answers = torch.where(yes[:, :, None], chance.log(), (1 - chance).log())
    allowed = torch.ones(len(types), 3, dtype=torch.bool) if allowed is None else allowed
    return interview(chance, answers, allowed, MASS, rounds)


def test_the_first_question_is_the_one_that_tells_most_alone():
    best = rank_questions(CHANCE.double(), MASS.double())[0].index
    assert asked([0, 1], 1).questions.tolist() == [[best, best]]


def test_two_good_questions_tell_four_types_apart():
    """Both asked, the right type holds 0.9 * 0.9 = 0.81 of belief; the useless question comes last."""
    found = asked([0, 1, 2, 3], 3)
    assert found.questions[2].tolist() == [2] * 4
    belief = torch.softmax(MASS.log() + found.likelihood[1], 1)
    assert torch.allclose(belief.diagonal(), torch.tensor(0.81))


def test_what_may_not_be_asked_is_not_asked_and_nothing_is_asked_twice():
    allowed = torch.tensor([[False, True, True], [True, True, True]])
    found = asked([0, 0], 3, allowed)
    assert found.questions[:, 0].tolist() == [1, 2, -1]
    assert sorted(found.questions[:, 1].tolist()) == [0, 1, 2]
    assert torch.equal(found.likelihood[1, 0], found.likelihood[2, 0])
