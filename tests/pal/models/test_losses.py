import math

import pytest
import torch

from pal.comparisons import Comparisons
from pal.models.base import expected_answer, expected_loss, hinge, logistic, mean_loss, smooth_hinge


def test_logistic_is_the_negative_log_likelihood():
    """sigmoid(0) = 1/2, and sigmoid(log 3) = 3 / (3 + 1), so the losses are log 2 and log 4/3."""
    losses = logistic(torch.tensor([0.0, math.log(3)]))
    torch.testing.assert_close(losses, torch.tensor([math.log(2), math.log(4 / 3)]))


def test_hinge_is_zero_from_a_margin_of_one():
    """max(0, 1 - m): 3 at -2, 1 at 0, 0.5 at 0.5, 0 from 1."""
    assert hinge(torch.tensor([-2.0, 0.0, 0.5, 1.0, 4.0])).tolist() == [3.0, 1.0, 0.5, 0.0, 0.0]


def test_smooth_hinge_is_a_parabola_between_two_lines():
    """1/2 - m below 0: 2.5 at -2; (1 - m)^2 / 2: 0.5 at 0, 0.125 at 0.5; 0 from 1."""
    assert smooth_hinge(torch.tensor([-2.0, 0.0, 0.5, 1.0, 4.0])).tolist() == [2.5, 0.5, 0.125, 0.0, 0.0]


def test_expected_loss_averages_over_the_label():
    """Hinge at 2 is 0, at -2 is 3: a quarter wrong costs 0.75 * 0 + 0.25 * 3 = 0.75."""
    loss = expected_loss(hinge, torch.tensor([2.0]), torch.tensor([0.75]))
    assert loss.tolist() == [0.75]


def test_a_weight_of_two_counts_twice_in_the_mean():
    """Hinge losses of 1 and 4: (1 + 4 + 4) / 3 = 3; without weights (1 + 4) / 2 = 2.5."""
    margins, rows = torch.tensor([0.0, -3.0]), torch.arange(2)
    for weight, mean in ((torch.tensor([1.0, 2.0]), 3.0), (None, 2.5)):
        pairs = Comparisons.from_pairs(user=rows, prompt=None, chosen=rows, rejected=1 - rows, weight=weight)
        assert mean_loss(margins, pairs, "hinge").item() == mean


def test_answers_with_ties_by_hand():
    """Chances as 1, 2, 1 at a margin of 0, and as 3, 1, 1/3 at log 9: 9/13, 3/13, 1/13, of the decided 9/10."""
    even = expected_answer(torch.zeros(1), ties=2.0)
    assert [x.item() for x in even] == pytest.approx([0.5, 0.125, 0.5])
    told = expected_answer(torch.tensor([math.log(9)]), ties=1.0)
    mean = 10.5 / 13
    assert [x.item() for x in told] == pytest.approx([mean, 9 / 13 + 0.75 / 13 - mean**2, 3 / 13])
    assert (told.label - told.tie / 2).item() / (1 - told.tie.item()) == pytest.approx(0.9)
    assert expected_answer(torch.tensor([math.log(9)])).label.item() == pytest.approx(0.9)
