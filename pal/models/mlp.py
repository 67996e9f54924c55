"""Stacked multi-layer perceptrons: several maps of one input, computed as one.

Shapes: rows (inputs mapped together), dim of an input, stack (maps side by side: 1 for f, K for the
prototypes' functions g_k), latent (width of an output).
"""

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from pal.config import HeadConfig

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


class StackedMLP(nn.Module):
    """`stack` perceptrons of the same shape on the same input.

    The first layers of all members, and their skips, are one matrix product: a small head spends its time in
    calls, not in arithmetic.
    """

    def __init__(self, dim: int, stack: int, config: HeadConfig) -> None:
        super().__init__()
        self.stack, self.latent = stack, config.latent
        self.unit = config.normalise_inputs
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
        first = self.first(x)
        if not self.hidden:
            return first.view(len(x), self.stack, self.latent).transpose(0, 1)
        h, skip = first, None
        if self.skip_width:
            h, skip = first.split([self.stack * self.hidden, self.stack * self.skip_width], 1)
        h = h.reshape(len(x), self.stack, self.hidden).transpose(0, 1)
        for layer in self.later:
            h = layer(self.activation(h))
        if self.identity:
            return h + x
        if skip is not None:
            return h + skip.reshape(len(x), self.stack, self.latent).transpose(0, 1)
        return h


def gather(table: Float[Tensor, "n dim"], rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows dim"]:
    """Rows of a table, bfloat16 under bfloat16 autocast; else half precision becomes float32."""
    kind = table.device.type
    if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16:
        return table.index_select(0, rows).bfloat16()
    return as_float32(table.index_select(0, rows))


def as_float32(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """A tensor of half precision as float32, any other as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


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
