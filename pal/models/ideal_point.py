"""Ideal points: PAL's model A (fixed), PAL's model B (a function of the prompt), and a free point a person.

Of the models A and B each user's ideal point is a convex mix of K prototypes that all users share.

Shapes, beside those of `pal.models.base`: r distinct responses, latent (width of the preference space); f is
both responses' places in the space, side by side, and of model B K products, and where margins are not linear
in the weights a K x K Gram matrix. Of a map: rows (inputs), dim of an input, stack (maps side by side: 1 for
f, K for the prototypes' functions g_k).
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from pal.comparisons import Embeddings, Questions, distinct_rows
from pal.config import HeadConfig
from pal.errors import PalError
from pal.models.base import LinearInState, PreferenceModel, PrototypeModel, as_float32, gather


class MappedModel(PreferenceModel):
    """What models with ideal points share: f, which maps responses into the preference space."""

    def __init__(self, config: HeadConfig, *, prompt_dim: int, response_dim: int) -> None:
        super().__init__()
        self.config, self.needs_prompts = config, config.inputs == "prompt_and_response"
        if self.needs_prompts and not prompt_dim:
            raise PalError("inputs must be 'response' where there are no prompts, got 'prompt_and_response'")
        self.f = StackedMLP(response_dim + prompt_dim * self.needs_prompts, 1, config)

    def map_responses(
        self, prompts: Float[Tensor, "n c"], responses: Float[Tensor, "n x"]
    ) -> Float[Tensor, "n latent"]:
        """f: where responses lie in the preference space."""
        prompts, responses = as_float32(prompts), as_float32(responses)
        return self.f(torch.cat([prompts, responses], 1) if self.needs_prompts else responses)[0]

    @override
    def question_features(self, embeddings: Embeddings, questions: Questions) -> Float[Tensor, "q f"]:
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
        self.linear = config.distance == "squared" and config.prototypes != "input"

    def ideal_points(self, weights: Float[Tensor, "n K"]) -> Float[Tensor, "n latent"]:
        """Ideal points of users with these weights, in the preference space."""
        if self.config.prototypes == "input":
            return self.f(weights @ self.prototypes)[0]
        corners = self.f(self.prototypes)[0] if self.config.prototypes == "projected" else self.prototypes
        return weights @ corners

    @override
    def margin(self, features: Float[Tensor, "n f"], states: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
        first, second = features.chunk(2, 1)
        ideal = self.ideal_points(states)
        if self.config.distance == "squared":  # |s-a|^2 - |f-a|^2 = (s-f).(s+f-2a): no cancellation
            return ((second - first) * (second + first - 2 * ideal)).sum(1)
        return _distance(second, ideal) - _distance(first, ideal)

    @override
    def margins_at(
        self, features: Float[Tensor, "q f"], states: Float[Tensor, "points K"]
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
        self, prompts: Float[Tensor, "n c"], responses: Float[Tensor, "n x"], states: Float[Tensor, "n K"]
    ) -> Float[Tensor, " n"]:
        """Minus the distance to the ideal point: never positive, 0 at it."""
        distance = _distance(self.map_responses(prompts, responses), self.ideal_points(states))
        return -(distance.square() if self.config.distance == "squared" else distance)

    @override
    def ideal_norm(self, features: Float[Tensor, "n f"], states: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
        ideal = self.ideal_points(states)
        return _distance(ideal, torch.zeros_like(ideal))


def _distance(x: Float[Tensor, "n latent"], y: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
    # The floor keeps the root's gradient finite at a distance of zero.
    return (x - y).square().sum(1).clamp_min(1e-12).sqrt()


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
    def free_to_states(self, free: Float[Tensor, "n s"]) -> Float[Tensor, "n s"]:
        return torch.cat([free[:, :-1], torch.ones_like(free[:, -1:])], 1)

    @override
    def question_features(self, embeddings: Embeddings, questions: Questions) -> Float[Tensor, "q s"]:
        first, second = super().question_features(embeddings, questions).chunk(2, 1)
        apart = first - second
        return torch.cat([2 * apart, -(apart * (first + second)).sum(1, keepdim=True)], 1)

    @override
    def reward(
        self, prompts: Float[Tensor, "n c"], responses: Float[Tensor, "n x"], states: Float[Tensor, "n s"]
    ) -> Float[Tensor, " n"]:
        place = self.map_responses(prompts, responses)
        return 2 * (place * states[:, :-1]).sum(1) - place.square().sum(1) * states[:, -1]


MAX_SCALE = 100.0


class PromptedIdealPointModel(PrototypeModel):
    """PAL model B: a response x is worth scale * cos(f(x), z(c)), or their plain inner product.

    The ideal point for prompt c is z(c) = sum_k w_k g_k(c), w the user's weights. With `normalise='each'`,
    the g_k are brought to unit length before mixing and z is not after it.
    """

    needs_prompts = True

    def __init__(self, config: HeadConfig, *, prompt_dim: int, response_dim: int) -> None:
        super().__init__()
        self.config = config
        self.linear = config.similarity == "inner" or config.normalise == "each"
        if not prompt_dim:
            raise PalError("model must be 'A' where there are no prompts, got 'B'")
        self.f = StackedMLP(response_dim, 1, config)
        self.g = StackedMLP(prompt_dim, config.K, config)
        log_scale = torch.tensor(math.log(config.scale))
        if config.learn_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """Factor of the cosine, at most 100; 1 for the inner product."""
        if self.config.similarity == "inner":
            return torch.ones((), device=self.log_scale.device)
        return self.log_scale.exp().clamp(max=MAX_SCALE)

    @override
    def question_features(self, embeddings: Embeddings, questions: Questions) -> Float[Tensor, "q f"]:
        """The K products of f(first) - f(second) with the g_k; where not linear, their Gram matrix too."""
        prompt_rows, prompt = distinct_rows(questions.prompt, len(embeddings.prompts))
        sides = torch.cat([questions.first, questions.second])
        response_rows, response = distinct_rows(sides, len(embeddings.responses))
        g = self.g(gather(embeddings.prompts, prompt_rows))
        f = self.f(gather(embeddings.responses, response_rows)).squeeze(0)
        with torch.autocast(f.device.type, enabled=False):
            if f.dtype == torch.bfloat16:
                return self._half_features(g, f, prompt, response)
            if self.config.similarity == "cosine":
                f = functional.normalize(f, dim=-1) * self.scale
                g = functional.normalize(g, dim=-1) if self.linear else g
            first, second = response.chunk(2)
            apart = f.index_select(0, first) - f.index_select(0, second)
            products = (g.index_select(1, prompt) * apart).sum(-1).T
            if self.linear:
                return products
            gram = torch.einsum("kpd,lpd->pkl", g, g).flatten(1)
            return torch.cat([products, gram.index_select(0, prompt)], 1)

    def _half_features(
        self,
        g: Float[Tensor, "K p latent"],
        f: Float[Tensor, "r latent"],
        prompt: Int[Tensor, " q"],
        response: Int[Tensor, " sides"],
    ) -> Float[Tensor, "q f"]:
        """The same from bfloat16 vectors without a float32 copy: lengths divide products, not vectors.

        Products are taken once for each distinct pair of prompt and response.
        """
        pairs, place = torch.unique(response * g.shape[1] + prompt.repeat(2), return_inverse=True)
        of_response, of_prompt = pairs // g.shape[1], pairs % g.shape[1]
        rows = f if len(pairs) == len(f) else f.index_select(0, of_response)
        products = _Dots.apply(rows, g.index_select(1, of_prompt))
        if self.config.similarity == "cosine":
            # The floor of `functional.normalize`, squared.
            products = products * (self.scale * _rsqrt(_Dots.apply(f, f), 1e-24))[of_response]
            if self.config.normalise == "each":
                products = products * _rsqrt(_Dots.apply(g, g), 1e-24)[:, of_prompt]
        first, second = products.index_select(1, place).T.chunk(2)
        if self.linear:
            return first - second
        gram = _Dots.apply(g[:, None], g[None]).flatten(0, 1).T
        return torch.cat([first - second, gram.index_select(0, prompt)], 1)

    @override
    def margin(self, features: Float[Tensor, "n f"], states: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
        along = (features[:, : self.config.K] * states).sum(1)
        # The floor makes a mix whose members cancel score 0 in place of NaN.
        return along if self.linear else along * _rsqrt(self._square_lengths(features, states), 1e-12)

    def _square_lengths(
        self, features: Float[Tensor, "n f"], states: Float[Tensor, "n K"]
    ) -> Float[Tensor, " n"]:
        K = self.config.K
        return torch.einsum("nkl,nk,nl->n", features[:, K:].view(-1, K, K), states, states)

    @override
    def margins_at(
        self, features: Float[Tensor, "q f"], states: Float[Tensor, "points K"]
    ) -> Float[Tensor, "q points"]:
        K = self.config.K
        along = features[:, :K] @ states.T
        if self.linear:
            return along
        outer = (states[:, :, None] * states[:, None, :]).flatten(1)
        return along * _rsqrt(features[:, K:] @ outer.T, 1e-12)

    @override
    def reward(
        self, prompts: Float[Tensor, "n c"], responses: Float[Tensor, "n x"], states: Float[Tensor, "n K"]
    ) -> Float[Tensor, " n"]:
        """Scaled cosine (or inner product) of response and ideal point; within +-scale."""
        row = torch.arange(len(prompts), device=prompts.device)
        return self.reward_embedded(self.embed_prompts(prompts), row, responses, states)

    @override
    def embed_prompts(self, prompts: Float[Tensor, "p c"]) -> Float[Tensor, "p K latent"]:
        """The g_k of prompts."""
        g = self.g(prompts.to(self.log_scale.dtype)).transpose(0, 1)
        return functional.normalize(g, dim=-1) if self.config.similarity == "cosine" and self.linear else g

    @override
    def reward_embedded(
        self,
        embedded: Float[Tensor, "p K latent"],
        prompt: Int[Tensor, " n"],
        responses: Float[Tensor, "n x"],
        states: Float[Tensor, "*n K"],
    ) -> Float[Tensor, " n"]:
        f = self.f(responses.to(self.log_scale.dtype))[0]
        if self.config.similarity == "cosine":
            f = functional.normalize(f, dim=-1) * self.scale
        if states.dim() == 1 and len(embedded) < len(prompt):  # one user: mix once for each distinct prompt
            ideal = torch.einsum("pkd,k->pd", embedded, states).index_select(0, prompt)
        else:
            states = states.expand(len(responses), -1)
            ideal = torch.einsum("nkd,nk->nd", embedded.index_select(0, prompt), states)
        if not self.linear:
            ideal = functional.normalize(ideal, dim=-1)
        return (f * ideal).sum(1)

    @override
    def ideal_norm(self, features: Float[Tensor, "n f"], states: Float[Tensor, "n K"]) -> Float[Tensor, " n"]:
        if self.linear:
            raise PalError(
                "bound_loss must be 0 where model B is linear in the weights: no lengths of ideal points are "
                "kept; set similarity to cosine and normalise to mixed"
            )
        # The floor keeps the root's gradient finite where prototypes cancel.
        return self._square_lengths(features, states).clamp_min(1e-12).sqrt()


class _Dots(torch.autograd.Function):
    """Dot products of bfloat16 vectors with float32 sums; the gradient of torch's own copies twice more."""

    @staticmethod
    @override
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return (x * y).sum(-1, dtype=torch.float32)

    @staticmethod
    @override
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x, y = ctx.saved_tensors  # type: ignore[attr-defined]
        half = grad.to(x.dtype)[..., None]
        return (half * y).sum_to_size(x.shape), (half * x).sum_to_size(y.shape)


