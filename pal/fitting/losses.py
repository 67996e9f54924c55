"""Pairwise losses: how bad is a margin, the chosen response's reward less the rejected one's.

Shapes used in this module:
    ...     any shape; margins and labels alike
    n       comparisons
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor], Tensor]


def logistic(margin: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Negative log-likelihood under Bradley-Terry: -log sigmoid(margin) (PAL, eq. 1 with h the sigmoid).

    Args:
        margin: Reward of the chosen response less that of the rejected one, for one user.

    Returns:
        Losses in nats, never negative; log 2 at margin 0.
    """
    return functional.softplus(-margin)


def hinge(margin: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Linear below a margin of one, nothing above: max(0, 1 - margin).

    Args:
        margin: Reward of the chosen response less that of the rejected one, for one user.

    Returns:
        Losses, never negative; 1 at margin 0.
    """
    return torch.relu(1 - margin)


def smooth_hinge(margin: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The hinge with its corner rounded to a parabola between margins 0 and 1 (Rennie and Srebro, 2005).

    1/2 - margin below 0, (1 - margin)^2 / 2 up to 1, nothing above: its gradient is continuous.

    Args:
        margin: Reward of the chosen response less that of the rejected one, for one user.

    Returns:
        Losses, never negative; 1/2 at margin 0.
    """
    return torch.relu(-margin) + 0.5 * (1 - margin.clamp(0, 1)).square()


LOSSES: dict[str, Loss] = {"logistic": logistic, "hinge": hinge, "smooth_hinge": smooth_hinge}


def expected_loss(
    loss: Loss, margin: Float[Tensor, "*n"], label: Float[Tensor, "*#n"] | None
) -> Float[Tensor, "*n"]:
    """Average a loss over who was in truth preferred.

    Args:
        loss: A member of `LOSSES`.
        margin: Margins in favour of the chosen response.
        label: P(chosen is preferred), in [0, 1]; 0.5 is a tie. None stands for all ones. Broadcasts.

    Returns:
        label * loss(margin) + (1 - label) * loss(-margin).
    """
    if label is None:
        return loss(margin)
    return label * loss(margin) + (1 - label) * loss(-margin)


def weighted_mean(losses: Float[Tensor, " n"], weight: Float[Tensor, " n"] | None) -> Float[Tensor, ""]:
    """Mean loss in which a weight of 2 counts as the same comparison twice.

    Args:
        losses: One per comparison.
        weight: Above 0; None stands for all ones.
    """
    return losses.mean() if weight is None else (weight * losses).sum() / weight.sum()
