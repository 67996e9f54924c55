"""Methods that mix rewards or points which all people share: PAL, its kin, linear bases of rewards; and VPL.

Each is written from its paper's equations. Most are a basis of K linear rewards, and each person's weights of
them, on the leading directions of the embeddings,

    reward(c, x) of user u = r . phi(c, x) + sum_k w_uk v_k . phi(c, x)

with one constraint or another on r, v and w, or, as VPL, with a network that infers w from the answers. What
is fitted of it is a `LinearModel`, so that all else works as with any other.

Shapes: n comparisons, q distinct questions, wide (leading directions that the basis reads), users, K rewards
of the basis, s numbers of a state (K, and the factor of the shared reward, which is 1), free (all of them but
that factor).
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from pal.comparisons import Comparisons, Embeddings, distinct_rows
from pal.config import FitConfig, HeadConfig, preset
from pal.fitting.trainer import Fitted, check_finite
from pal.methods.base import Learned, Method, Task, from_preset
from pal.models.base import PreferenceModel, expected_loss, logistic, mean_loss
from pal.models.linear import LinearModel
from pal.users.amortised import Amortised
from pal.users.gaussian import Gaussian, shrunk
from pal.users.points import Points

WIDE = 64
STEPS, EVERY = 300, 10  # of Adam on all comparisons; between validations
RATE = 0.05
ROUNDS = 5  # of EM for a normal population


@dataclass(frozen=True)
class Basis:
    """What is asked of a basis.

    Weights are shares that sum to 1 (simplex), any with a normal prior (free), or all on one reward
    (clusters). Rewards are learned, the principal directions of chosen less rejected (differences), or every
    direction.
    """

    weights: Literal["simplex", "free", "clusters"]
    rewards: Literal["learned", "differences", "all"] = "learned"
    shared: bool = False  # whether there is a reward r beside the basis, with weight 1 for everyone
    generic: float = 0.0  # share of the loss of r alone, as for someone of whom nothing is known, in [0, 1)
    worst_half: float = 0.0  # how much more the half of the users counts whose loss is the greater
    size: int | None = None  # rewards; None for the task's K, and not read where they are every direction

    def learn(self, task: Task) -> Learned:
        """Fit rewards and weights together; the step that predicts validation answers best is kept."""
        wide, answers, held = read_wide(task)
        generator = torch.Generator().manual_seed(task.seed)
        fit = _Fit(self, answers, task.n_users, self.size or task.K, generator)
        # Clusters are hard in the second half alone.
        history = descend(
            fit,
            lambda done: fit.loss(answers, done),
            held and (lambda: fit.held_out_loss(held)),
            task,
            rate=RATE,
            kept_from=STEPS // 2 if self.weights == "clusters" else 0,
        )
        with torch.no_grad():
            model = as_linear(wide, fit.rewards, fit.shared)
            states = torch.cat([fit.states(), torch.ones(task.n_users, 1)], 1)
            if self.weights == "free":
                # Weights of seen people are the belief about them, as this has a prior of its own.
                states, population = fit_normal(model, states, task.embeddings, task.train)
                config = FitConfig(objective="marginal", population="gaussian")
            else:
                population, config = Points.from_states(states), FitConfig()
        return Learned(Fitted(model, states, history[-1]["loss"], history, population), config)


def read_wide(task: Task) -> tuple[LinearModel, "Answers", "Answers | None"]:
    """A linear model of the leading directions, and training and validation comparisons as it reads them."""
    inputs = "products" if task.has_prompts else "response"
    config = HeadConfig(model="linear", K=1, latent=WIDE, inputs=inputs)
    wide = LinearModel.from_comparisons(config, task.embeddings, task.train)
    held = Answers.read(wide, task.embeddings, task.val) if task.val is not None and len(task.val) else None
    return wide, Answers.read(wide, task.embeddings, task.train), held


def descend(
    net: nn.Module,
    loss: Callable[[float], Tensor],
    held_out_loss: Callable[[], float] | None,
    task: Task,
    *,
    rate: float,
    weight_decay: float = 0.0,
    kept_from: int = 0,
) -> list[dict[str, float]]:
    """Descend by Adam; the validation of the least held-out loss is kept, or else the last.

    `loss` is given the share of the run that is over; validations before step `kept_from` are not kept.
    Returns the validations, as in `Fitted.history`.
    """
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=rate, weight_decay=weight_decay)
    history: list[dict[str, float]] = []
    best, kept = None, net.state_dict()
    for step in range(1, STEPS + 1):
        now = loss(step / STEPS)
        optimiser.zero_grad()
        now.backward()
        optimiser.step()
        if step % EVERY:
            continue
        validation = {"epoch": float(step), "loss": check_finite(now.item(), step)}
        history.append(validation)
        if task.progress is not None:
            task.progress(step, validation["loss"])
        if held_out_loss is not None:
            with torch.no_grad():
                validation["val_loss"] = held_out_loss()
        score = validation.get("val_loss", -step)
        if step >= kept_from and (best is None or score < best):
            best, kept = score, deepcopy(net.state_dict())
    net.load_state_dict(kept)
    return history


def fit_normal(
    model: PreferenceModel, states: Float[Tensor, "users s"], embeddings: Embeddings, train: Comparisons
) -> tuple[Float[Tensor, "users s"], Gaussian]:
    """Mean and covariance of people's weights by EM, from weights to begin with; and the weights it expects.

    The last number of a state is the same for all, and stays.
    """
    n_users, spread = len(states), torch.zeros(states.shape[1], states.shape[1]).double()
    for _ in range(ROUNDS):
        centre = states.double().mean(0)
        apart = (states.double() - centre)[:, :-1]
        covariance = torch.zeros_like(spread)
        covariance[:-1, :-1] = shrunk(apart.T @ apart + spread[:-1, :-1], n_users)
        covariance = (covariance + covariance.T) / 2
        population = Gaussian(centre.float(), covariance.float(), torch.zeros(1))
        read = population.evidence(model, embeddings, train)
        posterior = population.posterior(population.total(read, train.user, n_users))
        states, spread = posterior.mean.float(), posterior.covariance.sum(0)
    return states, population


@dataclass(frozen=True)
class Answers:
    """Comparisons, with the directions of each distinct question."""

    features: Float[Tensor, "q wide"]
    row: Int[Tensor, " n"]
    of: Comparisons

    @classmethod
    def read(cls, wide: LinearModel, embeddings: Embeddings, of: Comparisons) -> "Answers":
        """Comparisons as `wide` reads them."""
        distinct, row = distinct_rows(of.question, len(of.questions))
        features = wide.question_features(embeddings, of.questions[distinct])[:, :-1]
        return cls(features, row, of)


class _Fit(nn.Module):
    """What is learned, and its loss."""

    def __init__(
        self, basis: Basis, answers: Answers, n_users: int, K: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.basis, D = basis, answers.features.shape[1]
        learned = basis.rewards == "learned"
        if learned:
            rewards = 0.3 * torch.randn(D, K, generator=generator)
        elif basis.rewards == "all":
            rewards = torch.eye(D)
        else:
            turned = (answers.features[answers.row] * answers.of.sign[:, None]).double()
            rewards = torch.linalg.eigh(turned.T @ turned).eigenvectors[:, -K:].flip(1).float()
        K = rewards.shape[1]
        start = 0.1 * torch.randn(n_users, K, generator=generator) if learned else torch.zeros(n_users, K)
        self.rewards = nn.Parameter(rewards, requires_grad=learned)
        self.free = nn.Parameter(start, requires_grad=basis.weights != "clusters")
        self.shared = nn.Parameter(torch.zeros(D), requires_grad=basis.shared)
        self.register_buffer("clusters", torch.full((n_users, K), 1 / K))

    def states(self) -> Float[Tensor, "users K"]:
        if self.basis.weights == "clusters":
            return self.clusters
        return torch.softmax(self.free, 1) if self.basis.weights == "simplex" else self.free

    def margins(self, answers: Answers) -> tuple[Float[Tensor, "n K"], Float[Tensor, " n"]]:
        """Margins in favour of the chosen response: of each reward of the basis, and of the shared one."""
        of_basis, of_shared = answers.features @ self.rewards, answers.features @ self.shared
        sign = answers.of.sign
        return of_basis[answers.row] * sign[:, None], of_shared[answers.row] * sign

    def loss(self, answers: Answers, done: float) -> Float[Tensor, ""]:
        of, weight = answers.of, answers.of.weights
        each, shared = self.margins(answers)
        if self.basis.weights == "clusters":
            by_cluster = expected_loss(logistic, each, None if of.label is None else of.label[:, None])
            self._assign(by_cluster.detach() * weight[:, None], of.user, done)
            losses = (self.clusters[of.user] * by_cluster).sum(1)
        else:
            losses = expected_loss(logistic, shared + (each * self.states()[of.user]).sum(1), of.label)
        counted = weight
        if self.basis.worst_half:
            sums = torch.zeros(2, len(self.free)).index_add(
                1, of.user, torch.stack([weight * losses.detach(), weight])
            )
            of_user = sums[0] / sums[1].clamp_min(1e-9)
            counted = weight * (1 + self.basis.worst_half * (of_user > of_user.median())[of.user])
        loss = (counted * losses).sum() / counted.sum()
        if self.basis.generic:
            loss = (1 - self.basis.generic) * loss + self.basis.generic * mean_loss(shared, of)
        # Normal priors of variance one on all that is learned.
        ridge = sum(parameter.square().sum() for parameter in self.parameters() if parameter.requires_grad)
        return loss + 0.5 * ridge / weight.sum()

    def _assign(self, losses: Float[Tensor, "n K"], user: Int[Tensor, " n"], done: float) -> None:
        """The E-step: shares of clusters that sharpen in the first half, and in the second the best alone."""
        likelihood = -torch.zeros_like(self.clusters).index_add(0, user, losses)
        if done < 0.5:
            self.clusters = torch.softmax((2 * done) ** 3 * likelihood, 1)
        else:
            self.clusters = one_hot(likelihood.argmax(1), self.clusters.shape[1]).to(self.clusters)

    def held_out_loss(self, answers: Answers) -> float:
        each, shared = self.margins(answers)
        return mean_loss(shared + (each * self.states()[answers.of.user]).sum(1), answers.of).item()


def as_linear(
    wide: LinearModel, rewards: Float[Tensor, "wide K"], shared: Float[Tensor, " wide"]
) -> LinearModel:
    """The basis as a linear model of K directions, without item effects."""
    config = wide.config.model_copy(update={"latent": rewards.shape[1], "known_items": 0})
    model = wide.reading_alike(config)
    model.directions.copy_(wide.directions @ rewards)
    model.coefficients.copy_(wide.directions @ shared)
    return model.eval()


STATE, HIDDEN = 8, 32  # numbers of a state and of the hidden layer of VPL's network
KEPT = 0.5  # share of answers that it reads in a step, so that it learns to do with few


class _Vpl(nn.Module):
    """The reward's directions, and the network that infers everyone's state from their answers."""

    def __init__(self, wide: int, generator: torch.Generator) -> None:
        super().__init__()

        def small(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator) / shape[-1] ** 0.5)

        self.rewards, self.shared = small(STATE, wide), nn.Parameter(torch.zeros(wide))
        self.reads, self.says = small(HIDDEN, STATE + 2), small(2 * STATE, HIDDEN + 1)

    def population(self) -> Amortised:
        return Amortised(self.reads, self.says)

    def turned(self, answers: Answers) -> Float[Tensor, "n s"]:
        """Features of each comparison, as the linear model will give them, turned to the chosen response."""
        features = answers.features @ torch.cat([self.rewards, self.shared[None]]).T
        return features[answers.row] * answers.of.sign[:, None]

    def belief(
        self, answers: Answers, turned: Float[Tensor, "n s"], n_users: int, kept: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, "users free"], Float[Tensor, "users free"]]:
        """Means and log variances of users, of whose answers those are read that `kept` weighs."""
        population, of = self.population(), answers.of
        read = population.read(turned, of.label, kept * of.weights)
        return population.belief(read.new_zeros(n_users, HIDDEN + 1).index_add(0, of.user, read))


def learn_vpl(task: Task) -> Learned:
    """Descend on the evidence lower bound; the step that predicts the validation answers best is kept."""
    wide, answers, held = read_wide(task)
    generator = torch.Generator().manual_seed(task.seed)
    net, total = _Vpl(answers.features.shape[1], generator), float(answers.of.weights.sum())
    everything = torch.ones_like(answers.of.sign)

    def loss(of: Answers, turned: Tensor, states: Tensor) -> Tensor:
        return mean_loss((turned[:, :-1] * states[of.of.user]).sum(1) + turned[:, -1], of.of)

    def bound(done: float) -> Tensor:
        turned = net.turned(answers)
        kept = (torch.rand(len(everything), generator=generator) < KEPT).float()
        mean, log_variance = net.belief(answers, turned, task.n_users, kept)
        noise = torch.randn(mean.shape, generator=generator)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum() / total
        return loss(answers, turned, mean + noise * (log_variance / 2).exp()) + divergence

    def held_out_loss() -> float:
        states = net.belief(answers, net.turned(answers), task.n_users, everything)[0]
        return loss(held, net.turned(held), states).item()

    history = descend(net, bound, held and held_out_loss, task, rate=RATE / 5, weight_decay=1e-4)
    with torch.no_grad():
        model = as_linear(wide, net.rewards.T, net.shared)
        mean, _ = net.belief(answers, net.turned(answers), task.n_users, everything)
        states = torch.cat([mean, torch.ones(task.n_users, 1)], 1)
        population = Amortised(net.reads.detach().clone(), net.says.detach().clone())
    fitted = Fitted(model, states, history[-1]["loss"], history, population)
    return Learned(fitted, FitConfig(objective="marginal", population="amortised"))


VPL = Method(
    "a network infers the state from the answers",
    "Variational preference learning (Poddar et al., 2024)",
    "Rewards are linear in a state of 8 numbers, on the leading directions of frozen embeddings, in place of "
    "a fine-tuned decoder; the network reads those 8 numbers of each pair. The prior is not learned.",
    learn_vpl,
)


PAL = "PAL: Pluralistic Alignment (Chen et al., 2024)"

PAL_PAPER = Method(
    "PAL, the text's settings",
    PAL,
    "Where the text is silent its authors' code decides.",
    from_preset("paper"),
    prototypes=True,
)
PAL_AUTHORS = Method(
    "PAL, the authors' code's settings",
    PAL,
    "Fitted by this project's code.",
    from_preset("authors"),
    prototypes=True,
)
PAL_FREE = Method(
    "PAL, free weights",
    PAL,
    "Preset ours with the paper's objective: weights by likelihood alone, which take many answers of each.",
    from_preset("ours", objective="pal"),
    prototypes=True,
)
PAL_OURS = Method(
    "PAL, mixture likelihood",
    PAL,
    "A likelihood over all of a user's answers (latent classes over the simplex) in place of a loss per "
    "comparison, which needs a prior where answers are few.",
    from_preset("ours"),
    prototypes=True,
)


DESCENT = {"learning_rate": 0.02, "epochs": 60, "batch_size": 4096, "validate_every": 5, "best_by": "loss"}


def learn_ideal_points(task: Task) -> Learned:
    """Fit metric and points together, then the normal population that the points come from."""
    inputs = "prompt_and_response" if task.has_prompts else "response"
    head = {"hidden_layers": 0, "bias": False, "latent": 8, "K": 1, "inputs": inputs}
    fit = {**DESCENT, "population": "gaussian", "weights_learning_rate": 0.1}
    learned = task.fit(*preset("ours", "point", head=head, fit=fit))
    fitted = learned.fitted
    with torch.no_grad():
        states, population = fit_normal(fitted.head, fitted.states, task.embeddings, task.train)
    # The states are now the belief about each person.
    config = learned.config.model_copy(update={"objective": "marginal"})
    return Learned(replace(fitted, states=states, population=population), config)


IDEAL_POINT = Method(
    "an ideal point of each person's own",
    "One for all: simultaneous metric and preference learning over multiple users (Canal et al., 2022)",
    "A metric of rank 8 by descent, in place of a convex programme with a nuclear norm. New people's points "
    "are inferred with the seen people's as a normal prior.",
    learn_ideal_points,
)


def learn_micro(task: Task) -> Learned:
    """Rewards and router together, each user a latent class over shares of the rewards."""
    head = {"K": min(task.K, task.n_users)}
    fit = {**DESCENT, "objective": "mixture", "weight_decay": 0.1, "epochs": 100}
    return task.fit(*preset("ours", "routed", head=head, fit=fit))


def learn_general_preferences(task: Task) -> Learned:
    """One model for everyone, by descent."""
    learned = task.fit(*preset("ours", "general", head={"K": 1, "latent": 8}, fit=DESCENT))
    q = task.train.questions
    answered = torch.unique(torch.cat([q.first, q.second]))
    learned.fitted.head.average.copy_(task.embeddings.responses[answered].float().mean(0))
    return learned


MICRO = Method(
    "K rewards, weights depend on the prompt",
    "MiCRo (Shen et al., 2025)",
    "Linear rewards and a linear router on frozen embeddings. A user's shares are inferred with the seen "
    "people's as the prior, in place of the Hedge algorithm over the answers as they come.",
    learn_micro,
    prototypes=True,
)
GPM = Method(
    "one preference for everyone, cycles allowed",
    "General preference models (Zhang et al., 2024)",
    "On frozen embeddings. A single response's reward is its margin over the mean response.",
    learn_general_preferences,
    personal=False,
)


LINEAR = "On the leading directions of frozen embeddings, in place of a fine-tuned language model. "
PRIOR = (
    "New people's weights are inferred with the seen people's as the prior, in place of a fit without one."
)
NORMAL = PRIOR + " The prior is normal, fitted by EM."


LORE = Method(
    "basis of rewards, weights on the simplex",
    "LoRe (Bose et al., 2025)",
    LINEAR + PRIOR,
    Basis("simplex").learn,
    prototypes=True,
)
RFM = Method(
    "reward features, free weights",
    "Reward-feature models (Barreto et al., 2025)",
    LINEAR + NORMAL,
    Basis("free").learn,
    prototypes=True,
)
DRM = Method(
    "principal directions of what was chosen over what",
    "Decomposed reward models (Luo et al., 2025)",
    LINEAR + NORMAL,
    Basis("free", rewards="differences", size=32).learn,
)
MAXMIN = Method(
    "each person in one of K groups, a reward a group",
    "MaxMin-RLHF (Chakraborty et al., 2024)",
    LINEAR
    + "Groups are soft in the first half of the fit. Of the policy for the worst group nothing is fitted.",
    Basis("clusters").learn,
    prototypes=True,
)
P_RLHF_INDIVIDUAL = Method(
    "a shared reward and each person's own offset",
    "P-RLHF, individual preferences (Li et al., 2024)",
    LINEAR + NORMAL,
    Basis("free", rewards="all", shared=True, generic=0.5).learn,
)
P_RLHF_CLUSTER = Method(
    "a shared reward and a mix of K offsets",
    "P-RLHF, cluster-based preferences (Li et al., 2024)",
    LINEAR + PRIOR,
    Basis("simplex", shared=True, generic=0.5).learn,
    prototypes=True,
)
MRM = Method(
    "reward features whose weights adapt, the worse half of people weighs more",
    "Meta reward modelling (Cai et al., 2026)",
    LINEAR
    + "The worse half of people weighs twice. Weights start from a normal prior whose mean is learned, in "
    "place of a few steps of descent.",
    Basis("free", worst_half=1.0).learn,
    prototypes=True,
)
