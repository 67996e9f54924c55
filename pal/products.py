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

from pal.wide import blocks


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
        once = len(response) == len(f)  # each response met at one prompt: pairs are in the responses' order
        for place in blocks(len(prompt), f.device):
            one = (f[place] if once else f.index_select(0, response[place])).float()
            for k, member in enumerate(g):
                other = member.index_select(0, prompt[place]).float()
                products[k, place] = torch.linalg.vecdot(one, other)
            if once:
                square[place] = torch.linalg.vecdot(one, one)
        for place in () if once else blocks(len(f), f.device):
            one = f[place].float()
            square[place] = torch.linalg.vecdot(one, one)
        for place in blocks(g.shape[1], f.device):
            some = g[:, place].float()
            gram[:, :, place] = torch.linalg.vecdot(some[:, None], some[None])
        ctx.save_for_backward(f, g, response, prompt)
        return products, square, gram

    @staticmethod
    def backward(
        ctx: Any, d_products: Tensor, d_square: Tensor, d_gram: Tensor
    ) -> tuple[Tensor, Tensor, None, None]:
        """Gradients of f and g."""
        f, g, response, prompt = ctx.saved_tensors
        d_g = torch.zeros(g.shape, device=g.device)
        once = len(response) == len(f)
        d_f = torch.empty_like(f) if once else torch.zeros(f.shape, device=f.device)
        for place in blocks(len(prompt), f.device):
            one, at = (f[place] if once else f.index_select(0, response[place])).float(), prompt[place]
            to_f = 2 * d_square[place, None] * one if once else torch.zeros_like(one)
            for k, member in enumerate(g):
                d = d_products[k, place, None]
                d_g[k].index_add_(0, at, d * one)
                to_f.addcmul_(member.index_select(0, at).float(), d)
            if once:
                d_f[place] = to_f
            else:
                d_f.index_add_(0, response[place], to_f)
        if not once:
            for place in blocks(len(f), f.device):
                d_f[place].addcmul_(f[place].float(), 2 * d_square[place, None])
        both = d_gram + d_gram.transpose(0, 1)
        for k, row in enumerate(both):
            for member, d in zip(g, row, strict=True):
                for place in blocks(g.shape[1], f.device):
                    d_g[k, place].addcmul_(member[place].float(), d[place, None])
        return d_f.to(f.dtype), d_g.to(f.dtype), None, None
