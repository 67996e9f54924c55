"""`pal adapt`: tastes of new users from their comparisons, whose rows may come in any order."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pal.cli.people import id_in, read_tastes
from pal.cli.progress import watched
from pal.cli.serving import Serving, open_for, plain_words
from pal.cli.tables import Cells, Row, Table
from pal.cli.writing import output
from pal.errors import PalError
from pal.users.taste import Taste


def adapt(
    table: Table, model: Path, out: str, known: Path | None, options: dict[str, Any], *, forget: bool
) -> None:
    """Write a line per person: their taste, and their id where the table has ids.

    Args:
        table: With `chosen`, `rejected`, `prompt` where the model reads prompts, and perhaps `user_id` and
            `label`.
        model: The model's folder.
        out: Where to.
        known: Tastes to start from; who is not in the table stays as they are.
        options: What `Serving.open` takes.
        forget: Whether the comparisons are taken out of these tastes, in place of added.
    """
    if out != "-" and Path(out).suffix.lower() not in (".json", ".jsonl"):
        raise PalError(f"out must end in .jsonl, or .json for one person, got {out!r}; tastes are JSON")
    if forget and known is None:
        raise PalError("--forget needs --taste, the tastes that comparisons are to be taken out of")
    serving = open_for(table, model, **options)
    tastes = read_tastes(known, serving.model) if known else {}
    named = "user_id" in table.first.cells
    if named and "" in tastes:
        raise PalError(f"{known} must say whose taste it is, since the table has a column user_id")
    if not named and tastes.keys() - {""}:
        raise PalError(f"{table.name} must have a column user_id, since {known} names people; add it")
    for rows in watched(table, serving.at_once(table.first, "chosen")):
        for who, taste in _batch(serving, rows, named=named).items():
            tastes[who] = _combined(tastes.get(who), taste, who, forget=forget)
    if forget:  # who has nothing left is forgotten altogether
        tastes = {who: taste for who, taste in tastes.items() if taste.comparisons}
    if out.lower().endswith(".json") and len(tastes) > 1:
        raise PalError(f"out must end in .jsonl for the tastes of {len(tastes):,} people, got {out!r}")
    with output(out, "jsonl") as write:
        for who, taste in tastes.items():
            write([_line(who, taste)])


def _batch(serving: Serving, rows: Sequence[Row], *, named: bool) -> dict[str, Taste]:
    """What a batch's rows tell of each person in it."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if named != ("user_id" in row.cells):
            raise PalError(f"{row.place} must have a user_id if and only if the first row has one")
        groups.setdefault(id_in(row) if named else "", []).append(row)
    comparisons = {str(at): _comparisons(serving, group) for at, group in enumerate(groups.values())}
    with plain_words(*groups.values()):
        found = serving.model.adapt_many(comparisons)
    return dict(zip(groups, found.values(), strict=True))


def _comparisons(serving: Serving, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    prompts = serving.prompts(rows) or [None] * len(rows)
    sides = (serving.items(rows, side) for side in ("chosen", "rejected"))
    return list(zip(prompts, *sides, map(_label, rows), strict=True))


def _label(row: Row) -> float:
    """P(chosen is preferred): 1 where the table does not say."""
    cell = row.cells.get("label")
    if cell in (None, ""):
        return 1.0
    try:
        label = float(cell) if isinstance(cell, str | int | float) and not isinstance(cell, bool) else -1.0
    except ValueError:
        label = -1.0
    if not 0 <= label <= 1:
        raise PalError(f"label in {row.place} must lie in [0, 1], got {cell!r}; 0.5 is a tie")
    return label


def _combined(before: Taste | None, taste: Taste, who: str, *, forget: bool) -> Taste:
    if not forget:
        return taste if before is None else before + taste
    if before is None:
        raise PalError(f"--taste has no taste of {who!r}; take away only what went in")
    try:
        return before - taste
    except PalError as error:
        raise PalError(f"{error} (user {who!r})" if who else str(error)) from None


def _line(who: str, taste: Taste) -> Cells:
    return ({"user_id": who} if who else {}) | json.loads(taste.to_json())
