"""A general preference model, which can say that a beats b, b beats c and c beats a (Zhang et al., 2024).

Shapes: n comparisons or responses, q distinct questions, points (states that margins are taken at).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from pal.comparisons import Embeddings, Questions
from pal.config import HeadConfig
from pal.models.base import PrototypeModel
from pal.models.mlp import gather


class GeneralPreferenceModel(PrototypeModel):
    """margin(x, y) = sum_l g_l(c) (u_l(x) v_l(y) - v_l(x) u_l(y)): skew-symmetric, so not always transitive.

    One for everyone: the state, a point of the simplex, is not read. u and v are affine, `latent` planes; g
    are gates that read the prompt, 1 without one. The reward of a single response is its margin over the
    mean of the responses that were learned from, `average`, as cycles leave no other order.
    """

    def __init__(self, config: HeadConfig, *, prompt_dim: int, response_dim: int) -> None:
        super().__init__()
        self.config = config
        self.places = nn.Linear(response_dim, 2 * config.latent)
        self.gates = nn.Linear(prompt_dim, config.latent) if prompt_dim else None
        self.register_buffer("average", torch.zeros(response_dim))

    @override
    @property
    def needs_prompts(self) -> bool:
        return self.gates is not None

    def compare(
        self,
        prompts: Float[Tensor, "n prompt_dim"],
        first: Float[Tensor, "n response_dim"],
        second: Float[Tensor, "n response_dim"],
    ) -> Float[Tensor, " n"]:
        """Margins of first over second."""
        (u, v), (of_second, beside) = self.places(first).chunk(2, 1), self.places(second).chunk(2, 1)
        planes = u * beside - v * of_second
        gates = 1.0 if self.gates is None else 2 * torch.sigmoid(self.gates(prompts))
        return (planes * gates).sum(1)

    @override
    def question_features(self, embeddings: Embeddings, questions: Questions) -> Float[Tensor, "q 1"]:
        first, second = (gather(embeddings.responses, rows) for rows in (questions.first, questions.second))
        prompts = first if self.gates is None else gather(embeddings.prompts, questions.prompt)
        return self.compare(prompts, first, second)[:, None]

    @override
    def margin(self, features: Float[Tensor, "n 1"], states: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
        return features[:, 0]

    @override
    def margins_at(
        self, features: Float[Tensor, "q 1"], states: Float[Tensor, "points K"]
    ) -> Float[Tensor, "q points"]:
        return features.expand(-1, len(states))

    @override
    def reward(
        self,
        prompts: Float[Tensor, "n prompt_dim"],
        responses: Float[Tensor, "n response_dim"],
        states: Float[Tensor, "n K"],
    ) -> Float[Tensor, " n"]:
        return self.compare(prompts.float(), responses.float(), self.average.expand_as(responses))
