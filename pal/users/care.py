"""How carefully people answer: the share of answers given at random, and how decided the others are.

A person answers at random with probability `lapse`, and else by their reward (Wichmann and Hill, 2001):

    P(what was chosen) = (1 - lapse) sigmoid(decision * margin) + lapse / 2

where the margin is foretold from the person's other answers. What one person's answers leave open is filled
in from everyone's: lapses have a beta prior and log decisions a normal one, both learned by EM (empirical
Bayes).

Shapes: n answers, users, values of the lapse, or of the decision, that are tried.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.models.base import PreferenceModel
from pal.users.population import Population

FOLDS = 4  # in which a person's answers are foretold from the others
ROUNDS = 40  # of EM
LAPSES = torch.linspace(0.0, 1.0, 26, dtype=torch.float64)
DECISIONS = torch.logspace(-1.5, 2.5, 13, base=2.0, dtype=torch.float64)
NARROWEST = 0.02, 0.1  # standard deviations of lapses and of log decisions in the priors, at least
LEAST = 1e-6  # chance below which an answer speaks no more against someone
SURE = 0.95  # that a lapse is above `Care.low`
USERS_AT_ONCE = 512
PASSES = 2  # the second without what was probably given at random in the first
LEAST_WEIGHT = 0.02  # of such an answer
STRONGER = 10.0  # factor by which weak margins are raised to the usual strength, at most


class Care(NamedTuple):
    """How people answer, as posterior means; of someone without answers, as is usual."""

    lapse: Float[Tensor, " users"]  # share of answers at random, from 0 to 1
    low: Float[Tensor, " users"]  # what the lapse is above with a chance of 95 %
    decision: Float[Tensor, " users"]  # factor of margins: 1 is as decided as foretold
    usual: float  # mean of the prior of lapses


def care_of(
    model: PreferenceModel,
    population: Population,
    embeddings: Embeddings,
    comparisons: Comparisons,
    *,
    n_users: int,
    loss: str = "logistic",
) -> Care:
    """How people answered, as far as all their answers foretell each other; ties tell nothing.

    The model is in evaluation mode, and was fitted with `loss`.
    """
    if comparisons.label is not None:
        comparisons = comparisons[(comparisons.label != 0.5).nonzero()[:, 0]]
    care, sincere = None, torch.ones(len(comparisons))
    for _ in range(PASSES):
        weighted = replace(comparisons, weight=sincere * comparisons.weights)
        margin = _foretold(model, population, embeddings, weighted, n_users, loss)
        care = estimate_care(margin, comparisons.user, comparisons.weights, n_users=n_users)
        # What was probably given at random is not to tell of the person's taste.
        lapse, decision = care.lapse[comparisons.user], care.decision[comparisons.user]
        meant = (1 - lapse) * torch.sigmoid(margin * decision)
        sincere = (meant / (meant + lapse / 2)).float().clamp_min(LEAST_WEIGHT)
    return care


def _foretold(
    model: PreferenceModel,
    population: Population,
    embeddings: Embeddings,
    comparisons: Comparisons,
    n_users: int,
    loss: str,
) -> Float[Tensor, " n"]:
    """Log odds of what was chosen, by the person's other answers; weak ones are raised to the usual strength.

    A person who answers at random is foretold nothing, which would not tell them from someone who is merely
    undecided; at the usual strength half of what is foretold turns out wrong.
    """
    fold = torch.randint(FOLDS, (len(comparisons),), generator=torch.Generator().manual_seed(0))
    margin = torch.zeros(len(comparisons), dtype=torch.float64)
    for start in range(0, n_users, USERS_AT_ONCE):
        among = (comparisons.user >= start) & (comparisons.user < start + USERS_AT_ONCE)
        for number in range(FOLDS):
            rest = comparisons[(among & (fold != number)).nonzero()[:, 0]]
            asked = comparisons[(among & (fold == number)).nonzero()[:, 0]]
            asked = replace(asked, user=asked.user - start)
            with torch.no_grad():
                read = population.evidence(model, embeddings, rest, loss)
                said = population.total(read, rest.user - start, min(USERS_AT_ONCE, n_users - start))
                belief = population.posterior(said)
                chance = population.chances(model, embeddings, asked, belief, loss).double()
            margin[among & (fold == number)] = torch.logit(chance.clamp(LEAST, 1 - LEAST)) * asked.sign
    counts = torch.bincount(comparisons.user, minlength=n_users)
    squares = margin.new_zeros(n_users).index_add(0, comparisons.user, margin.square())
    strength = (squares / counts.clamp_min(1)).sqrt()
    usual = strength[counts > 0].median() if len(comparisons) else strength.sum()
    return margin * (usual / strength.clamp_min(LEAST)).clamp(1, STRONGER)[comparisons.user]


def estimate_care(
    margins: Float[Tensor, " n"], user: Int[Tensor, " n"], weight: Float[Tensor, " n"], *, n_users: int
) -> Care:
    """Each person's lapse and decision, with priors learned from all.

    `margins` are the log odds of what was chosen, foretold without the answer itself.
    """
    chance = torch.sigmoid(margins.double()[:, None] * DECISIONS).clamp_min(LEAST)
    given = weight.double()[:, None]
    likelihood = chance.new_zeros(n_users, len(LAPSES), len(DECISIONS))
    for column, lapse in enumerate(LAPSES):
        likelihood[:, column].index_add_(0, user, ((1 - lapse) * chance + lapse / 2).log() * given)
    answered = torch.bincount(user, minlength=n_users) > 0
    inner, log_decisions = LAPSES.clamp(0.005, 0.995), DECISIONS.log()
    lapse, lapse_variance, decision, variance = 0.1, 0.02, 0.0, 0.25  # means and variances of the priors
    for _ in range(ROUNDS):
        count = lapse * (1 - lapse) / lapse_variance - 1  # a + b of the beta prior
        prior = (count * lapse - 1) * inner.log() + (count * (1 - lapse) - 1) * (1 - inner).log()
        prior = prior[:, None] - 0.5 * (log_decisions - decision).square() / variance
        belief = torch.softmax((prior + likelihood).flatten(1), 1).view_as(likelihood)
        of_lapse, of_decision = belief.sum(2), belief.sum(1)
        if answered.any():
            lapse, lapse_variance = _moments(of_lapse[answered], LAPSES, NARROWEST[0])
            lapse_variance = min(lapse_variance, 0.9 * lapse * (1 - lapse))
            decision, variance = _moments(of_decision[answered], log_decisions, NARROWEST[1])
    low = LAPSES[(of_lapse.cumsum(1) <= 1 - SURE).sum(1)]
    return Care(of_lapse @ LAPSES, low, of_decision @ DECISIONS, lapse)


def _moments(
    masses: Float[Tensor, "users values"], values: Float[Tensor, " values"], narrowest: float
) -> tuple[float, float]:
    """Mean and variance over all users together, the latter of at least the square of `narrowest`."""
    mean = float(masses.mean(0) @ values)
    return mean, max(float(masses.mean(0) @ (values - mean).square()), narrowest**2)
