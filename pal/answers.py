"""Answers of one person or many, as tastes.

Shapes used in this module:
    n       comparisons
    users   people to locate
    points  points of the prior
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from pal.adapt import comparison_log_likelihoods
from pal.comparisons import Comparisons
from pal.errors import PalError
from pal.items import listed
from pal.preferences import Preferences
from pal.questions import joined, read_questions
from pal.reader import Reader
from pal.saved import SavedModel
from pal.taste import UNIT, Taste, in_units

AT_ONCE = 1 << 15  # comparisons read together: bounds memory


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
    group: dict[str, Preferences] = {}
    count = 0
    alone = len(answers) == 1
    for user_id, given in answers.items():
        try:
            group[user_id] = Preferences.of(given)
            count += len(listed(group[user_id].chosen))
        except PalError as error:
            raise (error if alone else PalError(f"{error} (user {user_id!r})")) from None
        if count >= AT_ONCE:
            found |= _tastes(model, reader, group, alone=alone)
            group, count = {}, 0
    return found | _tastes(model, reader, group, alone=alone)


def _tastes(
    model: SavedModel, reader: Reader, group: Mapping[str, Preferences], *, alone: bool
) -> dict[str, Taste]:
    """One group's tastes: everything read together, then summed user by user."""
    if not group:
        return {}
    columns = list(group.values())
    chosen, rejected = ([listed(getattr(one, side)) for one in columns] for side in ("chosen", "rejected"))
    counts = [len(part) for part in chosen]
    _check_counts(group, counts, [len(part) for part in rejected])
    read = read_questions(
        model,
        reader,
        _prompts(columns, counts) if model.head.needs_prompts else None,
        joined(chosen),
        joined(rejected),
        _namer(list(group), counts, alone=alone),
        ("chosen", "rejected"),
    )
    user = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    comparisons = Comparisons.of(
        user=user,
        prompt=read.questions.prompt,
        chosen=read.questions.first,
        rejected=read.questions.second,
        label=_labels(columns, counts),
    )
    with torch.no_grad():
        each = comparison_log_likelihoods(
            model.head, model.prior, read.embeddings, comparisons, model.fit_config.loss
        )
    units = in_units(each)
    total = units.new_zeros(len(counts), units.shape[1]).index_add(0, user, units).mul(UNIT).tolist()
    return {
        user_id: Taste(model.fingerprint, tuple(row), count, model.prior)
        for user_id, row, count in zip(group, total, counts, strict=True)
    }


def _check_counts(group: Mapping[str, Preferences], chosen: list[int], rejected: list[int]) -> None:
    for user_id, one, other in zip(group, chosen, rejected, strict=True):
        if one != other:
            whose = f" of user {user_id!r}" if len(group) > 1 else ""
            raise PalError(f"chosen and rejected{whose} must be as many, got {one} and {other}")


def _prompts(columns: list[Preferences], counts: list[int]) -> Tensor | list[Any] | None:
    """All prompts; one that stands for all of a person's comparisons is repeated."""
    parts: list[Tensor | list[Any]] = []
    for one, count in zip(columns, counts, strict=True):
        if not count:
            continue
        if one.prompts is None:
            return None
        found = listed(one.prompts)
        if len(found) not in (1, count):
            raise PalError(f"prompts must be one, or one for each of {count} comparisons, got {len(found)}")
        if len(found) < count:
            found = found.expand(count, -1) if isinstance(found, Tensor) else found * count
        parts.append(found)
    return joined(parts)


def _labels(columns: list[Preferences], counts: list[int]) -> Tensor | None:
    found = [one.labels for one in columns]
    if all(label is None for label in found):
        return None
    for label, count in zip(found, counts, strict=True):
        if label is not None and label.shape != (count,):
            raise PalError(f"label must be one for each of {count} comparisons, got {tuple(label.shape)}")
    return torch.cat(
        [torch.ones(n) if label is None else label for label, n in zip(found, counts, strict=True)]
    )


def _namer(users: list[str], counts: list[int], *, alone: bool) -> Callable[[str, int], str]:
    """What an item is called: `chosen of comparison 3 of user 'ann'`, or without the user."""
    starts = list(accumulate(counts, initial=0))

    def name(side: str, row: int) -> str:
        at = bisect_right(starts, row) - 1
        return f"{side} of comparison {row - starts[at]}" + ("" if alone else f" of user {users[at]!r}")

    return name
