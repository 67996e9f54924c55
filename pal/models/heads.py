"""Reward heads: a response is worth how near it lies to its user's ideal point.

A head reads each distinct question once (`read`), into a few numbers that no longer depend on the encoder's
width; margins of any user then follow from these numbers and the user's weights alone. Fitting, adapting and
evaluating all stand on this.

Shapes used in this module:
    n        comparisons
    q        distinct questions
    points   points of the simplex
    K        prototypes
    latent   width of the preference space
    read     numbers kept per question
"""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from pal.comparisons import Embeddings, Questions, distinct_rows
from pal.config import HeadConfig
from pal.errors import PalError
from pal.models import wide
from pal.models.mlp import StackedMLP, gather, single
from pal.models.products import Products

MAX_SCALE = 100.0
NUMBERS_AT_ONCE = 1 << 25  # of one layer, where questions are read outside training


class Head(nn.Module, ABC):
    """What the two models share: read questions once, then compare for any weights."""

    config: HeadConfig

    @property
    @abstractmethod
    def linear(self) -> bool:
        """Whether margins are linear in the weights: few-shot fitting is then convex."""

    @property
    def needs_prompts(self) -> bool:
        """Whether questions without a prompt cannot be read."""
        return self.config.model == "B" or self.config.inputs == "prompt_and_response"

    @property
    def questions_at_once(self) -> int:
        """Questions to read at once, so that memory stays bounded however wide the layers are."""
        widest = max(side for parameter in self.parameters() for side in parameter.shape)
        return min(1 << 18, max(1, NUMBERS_AT_ONCE // widest))

    @abstractmethod
    def read(self, embeddings: Embeddings, questions: Questions) -> Float[Tensor, "q read"]:
        """Reduce each question to the numbers from which any user's margin follows."""

    @abstractmethod
    def margin(self, read: Float[Tensor, "n read"], weights: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
        """Reward of each question's first response less that of its second, under aligned weights."""

    @abstractmethod
    def margins_at(
        self, read: Float[Tensor, "q read"], points: Float[Tensor, "points K"]
    ) -> Float[Tensor, "q points"]:
        """The margin of every question at every point of the simplex."""

    @abstractmethod
    def reward(
        self,
        prompts: Float[Tensor, "n prompt_dim"],
        responses: Float[Tensor, "n response_dim"],
        weights: Float[Tensor, "n K"],
    ) -> Float[Tensor, " n"]:
        """Score each response for aligned weights; only differences for one user and prompt mean anything."""

    @abstractmethod
    def ideal_lengths(
        self, read: Float[Tensor, "n read"], weights: Float[Tensor, "n K"]
    ) -> Float[Tensor, " n"]:
        """How long each aligned user's ideal point is, for the question's prompt, before normalisation.

        Raises:
            PalError: If what was read does not tell.
        """

    def prototype_margins(self, read: Float[Tensor, "q read"]) -> Float[Tensor, "q K"]:
        """The margin of every question for a user at each prototype."""
        return self.margins_at(read, torch.eye(self.config.K, device=read.device))


class FixedIdealPoints(Head):
    """PAL model A: each user's ideal point is fixed, a convex mix of K prototypes (PAL, eq. 2).

    A response x is worth -d(f(x), a), with a = Pw, f(Pw) or f(P)w and d the squared or plain distance.

    Args:
        config: The head's options.
        prompt_dim: Width of the prompts' embeddings; 0 where there are no prompts.
        response_dim: Width of the responses' embeddings.
    """

    def __init__(self, config: HeadConfig, *, prompt_dim: int, response_dim: int) -> None:
        super().__init__()
        self.config = config
        self.joint = self.needs_prompts
        if self.joint and not prompt_dim:
            raise PalError("inputs must be 'response' where there are no prompts, got 'prompt_and_response'")
        dim = response_dim + prompt_dim * self.joint
        self.f = StackedMLP(dim, 1, config)
        width = config.latent if config.prototypes == "latent" else dim
        self.prototypes = nn.Parameter(functional.normalize(torch.randn(config.K, width), dim=-1))

    @override
    @property
    def linear(self) -> bool:
        return self.config.distance == "squared" and self.config.prototypes != "input"

    def ideal_points(self, weights: Float[Tensor, "n K"]) -> Float[Tensor, "n latent"]:
        """Where users of these weights stand in the preference space."""
        if self.config.prototypes == "input":
            return self.f(weights @ self.prototypes)[0]
        home = self.f(self.prototypes)[0] if self.config.prototypes == "projected" else self.prototypes
        return weights @ home

    def map_responses(
        self, prompts: Float[Tensor, "n prompt_dim"], responses: Float[Tensor, "n response_dim"]
    ) -> Float[Tensor, "n latent"]:
        """f: where responses lie in the preference space."""
        prompts, responses = single(prompts), single(responses)
        return self.f(torch.cat([prompts, responses], 1) if self.joint else responses)[0]

    @override
    def read(self, embeddings: Embeddings, questions: Questions) -> Float[Tensor, "q read"]:
        """Both responses' places in the preference space, side by side."""
        if self.joint:
            prompts = gather(embeddings.prompts, questions.prompt)
            responses = gather(embeddings.responses, torch.cat([questions.first, questions.second]))
            mapped = single(self.map_responses(prompts.repeat(2, 1), responses))
            return torch.cat(mapped.chunk(2), 1)
        rows, place = distinct_rows(torch.cat([questions.first, questions.second]), len(embeddings.responses))
        mapped = single(self.f.of_rows(embeddings.responses, rows).squeeze(0)).index_select(0, place)
        return torch.cat(mapped.chunk(2), 1)

    @override
    def margin(self, read: Float[Tensor, "n read"], weights: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
        first, second = read.chunk(2, 1)
        ideal = self.ideal_points(weights)
        if self.config.distance == "squared":  # |s-a|^2 - |f-a|^2 = (s-f).(s+f-2a): no cancellation
            return ((second - first) * (second + first - 2 * ideal)).sum(1)
        return _distance(second, ideal) - _distance(first, ideal)

    @override
    def ideal_lengths(
        self, read: Float[Tensor, "n read"], weights: Float[Tensor, "n K"]
    ) -> Float[Tensor, " n"]:
        ideal = self.ideal_points(weights)
        return _distance(ideal, torch.zeros_like(ideal))

    @override
    def margins_at(
        self, read: Float[Tensor, "q read"], points: Float[Tensor, "points K"]
    ) -> Float[Tensor, "q points"]:
        first, second = read.chunk(2, 1)
        ideal = self.ideal_points(points)
        if self.config.distance == "squared":
            apart = second - first
            return (apart * (second + first)).sum(1, keepdim=True) - 2 * apart @ ideal.T
        return _distances(second, ideal) - _distances(first, ideal)

    @override
    def reward(
        self,
        prompts: Float[Tensor, "n prompt_dim"],
        responses: Float[Tensor, "n response_dim"],
        weights: Float[Tensor, "n K"],
    ) -> Float[Tensor, " n"]:
        """Minus the distance to the ideal point: never positive, 0 at it."""
        distance = _distance(self.map_responses(prompts, responses), self.ideal_points(weights))
        return -(distance.square() if self.config.distance == "squared" else distance)


class PromptedIdealPoints(Head):
    """PAL model B: the ideal point is a function of the prompt, z(c) = sum_k w_k g_k(c).

    A response x is worth scale * cos(f(x), z(c)), or their plain inner product. With `normalise='each'`,
    the g_k are brought to unit length before mixing and z is not after it.

    Args:
        config: The head's options.
        prompt_dim: Width of the prompts' embeddings.
        response_dim: Width of the responses' embeddings.
    """

    def __init__(self, config: HeadConfig, *, prompt_dim: int, response_dim: int) -> None:
        super().__init__()
        self.config = config
        if not prompt_dim:
            raise PalError("model must be 'A' where there are no prompts, got 'B'")
        self.f = StackedMLP(response_dim, 1, config)
        self.g = StackedMLP(prompt_dim, config.K, config)
        log_scale = torch.tensor(math.log(config.scale))
        if config.learn_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    @override
    @property
    def linear(self) -> bool:
        return self.config.similarity == "inner" or self.config.normalise == "each"

    @property
    def scale(self) -> Float[Tensor, ""]:
        """What the cosine is multiplied by, at most 100; 1 for the inner product."""
        if self.config.similarity == "inner":
            return torch.ones((), device=self.log_scale.device)
        return self.log_scale.exp().clamp(max=MAX_SCALE)

    def _map(
        self, prompts: Float[Tensor, "p prompt_dim"], responses: Float[Tensor, "r response_dim"]
    ) -> tuple[Float[Tensor, "K p latent"], Float[Tensor, "r latent"]]:
        """The g_k of the prompts and f of the responses, normalised as the options say."""
        return self._normalised(self.g(single(prompts)), self.f(single(responses))[0])

    def _normalised(
        self, g: Float[Tensor, "K p latent"], f: Float[Tensor, "r latent"]
    ) -> tuple[Float[Tensor, "K p latent"], Float[Tensor, "r latent"]]:
        if self.config.similarity == "cosine":
            f = functional.normalize(f, dim=-1) * self.scale
            g = functional.normalize(g, dim=-1) if self.config.normalise == "each" else g
        return g, f

    @override
    def read(self, embeddings: Embeddings, questions: Questions) -> Float[Tensor, "q read"]:
        """The K products of f(first) - f(second) with the g_k; where not linear, their Gram matrix too."""
        prompt_rows, prompt = distinct_rows(questions.prompt, len(embeddings.prompts))
        sides = torch.cat([questions.first, questions.second])
        response_rows, response = distinct_rows(sides, len(embeddings.responses))
        g = self.g.of_rows(embeddings.prompts, prompt_rows)
        f = self.f.of_rows(embeddings.responses, response_rows).squeeze(0)
        half = wide.autocasting(f)
        with torch.autocast(f.device.type, enabled=False):
            if half:
                return self._read_products(g, f, prompt, response)
            return self._read(g, f, prompt, response)

    def _read(
        self,
        g: Float[Tensor, "K p latent"],
        f: Float[Tensor, "r latent"],
        prompt: Int[Tensor, " q"],
        response: Int[Tensor, " sides"],
    ) -> Float[Tensor, "q read"]:
        """From g of the prompts and f of the responses, with their places in the questions."""
        g, f = self._normalised(g, f)
        first, second = response.chunk(2)
        apart = f.index_select(0, first) - f.index_select(0, second)
        products = (g.index_select(1, prompt) * apart).sum(-1).T
        if self.linear:
            return products
        gram = torch.einsum("kpd,lpd->pkl", g, g).flatten(1)
        return torch.cat([products, gram.index_select(0, prompt)], 1)

    def _read_products(
        self,
        g: Float[Tensor, "K p latent"],
        f: Float[Tensor, "r latent"],
        prompt: Int[Tensor, " q"],
        response: Int[Tensor, " sides"],
    ) -> Float[Tensor, "q read"]:
        """The same from bfloat16 vectors, by way of dot products of distinct pairs of prompt and response."""
        keys, place = torch.unique(response * g.shape[1] + prompt.repeat(2), return_inverse=True)
        at_response, at_prompt = keys // g.shape[1], keys % g.shape[1]
        products, square, gram = Products.apply(f, g, at_response, at_prompt)
        if self.config.similarity == "cosine":
            products = products * (self.scale * _inverse_length(square))[at_response]
            if self.config.normalise == "each":
                lengths = gram.diagonal().T
                products = products * _inverse_length(lengths)[:, at_prompt]
        first, second = products.index_select(1, place).T.chunk(2)
        if self.linear:
            return first - second
        return torch.cat([first - second, gram.flatten(0, 1).T.index_select(0, prompt)], 1)

    @override
    def margin(self, read: Float[Tensor, "n read"], weights: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
        K = self.config.K
        along = (read[:, :K] * weights).sum(1)
        if self.linear:
            return along
        return along * _inverse_root(self._square_lengths(read, weights))

    def _square_lengths(
        self, read: Float[Tensor, "n read"], weights: Float[Tensor, "n K"]
    ) -> Float[Tensor, " n"]:
        K = self.config.K
        return torch.einsum("nkl,nk,nl->n", read[:, K:].view(-1, K, K), weights, weights)

    @override
    def ideal_lengths(
        self, read: Float[Tensor, "n read"], weights: Float[Tensor, "n K"]
    ) -> Float[Tensor, " n"]:
        if self.linear:
            raise PalError(
                "bound_loss must be 0 where model B is linear in the weights: no lengths of ideal points are "
                "kept; set similarity to cosine and normalise to mixed"
            )
        # The floor keeps the root's gradient finite where prototypes cancel.
        return self._square_lengths(read, weights).clamp_min(1e-12).sqrt()

    @override
    def margins_at(
        self, read: Float[Tensor, "q read"], points: Float[Tensor, "points K"]
    ) -> Float[Tensor, "q points"]:
        K = self.config.K
        along = read[:, :K] @ points.T
        if self.linear:
            return along
        outer = (points[:, :, None] * points[:, None, :]).flatten(1)
        return along * _inverse_root(read[:, K:] @ outer.T)

    @override
    def reward(
        self,
        prompts: Float[Tensor, "n prompt_dim"],
        responses: Float[Tensor, "n response_dim"],
        weights: Float[Tensor, "n K"],
    ) -> Float[Tensor, " n"]:
        """Scaled cosine (or inner product) of response and ideal point; within +-scale."""
        g, f = self._map(prompts, responses)
        ideal = torch.einsum("knd,nk->nd", g, weights)
        if not self.linear:
            ideal = functional.normalize(ideal, dim=-1)
        return (f * ideal).sum(1)


def make_head(config: HeadConfig, *, prompt_dim: int, response_dim: int) -> Head:
    """The head that a config describes, freshly initialised from torch's global generator.

    Raises:
        PalError: If the config needs prompts and there are none.
    """
    kind = FixedIdealPoints if config.model == "A" else PromptedIdealPoints
    return kind(config, prompt_dim=prompt_dim, response_dim=response_dim)


def _distance(x: Float[Tensor, "n latent"], y: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
    # The floor keeps the root's gradient finite at a distance of zero.
    return (x - y).square().sum(1).clamp_min(1e-12).sqrt()


def _distances(x: Float[Tensor, "q latent"], y: Float[Tensor, "points latent"]) -> Float[Tensor, "q points"]:
    return torch.stack([_distance(x, point.expand_as(x)) for point in y], 1)


def _inverse_root(square: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    # The floor makes a mix whose parts cancel score 0 in place of NaN.
    return square.clamp_min(1e-12).rsqrt()


def _inverse_length(square: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    # The floor of `functional.normalize`, squared.
    return square.clamp_min(1e-24).rsqrt()
