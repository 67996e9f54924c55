"""Comparisons as tensors: who was asked what, and which response they chose.

Many users answer the same question (a prompt with two responses), so everything that does not depend on
the user is computed once per distinct question: `Questions` holds those, `Comparisons` points into them.

Shapes used in this module:
    n       comparisons
    q       distinct questions
    rows    any list of row numbers
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.errors import PalError


@dataclass(frozen=True)
class Embeddings:
    """Frozen-encoder outputs, one row per distinct prompt and one per distinct response.

    Args:
        prompts: Float32, one row per prompt; an empty (0, 0) tensor where there are no prompts.
        responses: Float32, one row per response. May be the same tensor as `prompts`.
    """

    prompts: Float[Tensor, "p prompt_dim"]
    responses: Float[Tensor, "r response_dim"]

    def to(self, device: torch.device | str) -> "Embeddings":
        """The same embeddings on another device."""
        return Embeddings(self.prompts.to(device), self.responses.to(device))


@dataclass(frozen=True)
class Questions:
    """Distinct questions: rows of `Embeddings`, in an order of the two responses that is fixed once.

    Args:
        prompt: Rows of `Embeddings.prompts`; all -1 where there are no prompts.
        first: Rows of `Embeddings.responses`.
        second: Rows of `Embeddings.responses`; never equal to `first`.
    """

    prompt: Int[Tensor, " q"]
    first: Int[Tensor, " q"]
    second: Int[Tensor, " q"]

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, rows: Int[Tensor, " rows"]) -> "Questions":
        prompt, first, second = (x.index_select(0, rows) for x in (self.prompt, self.first, self.second))
        return Questions(prompt, first, second)


@dataclass(frozen=True)
class Comparisons:
    """Answers: each names a user, a question, and the side that was chosen.

    Args:
        user: Row of each answer's user in the weights table.
        question: Row of `questions`.
        sign: +1 where `first` was chosen, -1 where `second` was.
        label: P(chosen is preferred), in [0, 1]; 0.5 is a tie. None stands for all ones.
        questions: The distinct questions asked.
    """

    user: Int[Tensor, " n"]
    question: Int[Tensor, " n"]
    sign: Float[Tensor, " n"]
    label: Float[Tensor, " n"] | None
    questions: Questions

    @classmethod
    def of(
        cls,
        *,
        user: Int[Tensor, " n"],
        prompt: Int[Tensor, " n"] | None,
        chosen: Int[Tensor, " n"],
        rejected: Int[Tensor, " n"],
        label: Float[Tensor, " n"] | None = None,
    ) -> "Comparisons":
        """Find the distinct questions behind a list of answers.

        Args:
            user: Row of each answer's user in the weights table.
            prompt: Row of each answer's prompt, or None where there are no prompts.
            chosen: Row of the response that was chosen.
            rejected: Row of the other response.
            label: P(chosen is preferred), in [0, 1]; None where it is always 1.

        Raises:
            PalError: If a comparison's chosen and rejected response are the same, or a label is not in
                [0, 1].
        """
        same = (chosen == rejected).nonzero()
        if len(same):
            raise PalError(
                "chosen and rejected must differ, got the same response in comparison "
                f"{same[0].item()}; drop such rows"
            )
        if label is not None and not bool(((label >= 0) & (label <= 1)).all()):
            raise PalError("label must lie in [0, 1]; 1 is chosen preferred, 0.5 a tie")
        user, chosen, rejected = user.long(), chosen.long(), rejected.long()  # products of int32 overflow
        prompt = torch.full_like(chosen, -1) if prompt is None else prompt.long()
        first, second = torch.minimum(chosen, rejected), torch.maximum(chosen, rejected)
        questions, question = _distinct_triples(prompt, first, second)
        sign = torch.where(chosen < rejected, 1.0, -1.0)
        if label is not None and bool((label == 1).all()):
            label = None
        return cls(user, question, sign, label, questions)

    def __len__(self) -> int:
        return len(self.user)

    def __getitem__(self, rows: Int[Tensor, " rows"]) -> "Comparisons":
        label = None if self.label is None else self.label.index_select(0, rows)
        user, question, sign = (x.index_select(0, rows) for x in (self.user, self.question, self.sign))
        return Comparisons(user, question, sign, label, self.questions)

    def check(self, embeddings: Embeddings, *, n_users: int, needs_prompts: bool) -> None:
        """Make sure that every row number points at something: on a GPU a wrong one ends the process.

        Args:
            embeddings: What the questions are to point into.
            n_users: Length of the weights table that `user` points into.
            needs_prompts: Whether a question without a prompt cannot be read.

        Raises:
            PalError: Naming the rows that point outside their table.
        """
        q = self.questions
        _check_range("user", self.user, n_users)
        _check_range("first", q.first, len(embeddings.responses))
        _check_range("second", q.second, len(embeddings.responses))
        if needs_prompts:
            _check_range("prompt", q.prompt, len(embeddings.prompts))

    def to(self, device: torch.device | str) -> "Comparisons":
        """The same comparisons on another device."""
        q = self.questions
        label = None if self.label is None else self.label.to(device)
        questions = Questions(q.prompt.to(device), q.first.to(device), q.second.to(device))
        return Comparisons(
            self.user.to(device), self.question.to(device), self.sign.to(device), label, questions
        )


def _check_range(name: str, rows: Int[Tensor, " rows"], stop: int) -> None:
    outside = rows[(rows < 0) | (rows >= stop)]
    if len(outside):
        raise PalError(
            f"{name} must hold row numbers in [0, {stop}), got {outside[0].item()}; "
            "check which table it was numbered for"
        )


def _distinct_triples(
    prompt: Int[Tensor, " n"], first: Int[Tensor, " n"], second: Int[Tensor, " n"]
) -> tuple[Questions, Int[Tensor, " n"]]:
    """Distinct (prompt, first, second) rows and each row's place, by two sorts of single numbers."""
    if not len(first):
        return Questions(prompt, first, second), prompt
    width = int(second.max()) + 1
    pairs, pair = torch.unique(first * width + second, return_inverse=True)
    keys, question = torch.unique((prompt + 1) * len(pairs) + pair, return_inverse=True)
    pair = pairs[keys % len(pairs)]
    return Questions(keys // len(pairs) - 1, pair // width, pair % width), question


def distinct_rows(
    rows: Int[Tensor, " rows"], n_total: int
) -> tuple[Int[Tensor, " distinct"], Int[Tensor, " rows"]]:
    """The distinct values among row numbers, ascending, and where each row stands among them.

    Marks a table of flags in place of sorting, which `torch.unique` does and which costs more than a whole
    step of a small head.

    Args:
        rows: Row numbers in [0, n_total).
        n_total: Length of the table that the rows point into.

    Returns:
        The distinct row numbers, and for each input row its index among them.
    """
    mark = torch.zeros(n_total, dtype=torch.int32, device=rows.device)
    mark[rows] = 1
    place = mark.cumsum(0, dtype=torch.int32)
    return mark.nonzero().squeeze(1), place.index_select(0, rows).long() - 1