def _rsqrt(square: Float[Tensor, "*n"], floor: float) -> Float[Tensor, "*n"]:
    return square.clamp_min(floor).rsqrt()


ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


class StackedMLP(nn.Module):
    """`stack` perceptrons of the same shape on the same input.

    The first layers of all members, and their skips, are one matrix product: a small head spends its time in
    calls, not in arithmetic.
    """

    def __init__(self, dim: int, stack: int, config: HeadConfig) -> None:
        super().__init__()
        self.stack, self.latent, self.unit = stack, config.latent, config.normalise_inputs
        width = config.hidden or config.latent
        self.hidden = width if config.hidden_layers else 0
        self.identity = bool(config.skip and self.hidden and dim == config.latent)
        linear_skip = config.skip and self.hidden and not self.identity
        self.skip_width = config.latent if linear_skip or not self.hidden else 0
        self.first = nn.Linear(dim, stack * (self.hidden + self.skip_width), bias=config.bias)
        widths = [width] * config.hidden_layers + [config.latent]
        self.later = nn.ModuleList(BatchedLinear(stack, a, b, bias=config.bias) for a, b in pairwise(widths))
        drop, activate = ByteDropout(config.dropout), ACTIVATIONS[config.activation]()
        self.activation = nn.Sequential(*((drop, activate) if config.dropout_first else (activate, drop)))

    def forward(self, x: Float[Tensor, "rows dim"]) -> Float[Tensor, "stack rows latent"]:
        """Map each row by every member."""
        if self.unit:
            x = functional.normalize(x, dim=-1)
        h, skip = self.first(x).split([self.stack * self.hidden, self.stack * self.skip_width], 1)
        h = h.reshape(len(x), self.stack, self.hidden).transpose(0, 1)
        for layer in self.later:
            h = layer(self.activation(h))
        if not self.skip_width:
            return h + x if self.identity else h
        skip = skip.reshape(len(x), self.stack, self.latent).transpose(0, 1)
        return h + skip if self.hidden else skip


