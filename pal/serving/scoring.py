"""Rewards of many responses in bounded memory, whatever repeats computed once.

Shapes used in this module:
    n        responses scored together
    p        distinct prompts
    K        prototypes
    latent   width of the preference space
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from pal.models.heads import Head, PromptedIdealPoints
from pal.serving.items import Rows

BLOCK = 8192  # responses at once: some megabytes, which stay near the processor


def rewards(
    head: Head, prompts: Rows | None, responses: Rows, weights: Float[Tensor, "*n K"]
) -> Float[Tensor, " n"]:
    """Reward each response, block by block.

    Args:
        head: A head in evaluation mode.
        prompts: As many as responses; None where the head reads none.
        responses: What is scored.
        weights: One row of the simplex for all, or one per response.

    Returns:
        float32, on the head's device.
    """
    device = next(head.parameters()).device
    out = torch.empty(len(responses), device=device)
    weights = weights.to(device)
    with torch.no_grad():  # not inference_mode: what leaves it could never be fitted with again
        prompted = isinstance(head, PromptedIdealPoints) and prompts is not None
        ideals = _Ideals(head, prompts) if prompted else None
        for start in range(0, len(out), BLOCK):
            stop = min(start + BLOCK, len(out))
            x = _on(device, responses.block(start, stop))
            w = weights if weights.dim() == 1 else weights[start:stop]
            if ideals is None:
                p = x.new_zeros(len(x), 0) if prompts is None else _on(device, prompts.block(start, stop))
                out[start:stop] = head.reward(p, x, w.expand(len(x), head.config.K))
            else:
                ideal = ideals.block(start, stop, w)
                out[start:stop] = (head._map(ideals.no_prompts, x)[1] * ideal).sum(1)
    return out


class _Ideals:
    """Ideal points of prompts and weights; the g_k of a prompt that repeats are computed once.

    Distinct prompts of a table are mapped at the start; where all rows are said to be their own, only
    runs of equal neighbours are found, block by block.
    """

    def __init__(self, head: PromptedIdealPoints, prompts: Rows) -> None:
        self.head, self.prompts = head, prompts
        self.device = next(head.parameters()).device
        self.no_prompts = _on(self.device, prompts.table[:0])
        self.no_responses = self.no_prompts.new_zeros(0, head.f.first.in_features)
        self.g = self._mapped(prompts.table) if prompts.row is not None else None

    def block(self, start: int, stop: int, weights: Float[Tensor, "*n K"]) -> Float[Tensor, "n latent"]:
        """Where users of these weights stand for the prompts of responses `start` to `stop`."""
        if self.g is not None and self.prompts.row is not None:
            g, at = self.g, self.prompts.row[start:stop].to(self.device)
        else:
            g, at = self._runs(_on(self.device, self.prompts.block(start, stop)))
        if weights.dim() == 2:
            g = g if at is None else g.index_select(1, at)
            return self._mixed(torch.einsum("knd,nk->nd", g, weights))
        if at is not None and g.shape[1] > len(at):
            g, at = g.index_select(1, at), None
        ideal = self._mixed(torch.einsum("kpd,k->pd", g, weights))
        return ideal if at is None else ideal.index_select(0, at)

    def _mixed(self, ideal: Float[Tensor, "n latent"]) -> Float[Tensor, "n latent"]:
        return ideal if self.head.linear else functional.normalize(ideal, dim=-1)

    def _runs(self, x: Float[Tensor, "n dim"]) -> tuple[Float[Tensor, "K p latent"], Tensor | None]:
        """The g_k of rows that differ from the one before, and each row's place among them."""
        maybe = x[1:, 0] == x[:-1, 0]
        if not bool(maybe.any()):
            return self._mapped(x), None
        new = torch.ones(len(x), dtype=torch.bool, device=x.device)
        new[1:] = (x[1:] - x[:-1]).abs_().amax(1) != 0  # twice as fast as comparing
        return self._mapped(x[new]), new.long().cumsum(0) - 1

    def _mapped(self, table: Float[Tensor, "p dim"]) -> Float[Tensor, "K p latent"]:
        parts = [_on(self.device, table[at : at + BLOCK]) for at in range(0, max(1, len(table)), BLOCK)]
        return torch.cat([self.head._map(part, self.no_responses)[0] for part in parts], 1)


def _on(device: torch.device, x: Tensor) -> Float[Tensor, "n dim"]:
    return x.to(device, torch.float32)
