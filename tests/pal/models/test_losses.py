import math

import torch

from pal.models.losses import expected_loss, hinge, logistic, smooth_hinge, weighted_mean


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


def test_weighted_mean_counts_a_weight_of_two_twice():
    """(1 + 4 + 4) / 3 = 3; without weights (1 + 4) / 2 = 2.5."""
    losses = torch.tensor([1.0, 4.0])
    assert weighted_mean(losses, torch.tensor([1.0, 2.0])).item() == 3.0
    assert weighted_mean(losses, None).item() == 2.5
