"""Method: what is fitted to a task, with its source; and the task itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig, preset
from pal.fitting.attributes import AttributePrior, Attributes, fit_attributes
from pal.fitting.trainer import Fitted, Progress, few_threads, fit
from pal.users.gaussian import Gaussian
from pal.users.population import Population, Posterior, fit_population

COMPARISONS_FOR_TWO_THREADS = 300_000  # below, threads that wait for each other cost more than they do


@dataclass(frozen=True)
class Task:
    """Comparisons of seen users that a method learns from."""

    embeddings: Embeddings
    train: Comparisons
    n_users: int
    val: Comparisons | None = None  # of the same users, which choose an epoch or a round
    K: int = 3  # prototypes, for the methods that have some
    seed: int = 0
    device: torch.device | str = "cpu"
    progress: Progress | None = None  # called after each epoch or round with its number and its loss

    @property
    def has_prompts(self) -> bool:
        """Whether questions have prompts."""
        return bool(self.embeddings.prompts.shape[1])

    def fit(
        self, head: HeadConfig, config: FitConfig, states: Float[Tensor, "users s"] | None = None
    ) -> "Learned":
        """Fit a head as a config says, by `pal.fitting.trainer.fit`; `states` that are given stay."""
        options = {"device": self.device, "seed": self.seed, "progress": self.progress}
        seen = {"n_users": self.n_users, "val": self.val, "states": states}
        fitted = fit(self.embeddings, self.train, head=head, config=config, **seen, **options)
        # Where the task's embeddings are, since what was learned is judged on them.
        at = self.embeddings.responses.device
        return Learned(replace(fitted, head=fitted.head.to(at), states=fitted.states.to(at)), config)


@dataclass(frozen=True)
class Learned:
    """What a method leaves behind."""

    fitted: Fitted
    config: FitConfig  # it is saved with the model
    said: tuple[str, ...] = ()  # sentences for the user: what was tried, and why this was taken
    method: str | None = None  # the name of the one that was taken, where several were tried
    attributes: AttributePrior | None = None  # what attributes say of people's states, where that helps
    scale: tuple[float, float] = (1.0, 1.0)  # of a Gaussian population's mean and variances after the fit

    def rescaled(self, scale: tuple[float, float], task: Task | None = None) -> "Learned":
        """The same with mean and variances of its Gaussian population multiplied.

        Where the task is given, its people are located anew.
        """
        if scale == (1.0, 1.0):
            return self
        mean, variance = scale
        population: Gaussian = self.population  # type: ignore[assignment]
        population = replace(
            population,
            centre=mean * population.centre,
            covariance=variance * population.covariance,
            residual=variance * population.residual,
        )
        learned = replace(self, fitted=replace(self.fitted, population=population), scale=scale)
        if task is None:
            return learned
        read = population.evidence(self.fitted.head, task.embeddings, task.train)
        states = population.locate(read, task.train.user, task.n_users)
        return replace(learned, fitted=replace(learned.fitted, states=states))

    def with_attributes(self, task: Task, people: Sequence[Attributes], *, judged: bool = True) -> "Learned":
        """The same with a prior that depends on the attributes of the task's users.

        Where this is `judged`, attributes are taken only if they help people who were left out.
        """
        population = self.population
        evidence = self.evidence(task.embeddings, task.train, task.n_users)
        prior, said = fit_attributes(population, evidence, people, task.seed, judged=judged)
        learned = replace(self, said=(*self.said, f"{said}."), attributes=prior)
        if prior is None:
            return learned
        fitted = replace(self.fitted, population=population)
        if self.config.objective in ("mixture", "marginal"):  # whose states are means of beliefs
            belief = population.posterior(evidence + prior.evidence(people).to(evidence))
            fitted = replace(fitted, states=belief.mean.float())
        return replace(learned, fitted=fitted)

    @property
    def population(self) -> Population:
        """Where the users' states lie, as learned, or else read off the seen users' states."""
        return self.fitted.population or fit_population(self.config.population, self.fitted.states)

    def evidence(
        self, embeddings: Embeddings, comparisons: Comparisons, n_users: int
    ) -> Float[Tensor, "users e"]:
        """What users' comparisons say of their states, as the population counts it."""
        population = self.population
        with torch.no_grad():
            read = population.evidence(self.fitted.head, embeddings, comparisons, self.config.loss)
            return population.total(read, comparisons.user, n_users)

    def posterior(self, embeddings: Embeddings, comparisons: Comparisons, n_users: int) -> Posterior:
        """Belief about users' states from their comparisons, model and population as they are."""
        return self.population.posterior(self.evidence(embeddings, comparisons, n_users))

    def probability(
        self, embeddings: Embeddings, comparisons: Comparisons, posterior: Posterior
    ) -> Float[Tensor, " n"]:
        """P(the chosen response is preferred), averaged over the belief about each comparison's user."""
        head, loss = self.fitted.head, self.config.loss
        with torch.no_grad():
            first = self.population.chances(head, embeddings, comparisons, posterior, loss)
            return torch.where(comparisons.sign > 0, first, 1 - first).double()


@dataclass(frozen=True)
class Method:
    """A way of learning personal rewards."""

    title: str  # a few words for tables
    source: str  # the paper it comes from, or `this project`
    differences: str  # what is done otherwise than there, and why; empty where nothing is
    fit: Callable[[Task], Learned]
    prototypes: bool = False  # whether the task's K is read
    personal: bool = True  # whether people get rewards of their own

    def learn(self, task: Task) -> Learned:
        """Fit it to a task, on one thread where the task is small."""
        with few_threads(two=len(task.train) >= COMPARISONS_FOR_TWO_THREADS):
            return self.fit(task)


def from_preset(name: str, objective: str | None = None) -> Callable[[Task], Learned]:
    """Learning by a preset of `pal.config`: model B where there are prompts, else model A.

    Without an objective of its own preset ours is a mixture in both: without a prior of the users' weights
    model A does harm where they gave few answers.
    """

    def learn(task: Task) -> Learned:
        model = "B" if task.has_prompts else "A"
        K = min(task.K, task.n_users)
        chosen = objective or ("mixture" if name == "ours" else None)
        fit = {} if chosen is None else {"objective": chosen}
        return task.fit(*preset(name, model, head={"K": K}, fit=fit))

    return learn
