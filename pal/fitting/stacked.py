"""Heads of one shape side by side: their parameters stacked, each method computed for all at once.

The heads' own methods run under `torch.func.vmap`, so that every option means what it means for one head.
Dropout is the exception: each job draws its masks from its own generator, in the order and layout in which
`torch.nn.Dropout` would, so that a job's result does not depend on its neighbours.

Shapes used in this module:
    jobs     heads side by side
    p, r     rows of the prompts' and the responses' table that each head maps, padded to the longest
    q        questions
    n        answers
    points   points of the simplex
    K, read  as in `pal.models.heads`
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, vmap
from typing_extensions import override

from pal.models.heads import Head
from pal.models.mlp import StackedMLP, single


@dataclass(frozen=True)
class Items:
    """The rows of the tables that each job's questions need.

    Args:
        prompts: Their vectors, of each job, or of all where they are the same; None without prompts.
        responses: Likewise.
        n_prompts: How many of each job are its own; what follows is padding.
        n_responses: Likewise.
    """

    prompts: Tensor | None
    responses: Tensor
    n_prompts: Sequence[int]
    n_responses: Sequence[int]


@dataclass(frozen=True)
class Places:
    """Where each job's questions find their prompt, first and second response among its items."""

    prompt: Int[Tensor, "jobs q"]
    first: Int[Tensor, "jobs q"]
    second: Int[Tensor, "jobs q"]


def vectors(table: Float[Tensor, "rows dim"], rows: Int[Tensor, "jobs n"]) -> Tensor:
    """Rows of a table for each job, or once where all jobs have the same: (jobs, n, dim) or (n, dim)."""
    if len(rows) == 1 or bool((rows == rows[:1]).all()):
        return single(table.index_select(0, rows[0]))
    return single(table.index_select(0, rows.flatten()).view(*rows.shape, -1))


