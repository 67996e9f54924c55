"""K rewards whose weights depend on the prompt and on the user (MiCRo: Shen et al., 2025).

Shapes: n comparisons or responses, q distinct questions, points of the simplex, K rewards, features (K
margins, and K numbers of the router).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from pal.comparisons import Embeddings, Questions
from pal.config import HeadConfig
from pal.models.base import PrototypeModel
from pal.models.mlp import gather

LEAST = 1e-6  # share of a user whose logarithm is still taken


class RoutedModel(PrototypeModel):
    """reward(c, x) = sum_k w_k(c) r_k(x), with w(c) in proportion to the user's shares times a router's.

    The router is linear in the prompt; without prompts it says the same of all, and the user's shares alone
    weigh.
    """

    def __init__(self, config: HeadConfig, *, prompt_dim: int, response_dim: int) -> None:
        super().__init__()
        self.config = config
        self.rewards = nn.Linear(response_dim, config.K, bias=False)
        self.router = nn.Linear(prompt_dim, config.K) if prompt_dim else None

    @override
    @property
    def needs_prompts(self) -> bool:
        return self.router is not None

    def route(self, prompts: Float[Tensor, "n prompt_dim"], n: int) -> Float[Tensor, "n K"]:
        """Logarithms of the router's weights, up to a constant."""
        return self.router(prompts) if self.router else self.rewards.weight.new_zeros(n, self.config.K)

    @override
    def question_features(self, embeddings: Embeddings, questions: Questions) -> Float[Tensor, "q features"]:
        apart = gather(embeddings.responses, questions.first) - gather(embeddings.responses, questions.second)
        prompts = apart if self.router is None else gather(embeddings.prompts, questions.prompt)
        return torch.cat([self.rewards(apart), self.route(prompts, len(questions))], 1)

    @override
    def margin(
        self, features: Float[Tensor, "n features"], states: Float[Tensor, "n K"]
    ) -> Float[Tensor, " n"]:
        margins, route = features.chunk(2, 1)
        return (margins * torch.softmax(route + states.clamp_min(LEAST).log(), 1)).sum(1)

    @override
    def margins_at(
        self, features: Float[Tensor, "q features"], states: Float[Tensor, "points K"]
    ) -> Float[Tensor, "q points"]:
        # (sum_k share_k e^route_k margin_k) / (sum_k share_k e^route_k)
        margins, route = features.chunk(2, 1)
        weight, shares = torch.softmax(route, 1), states.clamp_min(LEAST)
        return (weight * margins) @ shares.T / (weight @ shares.T)

    @override
    def reward(
        self,
        prompts: Float[Tensor, "n prompt_dim"],
        responses: Float[Tensor, "n response_dim"],
        states: Float[Tensor, "n K"],
    ) -> Float[Tensor, " n"]:
        route = self.route(prompts.float(), len(responses))
        return self.margin(torch.cat([self.rewards(responses.float()), route], 1), states)
