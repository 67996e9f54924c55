"""Questions from raw items or embeddings: what a head reads.

Shapes used in this module:
    n       questions
    dim     width of an embedding
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from pal.comparisons import Embeddings, Questions
from pal.errors import PalError
from pal.serving.items import Item, Items, Rows, Where, count_of
from pal.serving.preferences import row_of
from pal.serving.reader import Reader
from pal.serving.saved import SavedModel


@dataclass(frozen=True)
class Question:
    """One question that may be asked: which of two responses is preferred.

    Args:
        prompt: What both answer; None where the model reads no prompts.
        first: A response.
        second: The other.
    """

    prompt: Item | None
    first: Item
    second: Item

    @classmethod
    def of(cls, given: Any, where: str = "a question") -> "Question":
        """A question from itself, a mapping with these names, or (prompt, first, second).

        Raises:
            PalError: If it is none of these.
        """
        return row_of(cls, given, where, required=("first", "second"))


class Read(NamedTuple):
    """Questions as tensors.

    Args:
        embeddings: Of what is asked about.
        questions: Rows of these, in the order given; not distinct.
    """

    embeddings: Embeddings
    questions: Questions


def read_questions(
    model: SavedModel,
    reader: Reader,
    prompts: Items | None,
    responses: Tensor | list[Any],
    where: Callable[[str, int], str] = lambda side, row: f"{side} of question {row}",
    names: tuple[str, str] = ("first", "second"),
) -> Read:
    """Embed what questions ask about.

    Args:
        model: Says how wide embeddings are, and whether prompts are read.
        reader: The model's encoders.
        prompts: One per question, or one for all; not read where the reward does not depend on them.
        responses: The first response of every question, then the second of every one.
        where: What an item is called in messages, from its side's name and its question's number.
        names: The sides' names.

    Raises:
        PalError: If an item cannot be read, or a question's two responses are the same.
    """
    n = len(responses) // 2
    read = reader.read(
        responses,
        "responses",
        model.response_dim,
        lambda row: where(names[row // max(n, 1)], row % max(n, 1)),
    )
    asked = read_prompts(model, reader, prompts, n, lambda row: where("prompt", row))
    same = _same(read, n).nonzero()
    if len(same):
        row = int(same[0])
        raise PalError(
            f"{where(names[0], row)} and {where(names[1], row)} must differ, got the same response; leave "
            "such rows out"
        )
    table = torch.zeros(0, 0) if asked is None else _single(asked.table)
    prompt = torch.full((n,), -1) if asked is None else asked.rows
    first, second = read.rows[:n], read.rows[n:]
    return Read(Embeddings(table, _single(read.table)), Questions(prompt, first, second))


def read_prompts(
    model: SavedModel, reader: Reader, prompts: Items | None, n: int, where: Where
) -> Rows | None:
    """Embeddings of prompts, as many as there are responses; None where the head reads none.

    Raises:
        PalError: If they are needed and not given, not as many, or one cannot be read.
    """
    if not model.head.needs_prompts:
        return None
    if prompts is None:
        raise PalError("prompts must be given, got None; this head's reward depends on the prompt")
    read = reader.read(prompts, "prompts", model.prompt_dim, where)
    if len(read) not in (n, 1):
        raise PalError(f"prompts must be one for all responses, or one for each of the {n}, got {len(read)}")
    return read if len(read) == n else read.repeated(n)


def joined(parts: Sequence[Tensor | list[Any]]) -> Tensor | list[Any]:
    """Several lists of items as one.

    Raises:
        PalError: If some are embeddings and others not, or of another width.
    """
    parts = [part for part in parts if count_of(part)]
    if not any(isinstance(part, Tensor) for part in parts):
        return [item for part in parts for item in part]
    widths = {part.shape[1:] if isinstance(part, Tensor) else None for part in parts}
    if len(widths) > 1:
        raise PalError("items must be all embeddings of one width or none, got several kinds")
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _single(table: Tensor) -> Tensor:
    """What a head reads: half precision as it is."""
    return table.float() if table.dtype == torch.float64 else table


def _same(responses: Rows, n: int) -> Bool[Tensor, " n"]:
    """Whether a question's two responses are one: the same item, or the same embedding."""
    if responses.row is not None:
        return responses.row[:n] == responses.row[n:]
    return (responses.table[:n] == responses.table[n:]).all(1)
