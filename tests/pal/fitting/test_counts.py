from math import log

import pytest
import torch

from pal.comparisons import Comparisons, Questions
from pal.config import FitConfig
from pal.fitting.mixture import AnswerCounts

USER, QUESTION = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
SIGN = torch.tensor([1.0, -1.0, -1.0, -1.0])


def counts(label=None, weight=None, **how):
    answers = Comparisons(USER, QUESTION, SIGN, label, Questions(*[torch.zeros(2).long()] * 3), weight)
    return AnswerCounts.from_answers(answers, user=USER, question=QUESTION, n_users=3, n_questions=2, **how)


MARGINS = torch.tensor([[0.0, log(3.0)], [log(3.0), 0.0]])  # sigmoid: 1/2 and 3/4


def test_each_answer_adds_its_log_likelihood():
    found = counts().log_likelihoods(MARGINS)
    half, right, wrong = log(1 / 2), log(3 / 4), log(1 / 4)
    expected = [[half + wrong, right + half], [half + wrong, wrong + half], [0.0, 0.0]]
    assert torch.allclose(found, torch.tensor(expected))


def test_labels_share_an_answer_between_sides_and_weights_multiply_it():
    label, weight = torch.tensor([0.5, 1.0, 1.0, 1.0]), torch.tensor([2.0, 1.0, 1.0, 3.0])
    found = counts(label, weight).log_likelihoods(MARGINS)
    half, right, wrong = log(1 / 2), log(3 / 4), log(1 / 4)
    expected = [[2 * half + wrong, right + wrong + half], [half + 3 * wrong, wrong + 3 * half], [0.0, 0.0]]
    assert torch.allclose(found, torch.tensor(expected))


def test_the_gradient_is_that_of_the_written_out_sum():
    answers = counts()
    margins = torch.randn(2, 2, dtype=torch.float32, requires_grad=True)
    (answers.log_likelihoods(margins) * torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])).sum().backward()
    found, margins.grad = margins.grad, None
    at = margins[QUESTION] * SIGN[:, None]
    scale = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[USER]
    (torch.nn.functional.logsigmoid(at) * scale).sum().backward()
    assert torch.allclose(found, margins.grad)


@pytest.mark.parametrize(
    ("schedule", "values"), [("linear", [0.01, 0.505, 1.0, 1.0]), ("geometric", [0.01, 0.1, 1.0, 1.0])]
)
def test_inverse_temperature_rises_by_amounts_or_by_factors(schedule, values):
    config = FitConfig(objective="mixture", anneal=0.4, annealing_schedule=schedule)
    assert [config.inverse_temperature(0.01, done) for done in (0.0, 0.2, 0.4, 0.9)] == pytest.approx(values)


def test_most_steps_become_fewer_epochs_with_as_many_looks():
    config = FitConfig(epochs=300, validate_every=25, max_steps=600)
    assert [config.epochs_and_validation_interval(n) for n in (1, 2, 30, 1000)] == [
        (300, 25),
        (300, 25),
        (20, 2),
        (1, 1),
    ]
