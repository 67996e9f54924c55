"""What to ask next, by hand: bits of the answer less bits of noise."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pal.comparisons import Embeddings, Questions
from pal.errors import PalError
from pal.models.losses import preference_probability
from pal.users.question_choice import (
    answer_probabilities,
    choose_together,
    expected_information,
    interview,
    rank_questions,
)

HALF = torch.tensor([0.5, 0.5], dtype=torch.float64)


def table(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_information_by_hand():
    """A certain answer that differs tells 1 bit; the same coin tells none; 3/4 against 1/4 tells
    1 - H(1/4) = 1 - 0.811278; 1 against 1/2 tells H(3/4) - 1/2 = 0.311278."""
    found = expected_information(table([1, 0], [0.5, 0.5], [0.75, 0.25], [1, 0.5], [1, 1]), HALF)
    torch.testing.assert_close(found, table([1, 0, 0.1887219, 0.3112781, 0])[0], atol=1e-7, rtol=0)


def test_a_sequence_asks_for_what_is_not_known_yet():
    """Four points: two questions halve them crosswise, one repeats the first; alone all tell a bit."""
    chance = table([1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0])
    belief = torch.full((4,), 0.25, dtype=torch.float64)
    assert [one.index for one in rank_questions(chance, belief)] == [0, 1, 2]
    asked = choose_together(chance, belief, 3)
    assert [one.index for one in asked] == [0, 2, 1]
    assert [one.bits for one in asked] == pytest.approx([1, 1, 0])


def test_a_noisy_question_asked_again_tells_less_and_less():
    """p = 3/4 or 1/4: together two answers have the chances 5/16 and 3/16, twice each, of entropy 1.954434;
    less 2 x 0.811278 of noise and the 0.188722 of the first."""
    asked = choose_together(table([0.75, 0.25], [0.75, 0.25]), HALF, 2)
    assert [one.bits for one in asked] == pytest.approx([0.1887219, 0.1431561], abs=1e-6)


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=6))
def test_what_a_sequence_tells_is_never_negative_nor_more_than_each_alone(rows):
    chance = table(*rows)
    belief = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    alone = expected_information(chance, belief)
    asked = choose_together(chance, belief, 10)
    assert sorted(one.index for one in asked) == list(range(len(rows)))
    for one in asked:
        assert 0 <= one.bits <= float(alone[one.index]) + 1e-9


def test_chances_by_hand(line, monkeypatch):
    """On the line, 0 over 1: margins +1 at `zero` and -1 at `one`; block by block the same."""
    embeddings = Embeddings(torch.zeros(1, 0), torch.tensor([[0.0], [1.0]]))
    rows = torch.tensor([0, 1, 0])
    questions = Questions(torch.full((3,), -1), rows, 1 - rows)
    p = 1 / (1 + torch.tensor(-1.0).double().exp())
    found = answer_probabilities(line.head, line.population.points, embeddings, questions)
    expected = torch.stack([torch.stack([p, 1 - p]), torch.stack([1 - p, p]), torch.stack([p, 1 - p])])
    torch.testing.assert_close(found, expected)
    monkeypatch.setattr("pal.users.question_choice.BLOCK", 2)
    assert torch.equal(answer_probabilities(line.head, line.population.points, embeddings, questions), found)


def test_the_hinge_loss_gives_chances_too():
    """Margin 0.5: losses 0.5 and 1.5, odds e^1; beyond 1 the loser's loss alone grows."""
    found = preference_probability(torch.tensor([0.0, 0.5, 3.0]), "hinge")
    torch.testing.assert_close(found, torch.sigmoid(torch.tensor([0.0, 1.0, 4.0])))
    torch.testing.assert_close(preference_probability(torch.tensor(0.5)), torch.sigmoid(torch.tensor(0.5)))


@pytest.mark.parametrize("n", [0, 11])
def test_a_sequence_has_its_limits(n):
    with pytest.raises(PalError, match=f"n must be 1 to 10 for questions asked together, got {n}"):
        choose_together(table([1, 0]), HALF, n)


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


def test_the_first_question_is_the_one_that_tells_most_alone():
    best = rank_questions(CHANCE.double(), MASS.double())[0].index
    assert interviewed([0, 1], 1).questions.tolist() == [[best, best]]


def test_two_good_questions_tell_four_types_apart():
    """Both asked, the right type holds 0.9 * 0.9 = 0.81 of belief; the useless question comes last."""
    found = interviewed([0, 1, 2, 3], 3)
    assert found.questions[2].tolist() == [2] * 4
    belief = torch.softmax(MASS.log() + found.likelihood[1], 1)
    assert torch.allclose(belief.diagonal(), torch.tensor(0.81))


def test_what_may_not_be_asked_is_not_asked_and_nothing_is_asked_twice():
    allowed = torch.tensor([[False, True, True], [True, True, True]])
    found = interviewed([0, 0], 3, allowed)
    assert found.questions[:, 0].tolist() == [1, 2, -1]
    assert sorted(found.questions[:, 1].tolist()) == [0, 1, 2]
    assert torch.equal(found.likelihood[1, 0], found.likelihood[2, 0])
