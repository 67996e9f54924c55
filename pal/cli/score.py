"""`pal score` and `pal rank`: rewards of responses, row by row or best first."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pal.cli.columns import refuse_columns
from pal.cli.people import People
from pal.cli.progress import watched
from pal.cli.serving import Serving, open_for, plain_words
from pal.cli.tables import Cells, Row, Table
from pal.cli.writing import output
from pal.errors import PalError


def score(
    table: Table,
    model: Path,
    out: str,
    kind: str | None,
    whose: dict[str, Any],
    options: dict[str, Any],
    *,
    ranked: bool = False,
) -> None:
    """Add each response's reward to its row.

    Args:
        table: With `response`, `prompt` where the model reads prompts, and perhaps `user_id`.
        model: The model's folder.
        out: Where to.
        kind: The format of standard output.
        whose: What `People.of` takes.
        options: What `Serving.open` takes.
        ranked: Whether rows of one prompt are put in order, and numbered.
    """
    made = ("reward", "rank") if ranked else ("reward",)
    refuse_columns(table.name, table.first.cells, made)
    serving = open_for(table, model, **options)
    people = People.of(serving.model, table.first, **whose)
    scored = _scored(table, serving, people)
    with output(out, kind, table.schema) as write:
        for cells in _ranked(scored, serving, people) if ranked else map(_cells, scored):
            write(cells)


def _scored(table: Table, serving: Serving, people: People) -> Iterator[tuple[list[Row], list[float]]]:
    for rows in watched(table, serving.at_once(table.first)):
        weights = people.weights(rows)
        prompts, responses = serving.prompts(rows), serving.items(rows, "response")
        with plain_words(rows):
            rewards = serving.model.score(prompts, responses, user=weights)
        yield rows, [shown(reward) for reward in rewards.numpy()]


def shown(number: np.float32) -> float:
    """The shortest decimal that is the same number."""
    return float(str(number))


def _cells(scored: tuple[list[Row], list[float]]) -> list[Cells]:
    return [{**row.cells, "reward": reward} for row, reward in zip(*scored, strict=True)]


def _ranked(
    scored: Iterator[tuple[list[Row], list[float]]], serving: Serving, people: People
) -> Iterator[list[Cells]]:
    """Rows of one prompt (and one user) that stand together, best first, as soon as all are there.

    Raises:
        PalError: If rows of one prompt do not stand together.
    """
    done: set[bytes] = set()
    group: list[tuple[float, Cells]] = []
    now = None
    columns = (*serving.prompt_columns, *(("user_id",) if people.everyone is None else ()))
    for rows, rewards in scored:
        for row, reward in zip(rows, rewards, strict=True):
            key = _key(row, columns)
            if key != now:
                if group:
                    yield _in_order(group)
                if key in done:
                    raise PalError(
                        f"rows of one prompt{' and user' * (len(columns) > 1)} must stand together, got "
                        f"{row.place} apart from the others; sort the table by {', '.join(columns)}"
                    )
                done.add(key)
                now, group = key, []
            group.append((reward, row.cells))
    yield _in_order(group)


def _key(row: Row, columns: tuple[str, ...]) -> bytes:
    return hashlib.blake2b(repr([row.cells.get(name) for name in columns]).encode(), digest_size=16).digest()


def _in_order(group: list[tuple[float, Cells]]) -> list[Cells]:
    best_first = sorted(group, key=lambda one: -one[0])
    return [{**cells, "rank": at, "reward": reward} for at, (reward, cells) in enumerate(best_first, 1)]
