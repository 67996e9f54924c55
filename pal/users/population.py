"""Populations: a prior over users' states, and posteriors from their answers (empirical Bayes).

A population is fitted to the seen users' states. It turns each answer of a person into numbers that add up
over answers (`evidence`), and their sum into a belief about the person's state (`posterior`).

Shapes: n comparisons, users to locate, points (weighted states that stand for a distribution), f features
kept per question, s numbers of a state, e numbers of evidence.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, registered
from pal.models.base import LOSSES, PreferenceModel, expected_loss, feature_blocks, preference_probability
from pal.users import POPULATIONS

SLACK = 1e-3  # by which the evidence of one comparison may differ between machines


@dataclass(frozen=True)
class Posterior:
    """Belief about a user's state, or many users': states with masses, over which rewards can be averaged.

    A subclass that knows mean and standard deviation in closed form gives those.
    """

    states: Float[Tensor, "*users points s"]  # where it may lie; shared by all users, or a table for each
    masses: Float[Tensor, "*many points"]  # share of belief at each of these; sums to 1

    @cached_property
    def log_masses(self) -> Float[Tensor, "*many points"]:
        """Logarithms of the masses; kept, since taking them anew costs more than adapting to one answer."""
        return self.masses.log()

    @cached_property
    def mean(self) -> Float[Tensor, "*many s"]:
        """Posterior mean of the state."""
        if self.states.dim() == 2:
            return self.masses @ self.states
        return (self.masses[:, None] @ self.states)[:, 0]

    @property
    def sd(self) -> Float[Tensor, "*many s"]:
        """Posterior standard deviation of each number of the state."""
        apart = self.states - self.mean[..., None, :]
        return (self.masses[..., None] * apart.square()).sum(-2).sqrt()

    def reweighted(self, log_likelihood: Float[Tensor, "*more points"]) -> "Posterior":
        """The belief after answers, given by their summed log-likelihoods at the states."""
        masses = torch.softmax(self.log_masses + log_likelihood, -1)
        return Posterior(self.states.to(masses.dtype), masses)


class Population(ABC):
    """Where users' states lie, and how answers move the belief about one user's state.

    A subclass is a dataclass of tensors. `evidence` adds up over a person's answers, whatever the population:
    log-likelihoods on points, or the natural parameters of a Gaussian. Zeros stand for no answers.
    """

    name: ClassVar[str]  # its name in POPULATIONS
    evidence_name: ClassVar[str]  # what its evidence is called in a saved taste
    additive: ClassVar[bool] = True  # whether the evidence of a set of answers is the sum over its answers

    @classmethod
    @abstractmethod
    def from_states(cls, states: Float[Tensor, "users s"]) -> "Population":
        """Fit the prior to the states of the seen users; without any, a PalError."""

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Population":
        """The population that `tensors` describes; KeyError names one that is missing."""
        names = [field.name for field in fields(cls) if field.name in tensors or field.default is MISSING]
        return cls(**{name: tensors[name] for name in names})

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the population, by the name it is saved under."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def coarsened(self, n_users: int, fewest: int) -> "Population":
        """A population in which nothing stands for fewer users than `fewest`, to be shared; here, itself."""
        return self

    @abstractmethod
    def check(self, model: PreferenceModel) -> None:
        """Refuse tensors that are no population of this model's users, by their shapes or numbers."""

    @property
    def mean(self) -> Float[Tensor, " s"]:
        """The state of a user of whom nothing is known; of points the mean over seen users."""
        return self.prior.mean.float()

    @property
    @abstractmethod
    def prior(self) -> Posterior:
        """The belief about a user of whom nothing is known."""

    @property
    @abstractmethod
    def evidence_size(self) -> int:
        """Numbers of evidence."""

    @abstractmethod
    def evidence(
        self, model: PreferenceModel, embeddings: Embeddings, comparisons: Comparisons, loss: str = "logistic"
    ) -> Float[Tensor, "n read"]:
        """What each comparison says about its user's state, in numbers that `total` combines.

        The model is in evaluation mode; an answer of weight 2 counts as two. Minus a hinge `loss`, with which
        the model was fitted, serves as a pseudo-log-likelihood.
        """

    def total(
        self, read: Float[Tensor, "n read"], user: Int[Tensor, " n"], n_users: int
    ) -> Float[Tensor, "users e"]:
        """The evidence of each user's comparisons together; their sum, unless a population says otherwise."""
        return read.new_zeros(n_users, read.shape[1]).index_add(0, user, read)

    @abstractmethod
    def posterior(self, evidence: Float[Tensor, "*users e"]) -> Posterior:
        """Belief about each user's state, from the summed evidence of the user's answers."""

    def locate(
        self, read: Float[Tensor, "n read"], user: Int[Tensor, " n"], n_users: int
    ) -> Float[Tensor, "users s"]:
        """Each user's mean state, for which less may have to be worked out than for the whole belief."""
        return self.posterior(self.total(read, user, n_users)).mean

    def at(self, state: Float[Tensor, " s"]) -> Posterior:
        """The belief about someone whose state is known, as a table of one."""
        return Posterior(state[None], torch.ones(1, 1).to(state))

    def probability(
        self,
        model: PreferenceModel,
        features: Float[Tensor, "n f"],
        user: Int[Tensor, " n"],
        posterior: Posterior,
        loss: str = "logistic",
    ) -> Float[Tensor, " n"]:
        """P(a question's first response is preferred), averaged over `posterior` of its row in `user`."""
        chances = preference_probability(model.margins_at(features, posterior.states.to(features)), loss)
        return (chances * posterior.masses.index_select(0, user).to(chances)).sum(1)

    def chances(
        self,
        model: PreferenceModel,
        embeddings: Embeddings,
        comparisons: Comparisons,
        posterior: Posterior,
        loss: str = "logistic",
    ) -> Float[Tensor, " n"]:
        """`probability` of the question of each comparison."""
        blocks = [comparisons.sign[:0]]
        for block, features, row in feature_blocks(model, embeddings, comparisons):
            asked = features.index_select(0, row)
            blocks.append(self.probability(model, asked, block.user, posterior, loss))
        return torch.cat(blocks)

    @staticmethod
    def possible(evidence: Float[Tensor, " evidence"], comparisons: int, before: int) -> bool:
        """Whether this can be what is left of a person's evidence, and so many comparisons.

        The numbers of the comparisons `before` may differ by rounding from those that were taken away.
        """
        return comparisons > 0 or float(evidence.abs().max()) <= SLACK * max(1, before)


