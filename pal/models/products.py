"""Scores of wide heads from bfloat16 vectors, in float32 and without a float32 copy of any of them.

A comparison's margin is a difference of two numbers, so dot products are computed once per distinct pair of
prompt and response, and normalisation acts on them rather than on vectors. Vectors become float32 a block at
a time, within the cache.

Shapes used in this module:
    u       distinct pairs of prompt and response
    p, r    distinct prompts, distinct responses
    K       prototypes
    latent  width of the preference space
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.models.wide import blocks


class Products(torch.autograd.Function):
    """Dot products of responses with the prototypes at prompts, and the lengths to normalise them by.

    Cosines follow from these numbers, so that no vector is normalised, and no comparison gathers one: its
    margin is a difference of two numbers.
    """

    @staticmethod
    def forward(
        ctx: Any,
        f: Float[Tensor, "r latent"],
        g: Float[Tensor, "K p latent"],
        response: Int[Tensor, " u"],
        prompt: Int[Tensor, " u"],
    ) -> tuple[Float[Tensor, "K u"], Float[Tensor, " r"], Float[Tensor, "K K p"]]:
        """Dot products of pairs, squared lengths of the responses, Gram matrices of the prompts.

        Args:
            ctx: What backward needs.
            f: The responses.
            g: The prototypes at the prompts.
            response: Each pair's response, ascending, every row of `f` at least once.
            prompt: Each pair's prompt; no pair twice.
        """
        products = torch.empty(len(g), len(prompt), device=f.device)
        square = torch.empty(len(f), device=f.device)
        gram = torch.empty(len(g), *g.shape[:2], device=f.device)
        for some, pairs in _runs(response, len(f)):
            one = f[some].float()
            square[some] = torch.linalg.vecdot(one, one)
            one = _spread(one, response[pairs] - some.start)
            for k, member in enumerate(g):
                other = member.index_select(0, prompt[pairs]).float()
                products[k, pairs] = torch.linalg.vecdot(one, other)
        for some in blocks(g.shape[1], g.device):
            one = g[:, some].float()
            gram[:, :, some] = torch.linalg.vecdot(one[:, None], one[None])
        ctx.save_for_backward(f, g, response, prompt)
        return products, square, gram

    @staticmethod
    def backward(
        ctx: Any, d_products: Tensor, d_square: Tensor, d_gram: Tensor
    ) -> tuple[Tensor, Tensor, None, None]:
        """Gradients of f and g."""
        f, g, response, prompt = ctx.saved_tensors
        d_f, d_g = torch.empty_like(f), torch.zeros(g.shape, device=g.device)
        for some, pairs in _runs(response, len(f)):
            one, home, at = f[some].float(), response[pairs] - some.start, prompt[pairs]
            to_f = 2 * d_square[some, None] * one
            one = _spread(one, home)
            for k, member in enumerate(g):
                d = d_products[k, pairs, None]
                d_g[k].index_add_(0, at, d * one)
                _gather_add(to_f, home, d * member.index_select(0, at).float())
            d_f[some] = to_f
        both = d_gram + d_gram.transpose(0, 1)
        for some in blocks(g.shape[1], g.device):
            one = g[:, some].float()
            d_g[:, some] += torch.einsum("klp,lpd->kpd", both[:, :, some], one)
        return d_f, d_g.to(g.dtype), None, None


def _runs(response: Int[Tensor, " u"], n: int) -> list[tuple[slice, slice]]:
    """Blocks of responses, each with its pairs, which follow each other."""
    some = blocks(n, response.device)
    edges = torch.tensor([block.start for block in some] + [n], device=response.device)
    edges = torch.searchsorted(response, edges).tolist()
    return list(zip(some, map(slice, edges[:-1], edges[1:]), strict=True))


def _spread(x: Float[Tensor, "n latent"], home: Int[Tensor, " u"]) -> Float[Tensor, "u latent"]:
    """Rows at their pairs; where each has one pair, as within Pick-a-Pic, they stand there already."""
    return x if len(home) == len(x) else x.index_select(0, home)


def _gather_add(x: Float[Tensor, "n latent"], home: Int[Tensor, " u"], y: Float[Tensor, "u latent"]) -> None:
    """The way back: add pairs' rows to those that they came from."""
    if len(home) == len(x):
        x.add_(y)
    else:
        x.index_add_(0, home, y)
