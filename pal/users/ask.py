"""Asking: which question to put next to someone, by how much its answer tells about their place.

A place is one of the prior's points; the posterior over these is what a taste knows. The information that an
answer is expected to bring is the entropy of the answer as we foresee it, less what would remain if we knew
the place: H(mean p) - mean H(p), with p the chance of either answer at each point (Houlsby et al. 2011).

Shapes used in this module:
    q         candidate questions
    points    points of the prior
    outcomes  answers that questions asked so far may have had together: two to their number
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pal.comparisons import Embeddings, Questions
from pal.errors import PalError
from pal.fitting.losses import LOSSES
from pal.models.heads import Head

BLOCK = 1 << 14
MOST_IN_SEQUENCE = 10  # two to this many outcomes are kept
LN2 = 0.6931471805599453


class Asked(NamedTuple):
    """A question that was weighed.

    Args:
        index: Its number among the candidates.
        bits: What its answer is expected to tell, 0 to 1; in a sequence, beside the answers before it.
    """

    index: int
    bits: float


def preferred_first(margin: Float[Tensor, "*n"], loss: str = "logistic") -> Float[Tensor, "*n"]:
    """P(first is preferred) of a margin: the sigmoid, for a head fitted with the logistic loss.

    Args:
        margin: Reward of the first response less that of the second.
        loss: What the head was fitted with; minus a hinge loss serves as a pseudo-log-likelihood.
    """
    cost = LOSSES[loss]
    return torch.sigmoid(cost(-margin) - cost(margin))


def chances(
    head: Head,
    points: Float[Tensor, "points K"],
    embeddings: Embeddings,
    questions: Questions,
    loss: str = "logistic",
) -> Float[Tensor, "q points"]:
    """P(first is preferred) of each question, for someone at each point; float64."""
    parts = [torch.zeros(0, len(points), dtype=torch.float64)]
    with torch.no_grad():
        for start in range(0, len(questions), BLOCK):
            rows = torch.arange(start, min(start + BLOCK, len(questions)))
            margin = head.margins_at(head.read(embeddings, questions[rows]), points)
            parts.append(preferred_first(margin.double(), loss).cpu())
    return torch.cat(parts)


def information(chance: Float[Tensor, "q points"], belief: Float[Tensor, " points"]) -> Float[Tensor, " q"]:
    """Bits that the answer to each question is expected to tell, 0 to 1.

    Args:
        chance: P(first is preferred) at each point.
        belief: Share of belief at each point; sums to 1.
    """
    return (bits_of(chance @ belief) - bits_of(chance) @ belief).clamp(0, 1)


def order(chance: Float[Tensor, "q points"], belief: Float[Tensor, " points"]) -> list[Asked]:
    """Questions by what the answer to each alone would tell, most first; equal ones as they came."""
    bits = information(chance, belief)
    return [Asked(at, float(bits[at])) for at in bits.argsort(descending=True, stable=True).tolist()]


def sequence(chance: Float[Tensor, "q points"], belief: Float[Tensor, " points"], n: int) -> list[Asked]:
    """The questions to ask together, each the one that tells most beside those before it, exactly.

    Two questions that ask the same tell hardly more than one. What the answers of a set tell grows ever less,
    so this greedy choice is within a factor 1 - 1/e of the best set (Nemhauser et al. 1978).

    Args:
        chance: P(first is preferred) at each point.
        belief: Share of belief at each point; sums to 1.
        n: Questions to choose, at most 10; all where there are fewer.

    Raises:
        PalError: If more are wanted.
    """
    if not 1 <= n <= MOST_IN_SEQUENCE:
        raise PalError(f"n must be 1 to {MOST_IN_SEQUENCE} for questions in a sequence, got {n}")
    given = torch.ones(1, chance.shape[1], dtype=chance.dtype)  # P(outcome so far | point)
    noise = bits_of(chance) @ belief
    left, known, found = torch.ones(len(chance), dtype=torch.bool), 0.0, []
    for _ in range(min(n, len(chance))):
        bits = (_joint_bits(given * belief, chance) - noise - known).clamp(0, 1)
        best = int(bits.masked_fill(~left, -1).argmax())
        found.append(Asked(best, float(bits[best])))
        left[best] = False
        p = chance[best]
        given = torch.cat([given * p, given * (1 - p)])
        known = float(_entropy((given @ belief)[:, None]))
    return found


def _joint_bits(
    mass: Float[Tensor, "outcomes points"], chance: Float[Tensor, "q points"]
) -> Float[Tensor, " q"]:
    """Entropy of the outcomes so far together with each question's answer."""
    parts = []
    for block in chance.split(BLOCK // 8):
        first = mass @ block.T
        parts.append(_entropy(first) + _entropy(mass.sum(1, keepdim=True) - first))
    return torch.cat(parts)


def _entropy(share: Float[Tensor, "outcomes q"]) -> Float[Tensor, " q"]:
    return torch.special.entr(share.clamp_min(0)).sum(0) / LN2


def bits_of(chance: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Entropy, in bits, of an answer that is `first` with this chance."""
    return (torch.special.entr(chance) + torch.special.entr(1 - chance)) / LN2
