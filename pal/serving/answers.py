"""Answers of one person or many, as tastes.

Shapes used in this module:
    n       comparisons
    users   people to locate
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from pal.comparisons import Comparisons
from pal.errors import PalError
from pal.serving.items import count_of, listed
from pal.serving.preferences import Preferences
from pal.serving.questions import joined, read_questions
from pal.serving.reader import Reader
from pal.serving.saved import SavedModel
from pal.users.taste import Taste, sum_evidence

# Comparisons read together: what repeats among raw items is encoded once, so as many as memory allows; of
# embeddings so few that they stay near the processor.
AT_ONCE, EMBEDDINGS_AT_ONCE = 1 << 15, 1 << 10


@dataclass(frozen=True)
class _Answers:
    """One person's comparisons, counted: as many of everything as there are comparisons."""

    prompts: Tensor | list[Any] | None
    chosen: Tensor | list[Any]
    rejected: Tensor | list[Any]
    label: Tensor | None
    n: int

    @classmethod
    def of(cls, given: Any, *, needs_prompts: bool) -> "_Answers":
        columns = Preferences.of(given)
        chosen, rejected, label = listed(columns.chosen), listed(columns.rejected), columns.labels
        n = count_of(chosen)
        if count_of(rejected) != n or (label is not None and label.shape != (n,)):
            raise PalError(
                f"rejected and labels must be as many as the {n} chosen, got {len(rejected)} and "
                f"{n if label is None else tuple(label.shape)}"
            )
        prompts = None if columns.prompts is None or not needs_prompts else listed(columns.prompts)
        if prompts is not None and count_of(prompts) != n:
            if len(prompts) != 1:
                raise PalError(f"prompts must be one, or one for each of {n} chosen, got {len(prompts)}")
            prompts = prompts.expand(n, -1) if isinstance(prompts, Tensor) else prompts * n
        return cls(prompts, chosen, rejected, label, n)


def tastes(model: SavedModel, reader: Reader, answers: Mapping[str, Any]) -> dict[str, Taste]:
    """Locate people by their comparisons, in groups of bounded size.

    Args:
        model: Stays as it is.
        reader: The model's encoders.
        answers: Each person's, by any id; whatever `Preferences.of` takes.

    Raises:
        PalError: Naming the person, where there are several, and the comparison.
    """
    found: dict[str, Taste] = {}
    group: dict[str, _Answers] = {}
    count = 0
    alone = len(answers) == 1
    for user_id, given in answers.items():
        try:
            group[user_id] = _Answers.of(given, needs_prompts=model.head.needs_prompts)
        except PalError as error:
            raise (error if alone else PalError(f"{error} (user {user_id!r})")) from None
        count += group[user_id].n
        if count >= (EMBEDDINGS_AT_ONCE if isinstance(group[user_id].chosen, Tensor) else AT_ONCE):
            found |= _tastes(model, reader, group, alone=alone)
            group, count = {}, 0
    return found | _tastes(model, reader, group, alone=alone)


def _tastes(
    model: SavedModel, reader: Reader, group: Mapping[str, _Answers], *, alone: bool
) -> dict[str, Taste]:
    """One group's tastes: everything read together, then summed user by user."""
    columns = list(group.values())
    counts = [one.n for one in columns]
    where = _namer(list(group), counts, alone=alone)
    responses = joined([*(one.chosen for one in columns), *(one.rejected for one in columns)])
    prompts = _prompts(columns) if model.head.needs_prompts else None
    read = read_questions(model, reader, prompts, responses, where, ("chosen", "rejected"))
    user = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.long))
    comparisons = Comparisons.from_pairs(
        user=user,
        prompt=read.questions.prompt,
        chosen=read.questions.first,
        rejected=read.questions.second,
        label=_labels(columns),
    )
    with torch.no_grad():
        evidence = model.population.evidence(model.head, read.embeddings, comparisons, model.fit_config.loss)
    return dict(zip(group, sum_evidence(model, evidence, counts), strict=True))


def _prompts(columns: list[_Answers]) -> Tensor | list[Any] | None:
    """All prompts; None where someone has none."""
    parts = [one.prompts for one in columns if one.n and one.prompts is not None]
    return joined(parts) if len(parts) == sum(one.n > 0 for one in columns) else None


def _labels(columns: list[_Answers]) -> Tensor | None:
    if all(one.label is None for one in columns):
        return None
    return torch.cat([torch.ones(one.n) if one.label is None else one.label for one in columns])


def _namer(users: list[str], counts: list[int], *, alone: bool) -> Callable[[str, int], str]:
    """What an item is called: `chosen of comparison 3 of user 'ann'`, or without the user."""
    starts = list(accumulate(counts, initial=0))

    def name(side: str, row: int) -> str:
        at = bisect_right(starts, row) - 1
        return f"{side} of comparison {row - starts[at]}" + ("" if alone else f" of user {users[at]!r}")

    return name