def fit_population(name: str, states: Float[Tensor, "users s"]) -> Population:
    """The population of this name in `POPULATIONS`, fitted to the seen users' states."""
    return registered(POPULATIONS, name).from_states(states)


def log_likelihoods(
    model: PreferenceModel,
    states: Float[Tensor, "points s"],
    embeddings: Embeddings,
    comparisons: Comparisons,
    loss: str = "logistic",
) -> Float[Tensor, "n points"]:
    """Log-likelihood of each comparison at each state; see `Population.evidence` for the arguments."""
    blocks = [states.new_zeros(0, len(states))]
    for block, features, row in feature_blocks(model, embeddings, comparisons):
        margin = model.margins_at(features, states).index_select(0, row) * block.sign[:, None]
        label = None if block.label is None else block.label[:, None]
        likelihood = -expected_loss(LOSSES[loss], margin, label)
        blocks.append(likelihood if block.weight is None else likelihood * block.weight[:, None])
    return torch.cat(blocks)


def adapt(
    model: PreferenceModel,
    population: Population,
    embeddings: Embeddings,
    comparisons: Comparisons,
    *,
    n_users: int,
    config: FitConfig | None = None,
) -> Float[Tensor, "users s"]:
    """Posterior mean states of new users, from their comparisons; model and population stay as they are.

    That of a user without comparisons is the population's mean. The model is in evaluation mode, the
    population fitted to the seen users' states; `user` of the comparisons counts from 0 to `n_users` - 1. Of
    the config, with which the model was fitted, the loss is read. A row outside its table is a PalError.
    """
    comparisons.check(embeddings, n_users=n_users, needs_prompts=model.needs_prompts)
    loss = "logistic" if config is None else config.loss
    with torch.no_grad():  # not inference_mode: what leaves it could never be fitted with again
        each = population.evidence(model, embeddings, comparisons, loss)
        return population.locate(each, comparisons.user, n_users)