class HeadStack:
    """Several heads of one config, on the same device, as stacked parameters.

    Args:
        heads: At least one; they are copied.
        generators: One for each, from which its dropout is drawn.
    """

    def __init__(self, heads: Sequence[Head], generators: Sequence[torch.Generator]) -> None:
        self.config, self.generators = heads[0].config, generators
        states = [head.state_dict() for head in heads]
        learned = {name for name, _ in heads[0].named_parameters()}
        self.state: dict[str, Tensor] = {
            name: torch.stack([state[name] for state in states]).requires_grad_(name in learned)
            for name in states[0]
        }
        self.base = _Method(deepcopy(heads[0]).requires_grad_(requires_grad=False))
        self.linear, self.joint = heads[0].linear, getattr(heads[0], "joint", False)
        for mlp in self._mlps().values():
            mlp.bend = nn.Sequential(*(_Mask() if isinstance(m, nn.Dropout) else m for m in mlp.bend))

    def __len__(self) -> int:
        return len(self.generators)

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """Stacked parameters with the names that one head gives them."""
        return [(name, value) for name, value in self.state.items() if value.requires_grad]

    def job_state(self, job: int) -> dict[str, Tensor]:
        """A copy of one head's state, to be loaded into a head of its own."""
        return {name: value[job].detach().clone() for name, value in self.state.items()}

    def read(self, items: Items, places: Places) -> Float[Tensor, "jobs q read"]:
        """What each head reads of its questions, as `Head.read` has it."""
        if self.config.model == "A":
            prompts = items.prompts if self.joint else items.responses
            mapped = self._call("map_responses", (prompts, items.responses), {"f": items.n_responses})
            return torch.cat([take(mapped, places.first), take(mapped, places.second)], 2)
        rows = {"g": items.n_prompts, "f": items.n_responses}
        g, f = self._call("_map", (items.prompts, items.responses), rows)
        products = _products(g, f, places)
        if self.linear:
            return products
        gram = torch.einsum("jkpd,jlpd->jpkl", g, g).flatten(2)
        return torch.cat([products, take(gram, places.prompt)], 2)

    def margin(
        self, read: Float[Tensor, "jobs n read"], weights: Float[Tensor, "jobs n K"]
    ) -> Float[Tensor, "jobs n"]:
        """Each head's margins under aligned weights."""
        return self._call("margin", (read, weights), self._rows_of_ideals(weights.shape[1]), shared=())

    def ideal_lengths(
        self, read: Float[Tensor, "jobs n read"], weights: Float[Tensor, "jobs n K"]
    ) -> Float[Tensor, "jobs n"]:
        """Lengths of aligned users' ideal points, as `Head.ideal_lengths` has them."""
        return self._call("ideal_lengths", (read, weights), self._rows_of_ideals(weights.shape[1]), shared=())

    def margins_at(
        self, read: Float[Tensor, "jobs q read"], points: Float[Tensor, "points K"]
    ) -> Float[Tensor, "jobs q points"]:
        """Each head's margins of its questions at points that all share."""
        return self._call("margins_at", (read, points), self._rows_of_ideals(len(points)), shared=(1,))

    def _rows_of_ideals(self, n: int) -> dict[str, Sequence[int]]:
        """How many rows f maps where prototypes lie before it; dropout is drawn for them too."""
        if self.config.model == "B" or self.config.prototypes == "latent":
            return {}
        return {"f": [n if self.config.prototypes == "input" else self.config.K] * len(self)}

    def _mlps(self) -> dict[str, StackedMLP]:
        return {name: m for name, m in self.base.head.named_children() if isinstance(m, StackedMLP)}

    def _call(
        self,
        method: str,
        arguments: tuple[Any, ...],
        rows: dict[str, Sequence[int]],
        shared: tuple[int, ...] | None = None,
    ) -> Any:
        """One method of all heads; arguments of two dimensions, or those named, are the same for all."""
        given = {f"head.{name}": value for name, value in self.state.items()} | self._masks(rows)
        dims = tuple(
            None if (x.dim() == 2 if shared is None else i in shared) else 0 for i, x in enumerate(arguments)
        )

        def one(state: dict[str, Tensor], *inputs: Tensor) -> Any:
            return functional_call(self.base, state, (method, *inputs))

        return vmap(one, in_dims=(0, *dims))(given, *arguments)

    def _masks(self, rows: dict[str, Sequence[int]]) -> dict[str, Tensor]:
        masks = {}
        for name, mlp in reversed(self._mlps().items()):  # g before f, as `Head.read` draws
            if not (self.config.dropout and mlp.hidden):
                continue
            at = next(i for i, m in enumerate(mlp.bend) if isinstance(m, _Mask))
            mlp.bend[at].turn, mlp.bend[at].on = 0, name in rows
            if name in rows:
                masks[f"head.{name}.bend.{at}.mask"] = self._mask(mlp, rows[name])
        return masks

    def _mask(self, mlp: StackedMLP, rows: Sequence[int]) -> Float[Tensor, "jobs layers stack rows hidden"]:
        keep, layers, device = 1 - self.config.dropout, len(mlp.later), mlp.first.weight.device
        mask = torch.zeros(len(self), layers, max(rows), mlp.stack, mlp.hidden)
        for job, (n, generator) in enumerate(zip(rows, self.generators, strict=True)):
            for layer in range(layers):
                part = mask[job, layer, :n]
                part.bernoulli_(keep, generator=generator)
        return mask.mul_(1 / keep).transpose(2, 3).to(device)


class _Method(nn.Module):
    """Lets `functional_call` reach any method of a head."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    @override
    def forward(self, method: str, *arguments: Tensor) -> Any:
        return getattr(self.head, method)(*arguments)


class _Mask(nn.Module):
    """Stands in for dropout: multiplies by the mask given for the layer whose turn it is."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(1))
        self.turn, self.on = 0, False

    @override
    def forward(self, x: Tensor) -> Tensor:
        if not self.on:
            return x
        self.turn += 1
        return x * self.mask[self.turn - 1]


def take(values: Float[Tensor, "jobs rows width"], at: Int[Tensor, "jobs q"]) -> Tensor:
    """Each job's rows at its own places: (jobs, q, width)."""
    jobs, rows, width = values.shape
    offset = torch.arange(jobs, device=at.device)[:, None] * rows
    return values.reshape(jobs * rows, width).index_select(0, (at + offset).flatten()).view(jobs, -1, width)


def _products(
    g: Float[Tensor, "jobs K p latent"], f: Float[Tensor, "jobs r latent"], places: Places
) -> Float[Tensor, "jobs q K"]:
    """Products of f(first) - f(second) with the g_k."""
    jobs, K, p, latent = g.shape
    r = f.shape[1]
    if r <= latent:  # few responses, as Yes and No: all products at once are fewer numbers than the vectors
        dots = (g @ f.transpose(1, 2)[:, None]).permute(0, 2, 3, 1).reshape(jobs, p * r, K)
        return take(dots, places.prompt * r + places.first) - take(dots, places.prompt * r + places.second)
    apart = take(f, places.first) - take(f, places.second)
    at = take(g.transpose(1, 2).reshape(jobs, p, K * latent), places.prompt).view(jobs, -1, K, latent)
    return (at * apart[:, :, None]).sum(3)
