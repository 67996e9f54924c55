"""The bfloat16 road of wide perceptrons: every step written out, in buffers that are kept.

Two layers 1,024 wide need five matrix products a row, and autocast with autograd spends as much again on the
rest: fresh tensors of tens of megabytes, whose pages the system clears one by one, masks and casts. Here
products go into kept buffers and the steps between them are done in place. Matrix products are bfloat16 with
float32 sums; gradients of parameters leave as float32. `products` is the same for the scores on top.

A buffer that is written to again before the backward pass is an error that autograd raises itself.

Shapes used in this module:
    rows    inputs mapped together
    dim     width of an input
    K       members of a stack
    latent  width of an output
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pal.models.dropout import drop_, dropped_share

HALF = torch.bfloat16  # what is multiplied; tests put float32 here, to see the steps without rounding
BLOCK = 1024  # rows worked on at once on a CPU: a few megabytes, which stay in its cache


class Buffers:
    """Scratch tensors by name, kept and grown; copies of their owner start without any."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], device: torch.device) -> Float[Tensor, "..."]:
        """A bfloat16 tensor of this shape, content undefined; the last one of this name is overwritten."""
        size = torch.Size(shape).numel()
        kept = self._kept.get(name)
        if kept is None or kept.numel() < size or kept.device != device:
            self._kept[name] = kept = torch.empty(size, dtype=HALF, device=device)
        return kept[:size].view(shape)

    def clear(self) -> None:
        """Give the memory back."""
        self._kept.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Buffers":
        return Buffers()


def autocasting(x: Tensor) -> bool:
    """Whether bfloat16 is asked for, by `torch.autocast`, where a tensor lies."""
    kind = x.device.type
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16


def gather(
    table: Float[Tensor, "n dim"], rows: Int[Tensor, " rows"], buffers: Buffers
) -> Float[Tensor, "rows dim"]:
    """Rows of a table of any float type, in a buffer."""
    out = buffers.take("input", (len(rows), table.shape[1]), table.device)
    for place in blocks(len(rows), table.device):
        if table.dtype == HALF:
            torch.index_select(table, 0, rows[place], out=out[place])
        else:
            out[place] = table.index_select(0, rows[place])
    return out


def perceptron(mlp: nn.Module, x: Float[Tensor, "rows dim"]) -> Float[Tensor, "K rows latent"]:
    """What `StackedMLP` computes, for ReLU; its dropout falls on bytes (`pal.models.dropout`)."""
    later = [parameter for layer in mlp.later for parameter in (layer.weight, layer.bias)]
    with torch.autocast(x.device.type, enabled=False):
        return _Perceptron.apply(mlp, x, mlp.first.weight, mlp.first.bias, *later)


class _Perceptron(torch.autograd.Function):
    """Forward and backward of a stack; the input gets no gradient, for embeddings are frozen."""

    @staticmethod
    def forward(ctx: Any, mlp: nn.Module, x: Tensor, *parameters: Tensor | None) -> Tensor:
        share = mlp.dropout if mlp.training else 0.0
        scale = 1 / (1 - dropped_share(share))
        # Dropout's scale goes into the matrices that follow it, which are smaller than what they map.
        halves = [
            None if p is None else (p * scale if i >= 2 and i % 2 == 0 else p).to(HALF)
            for i, p in enumerate(parameters)
        ]
        out = mlp.workspace.take("output", (mlp.stack, len(x), mlp.latent), x.device)
        bent = [
            mlp.workspace.take(f"hidden {i}", (mlp.stack, len(x), mlp.hidden), x.device)
            for i in range(len(mlp.later))
        ]
        for k in range(mlp.stack):
            below = x
            for layer, hidden in enumerate(bent):
                _affine(below, *_member(mlp, halves, layer, k), hidden[k])
                drop_(hidden[k].relu_(), share)
                below = hidden[k]
            if bent:
                _affine(below, *_member(mlp, halves, len(bent), k), out[k])
            if mlp.identity:
                out[k].add_(x)
            elif mlp.skip_width:
                skip = _skip(mlp, halves, k)
                _affine(x, *skip, out[k]) if not bent else out[k].add_(_affined(x, *skip))
        ctx.mlp, ctx.scale, ctx.n_bent = mlp, scale, len(bent)
        ctx.save_for_backward(x, *bent, *halves)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        mlp, n = ctx.mlp, ctx.n_bent
        x, *saved = ctx.saved_tensors
        bent, halves = saved[:n], saved[n:]
        grads = [None if p is None else torch.empty_like(p, dtype=torch.float32) for p in halves]
        for k in range(mlp.stack):
            d = d_out[k]
            if mlp.skip_width:
                _fill(_skip(mlp, grads, k), x, d, 1.0)
            for layer in range(n, -1, -1) if n else ():
                below = bent[layer - 1][k] if layer else x
                _fill(_member(mlp, grads, layer, k), below, d, ctx.scale if layer else 1.0)
                if layer:
                    matrix, _ = _member(mlp, halves, layer, k)
                    back = mlp.workspace.take(f"back {layer % 2}", tuple(below.shape), x.device)
                    torch.mm(d, matrix.T, out=back)
                    # Where a unit is zero, the ReLU bent it or dropout took it: no gradient either way.
                    d = torch.ops.aten.threshold_backward.grad_input(back, below, 0, grad_input=back)
        return None, None, *grads


def _member(
    mlp: nn.Module, parameters: list[Tensor | None], layer: int, k: int
) -> tuple[Tensor, Tensor | None]:
    """Matrix (from, to) and bias of member k's layer, as views of the stack's parameters."""
    weight, bias = parameters[2 * layer : 2 * layer + 2]
    if layer:
        return weight[k], None if bias is None else bias[k, 0]
    rows = slice(k * mlp.hidden, (k + 1) * mlp.hidden)
    return weight[rows].T, None if bias is None else bias[rows]


def _skip(mlp: nn.Module, parameters: list[Tensor | None], k: int) -> tuple[Tensor, Tensor | None]:
    """Matrix (from, to) and bias of member k's skip, which stands below all hidden layers' rows."""
    weight, bias = parameters[:2]
    start = mlp.stack * mlp.hidden + k * mlp.skip_width
    rows = slice(start, start + mlp.skip_width)
    return weight[rows].T, None if bias is None else bias[rows]


def _affine(x: Tensor, matrix: Tensor, bias: Tensor | None, out: Tensor) -> None:
    if bias is None:
        torch.mm(x, matrix, out=out)
    else:
        torch.addmm(bias, x, matrix, out=out)


def _affined(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    return x @ matrix if bias is None else torch.addmm(bias, x, matrix)


def _fill(grads: tuple[Tensor, Tensor | None], x: Tensor, d: Tensor, scale: float) -> None:
    """Write the gradients of a matrix and its bias, from the layer's input and its output's gradient."""
    matrix, bias = grads
    matrix.copy_(x.T @ d).mul_(scale)
    if bias is not None:
        bias.copy_(d.sum(0))


def blocks(n: int, device: torch.device) -> list[slice]:
    """Places cut into blocks: small ones for a CPU's cache, elsewhere a single one."""
    size = BLOCK if device.type == "cpu" else max(n, 1)
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
