"""An ideal point of each person's own, in a space that all people share.

Shapes used in this module:
    n         comparisons, or responses
    q         distinct questions
    points    states that margins are taken at
    latent    width of the preference space
    state     latent, and a number that is always 1
"""

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from pal.comparisons import Embeddings, Questions
from pal.models.base import LinearInState
from pal.models.ideal_point import MappedModel


class FreePointModel(MappedModel, LinearInState):
    """A response x is worth -|f(x) - a|^2, less what is the same for all responses: 2 f(x).a - |f(x)|^2.

    The state is (a, 1), so that margins are linear in it. With a linear f the distance is a metric that all
    people share (Canal et al., 2022).
    """

    @override
    @property
    def state_dim(self) -> int:
        return self.config.latent + 1

    @override
    def free_to_states(self, free: Float[Tensor, "n state"]) -> Float[Tensor, "n state"]:
        return torch.cat([free[:, :-1], torch.ones_like(free[:, -1:])], 1)

    @override
    def question_features(self, embeddings: Embeddings, questions: Questions) -> Float[Tensor, "q state"]:
        first, second = super().question_features(embeddings, questions).chunk(2, 1)
        apart = first - second
        return torch.cat([2 * apart, -(apart * (first + second)).sum(1, keepdim=True)], 1)

    @override
    def reward(
        self,
        prompts: Float[Tensor, "n prompt_dim"],
        responses: Float[Tensor, "n response_dim"],
        states: Float[Tensor, "n state"],
    ) -> Float[Tensor, " n"]:
        place = self.map_responses(prompts, responses)
        return 2 * (place * states[:, :-1]).sum(1) - place.square().sum(1) * states[:, -1]