class BatchedLinear(nn.Module):
    """`stack` linear layers, each on its own input, initialised as `torch.nn.Linear` is."""

    def __init__(self, stack: int, dim: int, out: int, *, bias: bool) -> None:
        super().__init__()
        bound = dim**-0.5
        self.weight = nn.Parameter(torch.empty(stack, dim, out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(stack, 1, out).uniform_(-bound, bound)) if bias else None

    @override
    def forward(self, x: Float[Tensor, "stack rows dim"]) -> Float[Tensor, "stack rows out"]:
        if self.bias is None:
            return x @ self.weight
        if x.dtype == torch.bfloat16 and len(self.weight) == 1:  # half the time of baddbmm
            return functional.linear(x[0], self.weight[0].T, self.bias[0, 0])[None]
        return torch.baddbmm(self.bias, x, self.weight)


class ByteDropout(nn.Dropout):
    """Dropout that draws a byte for each element of a bfloat16 tensor; other tensors as `torch.nn.Dropout`.

    torch draws a float for each element on one thread, a fifth of a wide layer's step. Here eight elements
    share one random word, so the share dropped is a whole number of 256ths, by which the rest is scaled.
    """

    @override
    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        if x.dtype != torch.bfloat16 or not self.training or not self.p:
            return super().forward(x)
        level = min(max(round(self.p * 256), 1), 255)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        drawn = words.view(torch.uint8)[: x.numel()].view(x.shape)
        # A mask of bfloat16 from the start: a product with booleans is not vectorised.
        return x * torch.ge(drawn, level, out=torch.empty_like(x)).mul_(256 / (256 - level))
