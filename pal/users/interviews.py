"""Interviews: many people asked at once, each question chosen in the light of the answers before it.

`ask` chooses for one person whose answers are not there yet. Here they are, so that one can see how far
chosen questions lead: each next question is the one whose answer is expected to tell most about where this
person stands (Houlsby et al. 2011), under the belief that the answers so far leave.

Shapes used in this module:
    users   people asked
    q       questions that each may be asked
    points  points of the prior
    rounds  questions asked of each, one after another
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pal.users.ask import bits_of


class Interviews(NamedTuple):
    """What was asked, and what the answers say.

    Args:
        asked: The questions' numbers in the order asked; -1 where none was left to ask.
        likelihood: After each round, the summed log-likelihoods of the answers so far at each point.
    """

    asked: Int[Tensor, "rounds users"]
    likelihood: Float[Tensor, "rounds users points"]


def interview(
    chance: Float[Tensor, "users q points"],
    answers: Float[Tensor, "users q points"],
    allowed: Bool[Tensor, "users q"],
    mass: Float[Tensor, " points"],
    rounds: int,
) -> Interviews:
    """Ask everyone up to `rounds` questions, each the one that is expected to tell most; ties as they come.

    Args:
        chance: P(first is preferred) of each question for someone at each point.
        answers: Log-likelihood at each point of the answer that this person gives.
        allowed: Which questions may be asked of whom.
        mass: Share of people at each point; sums to 1.
        rounds: Questions to ask of each.
    """
    noise, log_mass = bits_of(chance), mass.log()
    people, left = torch.arange(len(chance)), allowed.clone()
    total = answers.new_zeros(len(chance), chance.shape[2])
    asked, likelihood = [], []
    for _ in range(rounds):
        belief = torch.softmax(log_mass + total, 1)[:, :, None]
        bits = bits_of((chance @ belief)[..., 0].clamp(0, 1)) - (noise @ belief)[..., 0]
        best = bits.masked_fill(~left, -torch.inf).argmax(1)
        some = left.any(1)
        total = total + answers[people, best] * some[:, None]
        left[people, best] = False
        asked.append(torch.where(some, best, -1))
        likelihood.append(total)
    return Interviews(torch.stack(asked), torch.stack(likelihood))
