"""Comparisons as tensors: who answered which question, and the response they chose.

Many users answer the same question (a prompt with two responses), so everything that does not depend on
the user is computed once per distinct question: `Questions` holds those, `Comparisons` points into them.

Shapes: n comparisons, q distinct questions, rows (any list of row numbers), p prompts, r responses.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.errors import PalError

SORT_FROM = 1 << 18  # rows of a table from which on marking it costs more than sorting a batch
ROWS_AT_ONCE = 1 << 22  # comparisons whose questions are told apart at a time


@dataclass(frozen=True)
class Embeddings:
    """Frozen-encoder outputs, one row per distinct prompt and one per distinct response.

    Either may be float16 or bfloat16, at half the memory: what a head gathers it reads as float32, so
    scores are float32 in any case.
    """

    prompts: Float[Tensor, "p prompt_dim"]  # (0, 0) where there are no prompts
    responses: Float[Tensor, "r response_dim"]  # may be the same tensor

    @property
    def dims(self) -> dict[str, int]:
        """Widths of both, as models take them."""
        return {"prompt_dim": self.prompts.shape[1], "response_dim": self.responses.shape[1]}

    def to(self, device: torch.device | str) -> "Embeddings":
        """The same embeddings on a device; float64, which no model reads, becomes float32."""

        def moved(table: Tensor) -> Tensor:
            return table.to(device, torch.float32 if table.dtype == torch.float64 else table.dtype)

        prompts = moved(self.prompts)
        # A table that serves twice stays one.
        return Embeddings(prompts, prompts if self.responses is self.prompts else moved(self.responses))


@dataclass(frozen=True)
class Questions:
    """Distinct questions: rows of `Embeddings`, in an order of the two responses that is fixed once."""

    prompt: Int[Tensor, " q"]  # all -1 where there are no prompts
    first: Int[Tensor, " q"]
    second: Int[Tensor, " q"]  # never equal to `first`

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, rows: Int[Tensor, " rows"]) -> "Questions":
        return Questions(*(column.index_select(0, rows) for column in vars(self).values()))


@dataclass(frozen=True)
class Comparisons:
    """Answers: each names a user, a question, and the side that was chosen."""

    user: Int[Tensor, " n"]  # row of each answer's user in the weights table
    question: Int[Tensor, " n"]  # row of `questions`
    sign: Float[Tensor, " n"]  # +1 where `first` was chosen, -1 where `second` was
    label: Float[Tensor, " n"] | None  # P(chosen is preferred), in [0, 1]; 0.5 is a tie; None: all ones
    questions: Questions  # the distinct ones
    # How much each answer counts in losses, above 0: 2 is the same answer given twice. None stands for all
    # ones. Accuracies count every answer once.
    weight: Float[Tensor, " n"] | None = None

    @classmethod
    def from_pairs(
        cls,
        *,
        user: Int[Tensor, " n"],
        prompt: Int[Tensor, " n"] | None,
        chosen: Int[Tensor, " n"],
        rejected: Int[Tensor, " n"],
        label: Float[Tensor, " n"] | None = None,
        weight: Float[Tensor, " n"] | None = None,
    ) -> "Comparisons":
        """Find the distinct questions behind answers to rows of prompts, if any, and of two responses."""
        same = (chosen == rejected).nonzero()
        if len(same):
            got = f"the same response in comparison {same[0].item()}"
            raise PalError(f"chosen and rejected must differ, got {got}; drop such rows")
        if label is not None and not bool(((label >= 0) & (label <= 1)).all()):
            raise PalError("label must lie in [0, 1]; 1 is chosen preferred, 0.5 a tie")
        if weight is not None:
            _check_weight(weight)
            weight = weight.float()
        questions, question = _distinct_triples(prompt, chosen, rejected)
        sign = torch.where(chosen < rejected, 1.0, -1.0)
        label, weight = (None if x is None or bool((x == 1).all()) else x for x in (label, weight))
        return cls(user.long(), question, sign, label, questions, weight)

    @property
    def labels(self) -> Float[Tensor, " n"]:
        """P(chosen is preferred) of each."""
        return torch.ones_like(self.sign) if self.label is None else self.label

    @property
    def weights(self) -> Float[Tensor, " n"]:
        """How much each counts."""
        return torch.ones_like(self.sign) if self.weight is None else self.weight

    @property
    def first_labels(self) -> Float[Tensor, " n"]:
        """P(the question's first response is preferred) of each."""
        return torch.where(self.sign > 0, self.labels, 1 - self.labels)

    def __len__(self) -> int:
        return len(self.user)

    def _each(self, change: Callable[[Tensor], Tensor], questions: Questions) -> "Comparisons":
        user, question, sign = map(change, (self.user, self.question, self.sign))
        label, weight = (None if x is None else change(x) for x in (self.label, self.weight))
        return Comparisons(user, question, sign, label, questions, weight)

    def __getitem__(self, rows: Int[Tensor, " rows"]) -> "Comparisons":
        return self._each(lambda column: column.index_select(0, rows), self.questions)

    def slice(self, start: int, stop: int) -> "Comparisons":
        """Answers `start` to `stop`, without a copy."""
        return self._each(lambda column: column[start:stop], self.questions)

    def to(self, device: torch.device | str) -> "Comparisons":
        """The same comparisons on another device."""
        questions = Questions(*(column.to(device) for column in vars(self.questions).values()))
        return self._each(lambda column: column.to(device), questions)

    def check(self, embeddings: Embeddings, *, n_users: int, needs_prompts: bool) -> None:
        """Make sure that every row number points at something: on a GPU a wrong one ends the process."""
        if self.weight is not None:
            _check_weight(self.weight)
        q, n_responses = self.questions, len(embeddings.responses)
        tables = {"user": (self.user, n_users)}
        tables |= {"first": (q.first, n_responses), "second": (q.second, n_responses)}
        if needs_prompts:
            tables["prompt"] = q.prompt, len(embeddings.prompts)
        for name, (rows, stop) in tables.items():
            outside = rows[(rows < 0) | (rows >= stop)]
            if len(outside):
                raise PalError(
                    f"{name} must hold row numbers in [0, {stop}), got {outside[0].item()}; "
                    "check which table it was numbered for"
                )


def _check_weight(weight: Float[Tensor, " n"]) -> None:
    wrong = (~(torch.isfinite(weight) & (weight > 0))).nonzero()
    if len(wrong):
        row = wrong[0].item()
        raise PalError(
            f"weight must be a finite number above 0, got {weight[row].item():g} in comparison {row}; "
            "drop comparisons that are not to count"
        )


def _distinct_triples(
    prompt: Int[Tensor, " n"] | None, chosen: Int[Tensor, " n"], rejected: Int[Tensor, " n"]
) -> tuple[Questions, Int[Tensor, " n"]]:
    """Distinct (prompt, first, second) rows and each row's place, by two sorts of single numbers.

    A block of rows at a time is sorted, so that beside sixty million rows little else lies in memory.
    """
    if not len(chosen):
        none = torch.zeros(0, dtype=torch.long, device=chosen.device)
        return Questions(none, none, none), none
    width = int(max(chosen.max(), rejected.max())) + 1

    def sides(rows: slice) -> Int[Tensor, " block"]:
        a, b = chosen[rows].long(), rejected[rows].long()  # products of int32 overflow
        return torch.minimum(a, b) * width + torch.maximum(a, b)

    pairs = _distinct(map(sides, _slices(len(chosen))))

    def keys_of(rows: slice) -> Int[Tensor, " block"]:
        pair = torch.searchsorted(pairs, sides(rows))
        return pair if prompt is None else (prompt[rows].long() + 1) * len(pairs) + pair

    keys = _distinct(map(keys_of, _slices(len(chosen))))
    question = torch.empty(len(chosen), dtype=torch.long, device=chosen.device)
    for rows in _slices(len(chosen)):
        question[rows] = torch.searchsorted(keys, keys_of(rows))
    pair = pairs[keys % len(pairs)]
    return Questions(keys // len(pairs) - 1, pair // width, pair % width), question


def _distinct(blocks: Iterable[Int[Tensor, " block"]]) -> Int[Tensor, " distinct"]:
    """The distinct values of all blocks, ascending."""
    return torch.unique(torch.cat([torch.unique(block) for block in blocks]))


def _slices(n: int) -> list[slice]:
    return [slice(start, min(start + ROWS_AT_ONCE, n)) for start in range(0, n, ROWS_AT_ONCE)]


def distinct_rows(
    rows: Int[Tensor, " rows"], n_total: int
) -> tuple[Int[Tensor, " distinct"], Int[Tensor, " rows"]]:
    """The distinct values among row numbers below `n_total`, ascending, and where each row stands among them.

    Marks a table of flags in place of sorting, which `torch.unique` does and which costs more than a whole
    step of a small head; but a few rows of a huge table are sorted.
    """
    if n_total > max(SORT_FROM, 4 * len(rows)):
        return torch.unique(rows, return_inverse=True)
    mark = torch.zeros(n_total, dtype=torch.int32, device=rows.device)
    mark[rows] = 1
    place = mark.cumsum(0, dtype=torch.int32)
    return mark.nonzero().squeeze(1), place.index_select(0, rows).long() - 1
