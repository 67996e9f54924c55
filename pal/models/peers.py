"""Models of other papers: K rewards that a router weighs, and preferences that may go in circles.

Shapes: as in `pal.models.base`; features of K rewards are K margins, and K numbers of the router.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from pal.comparisons import Embeddings, Questions
from pal.config import HeadConfig
from pal.models.base import PrototypeModel, gather

LEAST = 1e-6  # share of a user whose logarithm is still taken


class RoutedModel(PrototypeModel):
    """reward(c, x) = sum_k w_k(c) r_k(x), with w(c) in proportion to the user's shares times a router's.

    The router is linear in the prompt; without prompts the user's shares alone weigh (MiCRo: Shen et al.,
    2025).
    """

    def __init__(self, config: HeadConfig, *, prompt_dim: int, response_dim: int) -> None:
        super().__init__()
        self.config, self.needs_prompts = config, prompt_dim > 0
        self.rewards = nn.Linear(response_dim, config.K, bias=False)
        self.router = nn.Linear(prompt_dim, config.K) if prompt_dim else None

    def route(self, prompts: Float[Tensor, "n c"], n: int) -> Float[Tensor, "n K"]:
        """Logarithms of the router's weights, up to a constant."""
        return self.router(prompts) if self.router else self.rewards.weight.new_zeros(n, self.config.K)

    @override
    def question_features(self, embeddings: Embeddings, questions: Questions) -> Float[Tensor, "q f"]:
        apart = gather(embeddings.responses, questions.first) - gather(embeddings.responses, questions.second)
        prompts = apart if self.router is None else gather(embeddings.prompts, questions.prompt)
        return torch.cat([self.rewards(apart), self.route(prompts, len(questions))], 1)

    @override
    def margin(self, features: Float[Tensor, "n f"], states: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
        margins, route = features.chunk(2, 1)
        return (margins * torch.softmax(route + states.clamp_min(LEAST).log(), 1)).sum(1)

    @override
    def margins_at(
        self, features: Float[Tensor, "q f"], states: Float[Tensor, "points K"]
    ) -> Float[Tensor, "q points"]:
        # (sum_k share_k e^route_k margin_k) / (sum_k share_k e^route_k)
        margins, route = features.chunk(2, 1)
        weight, shares = torch.softmax(route, 1), states.clamp_min(LEAST)
        return (weight * margins) @ shares.T / (weight @ shares.T)

    @override
    def reward(
        self, prompts: Float[Tensor, "n c"], responses: Float[Tensor, "n x"], states: Float[Tensor, "n K"]
    ) -> Float[Tensor, " n"]:
        route = self.route(prompts.float(), len(responses))
        return self.margin(torch.cat([self.rewards(responses.float()), route], 1), states)


class GeneralPreferenceModel(PrototypeModel):
    """margin(x, y) = sum_l g_l(c) (u_l(x) v_l(y) - v_l(x) u_l(y)): skew-symmetric, so not always transitive.

    It can say that a beats b, b beats c and c beats a (Zhang et al., 2024). One for everyone: the state, a
    point of the simplex, is not read. u and v are affine, `latent` planes; g are gates that read the prompt,
    1 without one. The reward of a single response is its margin over the mean of the responses that were
    learned from, `average`, as cycles leave no other order.
    """

    def __init__(self, config: HeadConfig, *, prompt_dim: int, response_dim: int) -> None:
        super().__init__()
        self.config, self.needs_prompts = config, prompt_dim > 0
        self.places = nn.Linear(response_dim, 2 * config.latent)
        self.gates = nn.Linear(prompt_dim, config.latent) if prompt_dim else None
        self.register_buffer("average", torch.zeros(response_dim))

    def compare(
        self, prompts: Float[Tensor, "n c"], first: Float[Tensor, "n x"], second: Float[Tensor, "n x"]
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
        self, prompts: Float[Tensor, "n c"], responses: Float[Tensor, "n x"], states: Float[Tensor, "n K"]
    ) -> Float[Tensor, " n"]:
        return self.compare(prompts.float(), responses.float(), self.average.expand_as(responses))
