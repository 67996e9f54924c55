"""`pal ask`: which pair to put to someone next."""

import heapq
from pathlib import Path
from typing import Any

from pal.cli.columns import refuse_columns
from pal.cli.people import read_tastes, unknown
from pal.cli.progress import watched
from pal.cli.serving import Serving, open_for, plain_words
from pal.cli.tables import Cells, Row, Table
from pal.cli.writing import output
from pal.errors import PalError
from pal.users.taste import Taste


def ask(
    table: Table,
    model: Path,
    out: str,
    kind: str | None,
    who: tuple[str | None, Path | None],
    options: dict[str, Any],
    *,
    number: int,
    together: bool,
) -> None:
    """Write the rows whose answers would tell most, with the bits that they are expected to tell.

    Args:
        table: With `response_a`, `response_b`, and `prompt` where the model reads prompts.
        model: The model's folder.
        out: Where to.
        kind: The format of standard output.
        who: A user's id and a file of tastes; nothing of both is someone new.
        options: What `Serving.open` takes.
        number: How many questions are wanted.
        together: Whether they are put together, so that none repeats what another tells.
    """
    refuse_columns(table.name, table.first.cells, ("bits",))
    serving = open_for(table, model, **options)
    taste = _taste(serving, *who)
    chosen = _together(table, serving, taste, number) if together else _most(table, serving, taste, number)
    with output(out, kind, table.schema) as write:
        write([{**cells, "bits": round(bits, 6)} for bits, cells in chosen])


def _taste(serving: Serving, user: str | None, path: Path | None) -> Taste | None:
    """The taste of the one who is asked."""
    if path is None:
        if user is None:
            return None
        if user in serving.model.rows:
            raise PalError(
                f"--user needs --taste to ask: of {user!r}, seen in fitting, the model keeps weights and not "
                "how sure they are; adapt to this user's comparisons first"
            )
        raise unknown(user, serving.model)
    tastes = read_tastes(path, serving.model)
    if user is None and len(tastes) > 1:
        raise PalError(f"--user must say whose of the {len(tastes):,} tastes in {path}")
    if user is None:
        return next(iter(tastes.values()))
    if user not in tastes:
        raise unknown(user, serving.model)
    return tastes[user]


def _questions(serving: Serving, rows: list[Row]) -> list[tuple[Any, Any, Any]]:
    prompts = serving.prompts(rows) or [None] * len(rows)
    sides = (serving.items(rows, side) for side in ("response_a", "response_b"))
    return list(zip(prompts, *sides, strict=True))


def _most(table: Table, serving: Serving, taste: Taste | None, number: int) -> list[tuple[float, Cells]]:
    """The best so many of any number of candidates, each weighed alone; equal ones as they came."""
    best: list[tuple[float, int, Cells]] = []
    seen = 0
    for rows in watched(table, serving.at_once(table.first, "response_a")):
        questions = _questions(serving, rows)
        with plain_words(rows):
            asked = serving.model.ask(questions, taste, n=number)
        found = [(one.bits, -(seen + one.index), rows[one.index].cells) for one in asked]
        best = heapq.nlargest(number, best + found, key=lambda one: one[:2])
        seen += len(rows)
    return [(bits, cells) for bits, _, cells in best]


def _together(table: Table, serving: Serving, taste: Taste | None, number: int) -> list[tuple[float, Cells]]:
    """Questions in a sequence, for which all candidates are weighed against each other."""
    rows = [row for batch in watched(table, serving.at_once(table.first, "response_a")) for row in batch]
    questions = _questions(serving, rows)
    with plain_words(rows):
        asked = serving.model.ask(questions, taste, n=number, together=True)
    return [(one.bits, rows[one.index].cells) for one in asked]
