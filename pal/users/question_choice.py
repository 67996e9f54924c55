"""Which question to ask next: expected information gain (BALD, Houlsby et al. 2011).

The information that an answer is expected to bring is the entropy of the predicted answer minus its expected
entropy given the user's state, H(mean p) - mean H(p), with p the probability of an answer at each state that
the user may have.

Shapes: q candidate questions, points (states that the user may have), outcomes (joint answers to the
questions chosen so far: two to their number), users who are asked, rounds of questions to each.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pal.comparisons import Embeddings, Questions
from pal.errors import PalError
from pal.models.base import PreferenceModel, preference_probability

BLOCK = 1 << 14
MOST_TOGETHER = 10  # two to this many outcomes are kept
LN2 = 0.6931471805599453


class RankedQuestion(NamedTuple):
    """A candidate question, by its number, and its expected information."""

    index: int
    bits: float  # of its answer, 0 to 1; in a set, beside the answers before it


def answer_probabilities(
    model: PreferenceModel,
    states: Float[Tensor, "points state"],
    embeddings: Embeddings,
    questions: Questions,
    loss: str = "logistic",
) -> Float[Tensor, "q points"]:
    """P(first is preferred) of each question, for someone in each state; float64."""
    blocks = [torch.zeros(0, len(states), dtype=torch.float64)]
    with torch.no_grad():
        for start in range(0, len(questions), BLOCK):
            rows = torch.arange(start, min(start + BLOCK, len(questions)))
            features = model.question_features(embeddings, questions[rows])
            margin = model.margins_at(features, states)
            blocks.append(preference_probability(margin.double(), loss).cpu())
    return torch.cat(blocks)


def rank_questions(
    probability: Float[Tensor, "q points"], masses: Float[Tensor, " points"]
) -> list[RankedQuestion]:
    """Questions by the expected information of each alone, most first; equal ones as they came."""
    bits = (answer_entropy(probability @ masses) - answer_entropy(probability) @ masses).clamp(0, 1)
    order = bits.argsort(descending=True, stable=True).tolist()
    return [RankedQuestion(index, float(bits[index])) for index in order]


def choose_together(
    probability: Float[Tensor, "q points"], masses: Float[Tensor, " points"], n: int
) -> list[RankedQuestion]:
    """A set of `n` questions to ask at once, chosen greedily by the information that each adds, exactly.

    Two questions that ask the same tell hardly more than one. The information of a set is submodular, so this
    greedy choice is within a factor 1 - 1/e of the best set (Nemhauser et al. 1978). `n` is at most 10.
    """
    if not 1 <= n <= MOST_TOGETHER:
        raise PalError(f"n must be 1 to {MOST_TOGETHER} for questions asked together, got {n}")
    outcome = torch.ones(1, probability.shape[1], dtype=probability.dtype)  # P(answers so far | state)
    noise = answer_entropy(probability) @ masses
    left, known, chosen = torch.ones(len(probability), dtype=torch.bool), 0.0, []
    for _ in range(min(n, len(probability))):
        joint = outcome * masses
        entropies = []  # of the answers so far together with each question's answer
        for block in probability.split(BLOCK // 8):
            yes = joint @ block.T
            entropies.append(_entropy(yes) + _entropy(joint.sum(1, keepdim=True) - yes))
        bits = (torch.cat(entropies) - noise - known).clamp(0, 1)
        best = int(bits.masked_fill(~left, -1).argmax())
        chosen.append(RankedQuestion(best, float(bits[best])))
        left[best] = False
        p = probability[best]
        outcome = torch.cat([outcome * p, outcome * (1 - p)])
        known = float(_entropy((outcome @ masses)[:, None]))
    return chosen


def _entropy(share: Float[Tensor, "outcomes q"]) -> Float[Tensor, " q"]:
    return torch.special.entr(share.clamp_min(0)).sum(0) / LN2


def answer_entropy(probability: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Entropy, in bits, of an answer that is `first` with this probability."""
    return (torch.special.entr(probability) + torch.special.entr(1 - probability)) / LN2


class Interviews(NamedTuple):
    """Questions asked of many people, and what their answers say."""

    questions: Int[Tensor, "rounds users"]  # their numbers in the order asked, -1 where none was left
    likelihood: Float[Tensor, "rounds users points"]  # summed logarithms, of the answers so far


def interview(
    probability: Float[Tensor, "users q points"],
    answers: Float[Tensor, "users q points"],
    allowed: Bool[Tensor, "users q"],
    masses: Float[Tensor, "*users points"],
    rounds: int,
) -> Interviews:
    """Ask everyone, whose answers are known, the most informative question under the answers before it.

    `answers` are the log-likelihoods, at each state, of what a person answers; of equal questions the first
    is asked. `masses` are the belief before, of all or of each.
    """
    noise, log_masses = answer_entropy(probability), masses.log()
    people, left = torch.arange(len(probability)), allowed.clone()
    total = answers.new_zeros(len(probability), probability.shape[2])
    questions, likelihood = [], []
    for _ in range(rounds):
        belief = torch.softmax(log_masses + total, 1)[:, :, None]
        bits = answer_entropy((probability @ belief)[..., 0].clamp(0, 1)) - (noise @ belief)[..., 0]
        best = bits.masked_fill(~left, -torch.inf).argmax(1)
        some = left.any(1)
        total = total + answers[people, best] * some[:, None]
        left[people, best] = False
        questions.append(torch.where(some, best, -1))
        likelihood.append(total)
    return Interviews(torch.stack(questions), torch.stack(likelihood))
