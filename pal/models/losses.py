"""Pairwise losses of a margin: logistic (Bradley-Terry), hinge and smooth hinge.

A margin is the reward of one response less that of the other, for one user and one prompt.

Shapes used in this module:
    ...     any shape; margins and labels alike
    n       comparisons
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor], Tensor]


def logistic(margin: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Negative log-likelihood under Bradley-Terry in nats: -log sigmoid(margin) (PAL, eq. 1)."""
    return functional.softplus(-margin)


def hinge(margin: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Linear below a margin of one, zero above: max(0, 1 - margin)."""
    return torch.relu(1 - margin)


def smooth_hinge(margin: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The hinge with its corner rounded to a parabola between margins 0 and 1 (Rennie and Srebro, 2005).

    1/2 - margin below 0, (1 - margin)^2 / 2 up to 1, zero above: its gradient is continuous.
    """
    return torch.relu(-margin) + 0.5 * (1 - margin.clamp(0, 1)).square()


LOSSES: dict[str, Loss] = {"logistic": logistic, "hinge": hinge, "smooth_hinge": smooth_hinge}


def expected_loss(
    loss: Loss, margin: Float[Tensor, "*n"], label: Float[Tensor, "*#n"] | None
) -> Float[Tensor, "*n"]:
    """Expectation of a loss over which response is preferred: label * loss(m) + (1 - label) * loss(-m).

    Args:
        loss: A member of `LOSSES`.
        margin: Margins in favour of the chosen response.
        label: P(chosen is preferred), in [0, 1]; 0.5 is a tie. None stands for all ones. Broadcasts.
    """
    if label is None:
        return loss(margin)
    return label * loss(margin) + (1 - label) * loss(-margin)


def weighted_mean(losses: Float[Tensor, " n"], weight: Float[Tensor, " n"] | None) -> Float[Tensor, ""]:
    """Mean loss in which a weight of 2 counts as the same comparison twice; None stands for all ones."""
    return losses.mean() if weight is None else (weight * losses).sum() / weight.sum()


def preference_probability(margin: Float[Tensor, "*n"], loss: str = "logistic") -> Float[Tensor, "*n"]:
    """P(first is preferred) of a margin: the sigmoid, for a model fitted with the logistic loss.

    Args:
        margin: Reward of the first response less that of the second.
        loss: The loss of the fit; minus a hinge loss serves as a pseudo-log-likelihood.
    """
    cost = LOSSES[loss]
    return torch.sigmoid(cost(-margin) - cost(margin))


class Expected(NamedTuple):
    """What an answer is expected to be: 1 the first is preferred, 0.5 a tie, 0 the second.

    Args:
        label: Its mean.
        variance: Its variance.
        tie: Chance of a tie.
    """

    label: Float[Tensor, "*n"]
    variance: Float[Tensor, "*n"]
    tie: Float[Tensor, "*n"] | float


def expected_answer(margin: Float[Tensor, "*n"], ties: float = 0.0) -> Expected:
    """Bradley-Terry with ties (Davidson, 1970): chances go as exp(margin / 2), `ties` and exp(-margin / 2).

    An answer's label less the mean is the gradient of its log-likelihood, and minus the variance its second
    derivative. Among answers that are no ties the chance of the first is the sigmoid, whatever `ties` is.

    Args:
        margin: Reward of the first response less that of the second.
        ties: 0 where there are none; of two responses alike a share of ties / (2 + ties) is tied.
    """
    if not ties:
        first = torch.sigmoid(margin)
        return Expected(first, first * (1 - first), 0.0)
    half = margin / 2
    logits = torch.stack([half, torch.full_like(half, math.log(ties)), -half])
    first, tie, _ = torch.softmax(logits, 0)
    mean = first + tie / 2
    return Expected(mean, first + tie / 4 - mean.square(), tie)
