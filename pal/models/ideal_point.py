"""PAL model A: each user's ideal point is fixed, a convex mix of K prototypes.

Shapes used in this module:
    n         comparisons, or responses
    q         distinct questions
    points    points of the simplex
    K         prototypes
    latent    width of the preference space
    features  both responses' places in it, side by side
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from pal.comparisons import Embeddings, Questions, distinct_rows
from pal.config import HeadConfig
from pal.errors import PalError
from pal.models.base import PreferenceModel, PrototypeModel
from pal.models.mlp import StackedMLP, as_float32, gather


class MappedModel(PreferenceModel):
    """What models with ideal points share: f, which maps responses into the preference space.

    Args:
        config: The model's options.
        prompt_dim: Width of the prompts' embeddings; 0 where there are no prompts.
        response_dim: Width of the responses' embeddings.
    """

    def __init__(self, config: HeadConfig, *, prompt_dim: int, response_dim: int) -> None:
        super().__init__()
        self.config = config
        if self.needs_prompts and not prompt_dim:
            raise PalError("inputs must be 'response' where there are no prompts, got 'prompt_and_response'")
        self.f = StackedMLP(response_dim + prompt_dim * self.needs_prompts, 1, config)

    @override
    @property
    def needs_prompts(self) -> bool:
        return self.config.inputs == "prompt_and_response"

    def map_responses(
        self, prompts: Float[Tensor, "n prompt_dim"], responses: Float[Tensor, "n response_dim"]
    ) -> Float[Tensor, "n latent"]:
        """f: where responses lie in the preference space."""
        prompts, responses = as_float32(prompts), as_float32(responses)
        return self.f(torch.cat([prompts, responses], 1) if self.needs_prompts else responses)[0]

    @override
    def question_features(self, embeddings: Embeddings, questions: Questions) -> Float[Tensor, "q features"]:
        sides = torch.cat([questions.first, questions.second])
        if self.needs_prompts:
            prompts = gather(embeddings.prompts, questions.prompt)
            mapped = self.map_responses(prompts.repeat(2, 1), gather(embeddings.responses, sides))
            return torch.cat(as_float32(mapped).chunk(2), 1)
        rows, place = distinct_rows(sides, len(embeddings.responses))
        mapped = as_float32(self.f(gather(embeddings.responses, rows)).squeeze(0)).index_select(0, place)
        return torch.cat(mapped.chunk(2), 1)


class IdealPointModel(MappedModel, PrototypeModel):
    """PAL model A (PAL, eq. 2): a response x is worth -d(f(x), a), a the user's ideal point.

    a = Pw, f(Pw) or f(P)w with the user's weights w, and d the squared or plain distance.
    """

    def __init__(self, config: HeadConfig, *, prompt_dim: int, response_dim: int) -> None:
        super().__init__(config, prompt_dim=prompt_dim, response_dim=response_dim)
        dim = response_dim + prompt_dim * self.needs_prompts
        width = config.latent if config.prototypes == "latent" else dim
        self.prototypes = nn.Parameter(functional.normalize(torch.randn(config.K, width), dim=-1))

    @override
    @property
    def linear(self) -> bool:
        return self.config.distance == "squared" and self.config.prototypes != "input"

    def ideal_points(self, weights: Float[Tensor, "n K"]) -> Float[Tensor, "n latent"]:
        """Ideal points of users with these weights, in the preference space."""
        if self.config.prototypes == "input":
            return self.f(weights @ self.prototypes)[0]
        corners = self.f(self.prototypes)[0] if self.config.prototypes == "projected" else self.prototypes
        return weights @ corners

    @override
    def margin(
        self, features: Float[Tensor, "n features"], states: Float[Tensor, "n K"]
    ) -> Float[Tensor, " n"]:
        first, second = features.chunk(2, 1)
        ideal = self.ideal_points(states)
        if self.config.distance == "squared":  # |s-a|^2 - |f-a|^2 = (s-f).(s+f-2a): no cancellation
            return ((second - first) * (second + first - 2 * ideal)).sum(1)
        return _distance(second, ideal) - _distance(first, ideal)

    @override
    def margins_at(
        self, features: Float[Tensor, "q features"], states: Float[Tensor, "points K"]
    ) -> Float[Tensor, "q points"]:
        first, second = features.chunk(2, 1)
        ideal = self.ideal_points(states)
        if self.config.distance == "squared":
            apart = second - first
            return (apart * (second + first)).sum(1, keepdim=True) - 2 * apart @ ideal.T
        # One point at a time: (q, points, latent) would not fit into memory.
        return torch.stack(
            [_distance(second, a.expand_as(second)) - _distance(first, a.expand_as(first)) for a in ideal], 1
        )

    @override
    def reward(
        self,
        prompts: Float[Tensor, "n prompt_dim"],
        responses: Float[Tensor, "n response_dim"],
        states: Float[Tensor, "n K"],
    ) -> Float[Tensor, " n"]:
        """Minus the distance to the ideal point: never positive, 0 at it."""
        distance = _distance(self.map_responses(prompts, responses), self.ideal_points(states))
        return -(distance.square() if self.config.distance == "squared" else distance)

    @override
    def ideal_lengths(
        self, features: Float[Tensor, "n features"], states: Float[Tensor, "n K"]
    ) -> Float[Tensor, " n"]:
        ideal = self.ideal_points(states)
        return _distance(ideal, torch.zeros_like(ideal))


def _distance(x: Float[Tensor, "n latent"], y: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
    # The floor keeps the root's gradient finite at a distance of zero.
    return (x - y).square().sum(1).clamp_min(1e-12).sqrt()
