"""Rewards of many responses in bounded memory, whatever repeats computed once.

Shapes used in this module:
    n        responses scored together
    p        distinct prompts
    state    numbers of a user's state
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.models.base import PreferenceModel
from pal.serving.items import Rows

BLOCK = 8192  # responses at once: some megabytes, which stay near the processor


def rewards(
    model: PreferenceModel, prompts: Rows | None, responses: Rows, states: Float[Tensor, "*n state"]
) -> Float[Tensor, " n"]:
    """Reward each response, block by block.

    Args:
        model: A model in evaluation mode.
        prompts: As many as responses; None where the model reads none.
        responses: What is scored.
        states: One state for all, or one per response.

    Returns:
        float32, on the model's device.
    """
    device = next(model.parameters()).device
    out, states = torch.empty(len(responses), device=device), states.to(device)
    with torch.no_grad():  # not inference_mode: what leaves it could never be fitted with again
        embedded = None
        if prompts is not None and prompts.row is not None:
            starts = range(0, max(1, len(prompts.table)), BLOCK)
            embedded = torch.cat(
                [model.embed_prompts(_on(device, prompts.table[s : s + BLOCK])) for s in starts]
            )
        for start in range(0, len(out), BLOCK):
            stop = min(start + BLOCK, len(out))
            x = _on(device, responses.block(start, stop))
            state = states if states.dim() == 1 else states[start:stop]
            if prompts is None:
                out[start:stop] = model.reward(x.new_zeros(len(x), 0), x, state.expand(len(x), -1))
            elif embedded is not None:
                out[start:stop] = model.reward_embedded(
                    embedded, prompts.row[start:stop].to(device), x, state
                )
            else:
                rows, row = _distinct_runs(_on(device, prompts.block(start, stop)))
                out[start:stop] = model.reward_embedded(model.embed_prompts(rows), row, x, state)
    return out


def _distinct_runs(x: Float[Tensor, "n dim"]) -> tuple[Float[Tensor, "p dim"], Int[Tensor, " n"]]:
    """Rows that differ from the one before, and each row's place among them."""
    new = torch.ones(len(x), dtype=torch.bool, device=x.device)
    if bool((x[1:, 0] == x[:-1, 0]).any()):
        new[1:] = (x[1:] - x[:-1]).abs_().amax(1) != 0  # twice as fast as comparing
        x = x[new]
    return x, new.long().cumsum(0) - 1


def _on(device: torch.device, x: Tensor) -> Float[Tensor, "n dim"]:
    return x.to(device, torch.float32)
