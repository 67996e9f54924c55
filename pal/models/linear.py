"""A linear reward: one for everyone, plus a personal deviation along leading directions of the embeddings.

The mixed-effects model of a comparison (random coefficients; McFadden and Train, 2000) on frozen embeddings:

    reward(c, x) of user u = s_u (r . phi(c, x) + b_x) + w_u . P phi(c, x) + v_u . t_x

with r the shared coefficients, b_x an effect of each item that training knew, P the leading principal
directions, and (w_u, v_u, s_u) the user's state: for someone of whom nothing is known w and v are near 0 and
s near 1. t_x is a row of `item_table`: a column for each of the items that are compared most, by which a user
may like one more than others do, and the loadings of factors, by which likings for some items tell of others,
as in collaborative filtering. Of an item that training did not know, its directions tell the loadings
(`unknown_table`).

Shapes, beside those of `pal.models.base`: items with an effect of their own, dim (width of phi), directions
(those along which people may differ); s is directions, columns of the table of items, and the factor of the
shared part.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from pal.comparisons import Comparisons, Embeddings, Questions, distinct_rows
from pal.config import HeadConfig
from pal.errors import PalError
from pal.models.base import LinearInState, gather

CROSSED = 32  # leading directions of prompts and of responses whose products are read
KEYS = 4  # projections by which a known item is found again
SAME = 1e-4  # relative distance of two embeddings of one item, which differ with what they came beside
MOST_ROWS = 20_000  # rows that principal directions are found from
BLOCK = 8192


class LinearModel(LinearInState):
    """A shared linear reward with item effects, and a personal linear deviation along leading directions.

    phi is the response's embedding (`inputs='response'`), or that and the products of the leading directions
    of prompt and response (`inputs='products'`), which is what a taste that depends on the prompt needs.
    Built empty; `from_comparisons` finds the directions, and `pal.fitting.mixed_effects` fits the rest. Of
    the config `inputs`, `latent` (directions), `known_items` and `item_directions` are read.
    """

    block_size = BLOCK

    def __init__(self, config: HeadConfig, *, prompt_dim: int, response_dim: int) -> None:
        super().__init__()
        self.config, self.needs_prompts = config, config.inputs == "products"
        if self.needs_prompts and not prompt_dim:
            raise PalError("inputs must be 'response' where there are no prompts, got 'products'")
        crossed = (min(CROSSED, prompt_dim), min(CROSSED, response_dim)) if self.needs_prompts else (0, 0)
        dim = response_dim + crossed[0] * crossed[1]
        shapes = {
            "centre": (response_dim,),
            "prompt_centre": (prompt_dim if self.needs_prompts else 0,),
            "prompt_directions": (prompt_dim, crossed[0]),
            "response_directions": (response_dim, crossed[1]),
            "directions": (dim, config.latent),
            "coefficients": (dim,),
            "key_directions": (response_dim, KEYS),
            "item_keys": (config.known_items, KEYS),
            "item_effects": (config.known_items,),
            "item_table": (config.known_items, config.item_directions),
            "unknown_table": (config.latent, config.item_directions),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    @override
    @property
    def state_dim(self) -> int:
        return self.config.latent + self.config.item_directions + 1

    @classmethod
    def from_comparisons(
        cls, config: HeadConfig, embeddings: Embeddings, comparisons: Comparisons
    ) -> "LinearModel":
        """The model with its principal directions found, effects and coefficients zero.

        `latent` is lowered to what the items allow, and `known_items` set. Which items the comparisons name
        is read, not their answers.
        """

        def few(rows: Int[Tensor, "rows ..."]) -> Int[Tensor, "some ..."]:
            if len(rows) <= MOST_ROWS:
                return rows
            return rows[torch.linspace(0, len(rows) - 1, MOST_ROWS).long()]

        q = comparisons.questions[torch.unique(comparisons.question)]
        sides = torch.stack([torch.cat([q.prompt, q.prompt]), torch.cat([q.first, q.second])], 1)
        sides = torch.unique(sides, dim=0) if config.inputs == "products" else sides
        items = torch.unique(sides[:, 1])
        sides, x = few(sides), gather(embeddings.responses, few(items))
        empty = {"latent": 1, "known_items": 0, "item_directions": 0}
        trial = cls(config.model_copy(update=empty), **embeddings.dims)
        trial.centre.copy_(x.mean(0))
        if trial.needs_prompts:
            prompts = torch.unique(sides[:, 0])
            c = gather(embeddings.prompts, prompts)
            trial.prompt_centre.copy_(c.mean(0))
            for name, rows in (("prompt", c - c.mean(0)), ("response", x - x.mean(0))):
                table = getattr(trial, f"{name}_directions")
                found = _principal(rows, table.shape[1])
                table[:, : found.shape[1]] = found / _length(rows @ found)
            row = torch.searchsorted(prompts, sides[:, 0].contiguous())
            phi = trial._phi(c, gather(embeddings.responses, sides[:, 1]), row)
        else:
            phi = x - trial.centre
        directions = _principal(phi - phi.mean(0), config.latent)
        directions = directions / _length((phi - phi.mean(0)) @ directions)
        found = {"latent": directions.shape[1], "known_items": len(items)}
        model = trial.reading_alike(config.model_copy(update=found))
        model.directions.copy_(directions)
        keys = torch.randn(x.shape[1], KEYS, generator=torch.Generator().manual_seed(0))
        model.key_directions.copy_(keys / _length(x - model.centre))
        keys = model._keys(gather(embeddings.responses, items))
        model.item_keys.copy_(keys[torch.argsort(keys[:, 0])])
        return model

    def reading_alike(self, config: HeadConfig) -> "LinearModel":
        """A model of the same phi with other options, all else of it zero."""
        model = LinearModel(config, prompt_dim=len(self.prompt_directions), response_dim=len(self.centre))
        for name in ("centre", "prompt_centre", "prompt_directions", "response_directions"):
            getattr(model, name).copy_(getattr(self, name))
        return model

    def _phi(
        self, prompts: Float[Tensor, "p c"], responses: Float[Tensor, "n x"], prompt: Int[Tensor, " n"]
    ) -> Float[Tensor, "n dim"]:
        x = responses - self.centre
        if not self.needs_prompts:
            return x
        c = ((prompts - self.prompt_centre) @ self.prompt_directions).index_select(0, prompt)
        products = c[:, :, None] * (x @ self.response_directions)[:, None, :]
        return torch.cat([x, products.flatten(1)], 1)

    def _keys(self, responses: Float[Tensor, "n x"]) -> Float[Tensor, "n KEYS"]:
        return (responses - self.centre) @ self.key_directions

    def known_item(self, responses: Float[Tensor, "n x"]) -> Int[Tensor, " n"]:
        """Which of the items that training knew each response is, by its embedding; -1 where it is none."""
        if not len(self.item_keys):
            return torch.full((len(responses),), -1, device=responses.device)
        keys = self._keys(responses)
        # The nearest by the first key, to its left or right; the other keys tell whether it is the same item.
        right = torch.searchsorted(self.item_keys[:, 0].contiguous(), keys[:, 0].contiguous())
        both = torch.stack([right - 1, right], 1).clamp(0, len(self.item_keys) - 1)
        apart = (self.item_keys[both] - keys[:, None]).abs().amax(2)
        nearest = apart.argmin(1, keepdim=True)
        return torch.where(apart.gather(1, nearest) <= SAME, both.gather(1, nearest), -1)[:, 0]

    def known_sides(self, embeddings: Embeddings, questions: Questions) -> Int[Tensor, "q 2"]:
        """`known_item` of the first and of the second response of each question."""
        rows, place = distinct_rows(torch.cat([questions.first, questions.second]), len(embeddings.responses))
        known = [
            self.known_item(gather(embeddings.responses, some).float()) for some in torch.split(rows, BLOCK)
        ]
        return torch.cat(known)[place].view(2, -1).T

    def read(
        self, prompts: Float[Tensor, "p c"], responses: Float[Tensor, "n x"], prompt: Int[Tensor, " n"]
    ) -> Float[Tensor, "n s"]:
        """What a state is multiplied by: the response along each direction, and its shared reward."""
        phi = self._phi(prompts, responses, prompt)
        known = self.known_item(responses)
        along = phi @ self.directions
        # A row of zeros for what is not known, -1.
        effect, own = F.pad(self.item_effects, (0, 1))[known], F.pad(self.item_table, (0, 0, 0, 1))[known]
        own = torch.where(known[:, None] < 0, along @ self.unknown_table, own)
        return torch.cat([along, own, (phi @ self.coefficients + effect)[:, None]], 1)

    @override
    def question_features(self, embeddings: Embeddings, questions: Questions) -> Float[Tensor, "q s"]:
        first, second = self.sides(embeddings, questions)
        return first - second

    def sides(
        self, embeddings: Embeddings, questions: Questions
    ) -> tuple[Float[Tensor, "q s"], Float[Tensor, "q s"]]:
        """What `read` gives of the first and of the second response of each question."""
        responses = torch.cat([questions.first, questions.second])
        if self.needs_prompts:
            rows = torch.stack([questions.prompt.repeat(2), responses], 1)
            rows, place = torch.unique(rows, dim=0, return_inverse=True)
            prompt_rows, prompt = distinct_rows(rows[:, 0], len(embeddings.prompts))
            prompts, responses = gather(embeddings.prompts, prompt_rows), rows[:, 1]
        else:
            responses, place = distinct_rows(responses, len(embeddings.responses))
            prompts, prompt = embeddings.responses[:0], torch.zeros_like(responses)
        blocks = [
            self.read(prompts, gather(embeddings.responses, responses[at]), prompt[at])
            for at in torch.arange(len(responses), device=responses.device).split(BLOCK)
        ]
        table = torch.cat(blocks) if blocks else self.coefficients.new_zeros(0, self.state_dim)
        first, second = table.index_select(0, place).chunk(2)
        return first, second

    @override
    def reward(
        self, prompts: Float[Tensor, "n c"], responses: Float[Tensor, "n x"], states: Float[Tensor, "n s"]
    ) -> Float[Tensor, " n"]:
        row = torch.arange(len(responses), device=responses.device)
        return (self.read(prompts.float(), responses.float(), row) * states).sum(1)


def _principal(rows: Float[Tensor, "n dim"], most: int) -> Float[Tensor, "dim directions"]:
    """Leading principal directions of rows that are centred; fewer where the rows span no more."""
    values, vectors = torch.linalg.eigh((rows.T.double() @ rows.double()) / max(1, len(rows)))
    n = min(most, int((values > 1e-6 * values[-1].clamp_min(1e-30)).sum()))
    return vectors[:, -max(n, 1) :].flip(1).float()


def _length(rows: Float[Tensor, "n dim"]) -> Float[Tensor, ""]:
    """Root mean square length of rows, so that what is divided by it has length one."""
    return rows.square().sum(1).mean().sqrt().clamp_min(1e-12)
