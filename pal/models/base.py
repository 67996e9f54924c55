"""PreferenceModel: the contract of a reward that differs from person to person; and pairwise losses.

A reward is what the model reads of prompt and response, combined with the user's state. A model reduces each
distinct question once (`question_features`) to numbers from which the margin of any state follows; fitting,
adapting and evaluation all build on this. What a state is, is the model's own business. A margin is the
reward of one response less that of the other, for one user and one prompt.

Shapes, in all models: n comparisons or responses, q distinct questions, p distinct prompts, c and x the
widths of a prompt's and of a response's embedding, f features kept per question, s numbers of a state, K
prototypes, points (states that margins are taken at), users; ... of losses: any.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from pal.comparisons import Comparisons, Embeddings, Questions, distinct_rows
from pal.config import HeadConfig, registered
from pal.errors import PalError
from pal.models import MODELS

NUMBERS_AT_ONCE = 1 << 25  # of one layer, where questions are read outside training


class PreferenceModel(nn.Module, ABC):
    """A reward that differs from person to person: reward(prompt, response, state of the user).

    A subclass takes `(config, *, prompt_dim, response_dim)`, and keeps `config`.
    """

    config: HeadConfig
    linear: bool = False  # whether margins are linear in the state: locating a user is then a convex problem
    needs_prompts: bool = False  # whether questions without a prompt cannot be read
    shared_state: Tensor | None = None  # the state that all users share, where the model has no other

    @property
    @abstractmethod
    def state_dim(self) -> int:
        """Numbers of a user's state."""

    @property
    def device(self) -> torch.device:
        """Where the model's numbers are; not all models have parameters."""
        return next(chain(self.parameters(), self.buffers())).device

    @property
    def block_size(self) -> int:
        """Questions to read at once, so that memory stays bounded however wide the layers are."""
        widest = max(side for parameter in self.parameters() for side in parameter.shape)
        return min(1 << 18, max(1, NUMBERS_AT_ONCE // widest))

    @abstractmethod
    def question_features(self, embeddings: Embeddings, questions: Questions) -> Float[Tensor, "q f"]:
        """Reduce each question to the numbers from which the margin of any state follows."""

    @abstractmethod
    def margin(self, features: Float[Tensor, "n f"], states: Float[Tensor, "n s"]) -> Float[Tensor, " n"]:
        """Reward of each question's first response less that of its second, for aligned states."""

    @abstractmethod
    def margins_at(
        self, features: Float[Tensor, "q f"], states: Float[Tensor, "points s"]
    ) -> Float[Tensor, "q points"]:
        """The margin of every question at every state."""

    @abstractmethod
    def reward(
        self, prompts: Float[Tensor, "n c"], responses: Float[Tensor, "n x"], states: Float[Tensor, "n s"]
    ) -> Float[Tensor, " n"]:
        """Score each response for aligned states; only differences for one user and prompt mean anything."""

    def embed_prompts(self, prompts: Float[Tensor, "p c"]) -> Float[Tensor, "p ..."]:
        """What the reward reads of prompts, whoever the user is: computed once for each distinct prompt."""
        return prompts

    def reward_embedded(
        self,
        embedded: Float[Tensor, "p ..."],
        prompt: Int[Tensor, " n"],
        responses: Float[Tensor, "n x"],
        states: Float[Tensor, "*n s"],
    ) -> Float[Tensor, " n"]:
        """Score responses to the prompts (rows of `embedded`) that `embed_prompts` has read.

        There is one state for all responses, or one for each.
        """
        states = states.expand(len(responses), self.state_dim)
        return self.reward(embedded.index_select(0, prompt), responses, states)

    def free_to_states(self, free: Float[Tensor, "n s"]) -> Float[Tensor, "n s"]:
        """Valid states from free numbers, as an optimiser moves them; differentiable."""
        return free

    def check_states(self, states: Tensor, name: str) -> None:
        """Refuse states, one a row, that the model does not allow, or of which a number is not finite."""
        if states.dim() != 2 or states.shape[1] != self.state_dim:
            raise PalError(
                f"{name} must be {self.state_dim} numbers for each state, got the shape {tuple(states.shape)}"
            )
        if not bool(torch.isfinite(states).all()):
            raise PalError(f"{name} must be finite, got NaN or infinity; fit again")

    def ideal_norm(self, features: Float[Tensor, "n f"], states: Float[Tensor, "n s"]) -> Float[Tensor, " n"]:
        """Length of each aligned user's ideal point, for the question's prompt, before normalisation."""
        raise PalError(f"bound_loss must be 0 for model {self.config.model}, which has no ideal points")


class LinearInState(PreferenceModel):
    """A model whose margins are products of a question's features and the user's state."""

    linear = True

    @override
    def margin(self, features: Float[Tensor, "n s"], states: Float[Tensor, "n s"]) -> Float[Tensor, " n"]:
        return (features * states).sum(1)

    @override
    def margins_at(
        self, features: Float[Tensor, "q s"], states: Float[Tensor, "points s"]
    ) -> Float[Tensor, "q points"]:
        return features @ states.T


class PrototypeModel(PreferenceModel):
    """A model whose states are weights of K prototypes that all users share: points of the simplex."""

    @override
    @property
    def state_dim(self) -> int:
        return self.config.K

    @override
    @property
    def shared_state(self) -> Float[Tensor, " s"] | None:
        return torch.ones(1) if self.config.K == 1 else None

    @override
    def free_to_states(self, free: Float[Tensor, "n s"]) -> Float[Tensor, "n s"]:
        return torch.softmax(free, 1)

    @override
    def check_states(self, states: Tensor, name: str) -> None:
        super().check_states(states, name)
        if bool((states < 0).any()) or bool(((states.sum(1) - 1).abs() > 1e-4).any()):
            raise PalError(f"{name} must be shares that sum to 1, got others; divide them by their sum")

    def prototype_margins(self, features: Float[Tensor, "q f"]) -> Float[Tensor, "q K"]:
        """The margin of every question for a user at each prototype."""
        return self.margins_at(features, torch.eye(self.config.K, device=features.device))


def make_model(config: HeadConfig, *, prompt_dim: int, response_dim: int) -> PreferenceModel:
    """The model that a config describes, freshly initialised from torch's global generator.

    `prompt_dim` is 0 where there are no prompts, which some configs do not allow.
    """
    if torch.get_default_dtype() != torch.float32:
        got = torch.get_default_dtype()
        raise PalError(f"torch's default dtype must be float32 for a model, got {got}; set it afterwards")
    return registered(MODELS, config.model)(config, prompt_dim=prompt_dim, response_dim=response_dim)


def gather(table: Float[Tensor, "n dim"], rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows dim"]:
    """Rows of a table, bfloat16 under bfloat16 autocast; else half precision becomes float32."""
    kind = table.device.type
    if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16:
        return table.index_select(0, rows).bfloat16()
    return as_float32(table.index_select(0, rows))


def as_float32(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """A tensor of half precision as float32, any other as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def feature_blocks(
    model: PreferenceModel, embeddings: Embeddings, comparisons: Comparisons
) -> Iterator[tuple[Comparisons, Float[Tensor, "q f"], Int[Tensor, " n"]]]:
    """Comparisons in blocks of bounded memory, each with its distinct questions' features and their rows."""
    for start in range(0, len(comparisons), model.block_size):
        block = comparisons.slice(start, start + model.block_size)
        distinct, row = distinct_rows(block.question, len(comparisons.questions))
        yield block, model.question_features(embeddings, comparisons.questions[distinct]), row


def margins(
    model: PreferenceModel, states: Float[Tensor, "users s"], embeddings: Embeddings, comparisons: Comparisons
) -> Float[Tensor, " n"]:
    """Reward of the chosen response less that of the rejected one, for each comparison's user.

    The model is in evaluation mode; `comparisons.user` points into `states`.
    """
    blocks = [
        model.margin(features.index_select(0, row), states.index_select(0, block.user)) * block.sign
        for block, features, row in feature_blocks(model, embeddings, comparisons)
    ]
    return torch.cat(blocks) if blocks else comparisons.sign


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

    The label is P(chosen is preferred), in [0, 1]; 0.5 is a tie. None stands for all ones.
    """
    if label is None:
        return loss(margin)
    return label * loss(margin) + (1 - label) * loss(-margin)


def mean_loss(margin: Float[Tensor, " n"], of: Comparisons, loss: str = "logistic") -> Float[Tensor, ""]:
    """Mean expected loss of comparisons at these margins; one of weight 2 counts as two."""
    losses = expected_loss(LOSSES[loss], margin, of.label)
    return losses.mean() if of.weight is None else (of.weight * losses).sum() / of.weight.sum()


def preference_probability(margin: Float[Tensor, "*n"], loss: str = "logistic") -> Float[Tensor, "*n"]:
    """P(first is preferred) of a margin: the sigmoid, for a model fitted with the logistic loss.

    Minus a hinge loss serves as a pseudo-log-likelihood.
    """
    cost = LOSSES[loss]
    return torch.sigmoid(cost(-margin) - cost(margin))


class Expected(NamedTuple):
    """What an answer is expected to be: 1 the first is preferred, 0.5 a tie, 0 the second."""

    label: Float[Tensor, "*n"]  # its mean
    variance: Float[Tensor, "*n"]
    tie: Float[Tensor, "*n"] | float  # chance of one


def expected_answer(margin: Float[Tensor, "*n"], ties: float = 0.0) -> Expected:
    """Bradley-Terry with ties (Davidson, 1970): chances go as exp(margin / 2), `ties` and exp(-margin / 2).

    An answer's label less the mean is the gradient of its log-likelihood, and minus the variance its second
    derivative. Among answers that are no ties the chance of the first is the sigmoid, whatever `ties` is; of
    two responses alike a share of ties / (2 + ties) is tied.
    """
    if not ties:
        first = torch.sigmoid(margin)
        return Expected(first, first * (1 - first), 0.0)
    half = margin / 2
    logits = torch.stack([half, torch.full_like(half, math.log(ties)), -half])
    first, tie, _ = torch.softmax(logits, 0)
    mean = first + tie / 2
    return Expected(mean, first + tie / 4 - mean.square(), tie)
