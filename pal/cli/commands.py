"""The commands that read and write tables: `pal score`, `pal rank`, `pal adapt` and `pal ask`.

Each takes `options`, the arguments of `loading.read_inputs` that all commands share.
"""

import heapq
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np

from pal.cli.loading import (
    TableModel,
    read_inputs,
    read_tastes,
    table_errors,
    unknown_user,
    user_id_in,
    users_of,
)
from pal.cli.writing import open_writer
from pal.errors import PalError
from pal.logs.tables import Cells, Row
from pal.users.taste import Taste


def score(
    model: Path,
    table: str,
    output: dict[str, Any],
    users: dict[str, Any],
    options: dict[str, Any],
    *,
    ranked: bool,
) -> None:
    """Add each response's reward to its row.

    Args:
        model: The model's folder.
        table: The table of responses.
        output: The table to write, `out`, and `safe_csv`: see `open_writer`.
        users: The options of `users_of`.
        options: See above.
        ranked: Whether to sort the rows of each prompt (and user) by their rewards, and number them.
    """
    written = ("reward", "rank") if ranked else ("reward",)
    inputs = read_inputs(model, table, ["response"], written, **options)
    given = users_of(inputs.model, inputs.table.rows, **users)

    def scored(rows: list[Row]) -> list[tuple[Row, float]]:
        user = [given[row.number - 1] for row in rows] if isinstance(given, list) else given
        prompts, responses = inputs.prompts(rows), inputs.items(rows, "response")
        with table_errors(rows):
            rewards = inputs.model.score(prompts, responses, user=user)
        return [(row, shortest_float(reward)) for row, reward in zip(rows, rewards.numpy(), strict=True)]

    batches = map(scored, inputs.batches())
    if ranked:
        by_user = ("user_id",) if isinstance(given, list) else ()
        written_rows = _ranked(chain.from_iterable(batches), (*inputs.prompt_columns, *by_user))
    else:
        written_rows = ([{**row.cells, "reward": reward} for row, reward in batch] for batch in batches)
    with inputs.writer(**output) as write:
        for rows in written_rows:
            write(rows)


def shortest_float(number: np.float32) -> float:
    """The float whose repr is the shortest decimal of a float32."""
    return float(str(number))


def _ranked(scored: Iterable[tuple[Row, float]], columns: Sequence[str]) -> Iterator[list[Cells]]:
    """The rows of each prompt (and user), best first; they must stand together in the table."""
    seen: set[str] = set()

    def group_key(pair: tuple[Row, float]) -> str:
        return repr([pair[0].cells.get(name) for name in columns])

    for key, group in groupby(scored, group_key):
        pairs = list(group)
        if key in seen:
            row = pairs[0][0]
            raise PalError(
                f"rows of one prompt{' and user' * (len(columns) > 1)} must stand together, got {row.place} "
                f"apart from the others; sort the table by {', '.join(columns)}",
                file=row.file,
                row=row.number,
            )
        seen.add(key)
        pairs.sort(key=lambda pair: -pair[1])
        yield [{**row.cells, "rank": n, "reward": reward} for n, (row, reward) in enumerate(pairs, 1)]


def adapt(
    model: Path, table: str, out: str, known: Path | None, options: dict[str, Any], *, forget: bool
) -> None:
    """Write the tastes of new users, one a line with the user's id where the table has ids.

    Args:
        model: The model's folder.
        table: The table of comparisons, whose rows may come in any order.
        out: The file of tastes to write.
        known: Tastes that the comparisons are added to; those of users who are not in the table stay.
        options: See above.
        forget: Whether the comparisons are taken out of these tastes instead.
    """
    if out != "-" and Path(out).suffix.lower() not in (".json", ".jsonl"):
        raise PalError(f"out must end in .jsonl, or .json for one person, got {out!r}; tastes are JSON")
    if forget and known is None:
        raise PalError("--forget needs --taste, the tastes that comparisons are to be taken out of")
    inputs = read_inputs(model, table, ["chosen", "rejected"], **options)
    tastes = read_tastes(known, inputs.model) if known else {}
    has_ids = "user_id" in inputs.first.cells
    if has_ids and "" in tastes:
        raise PalError(f"{known} must say whose taste it is, since the table has a column user_id")
    if not has_ids and tastes.keys() - {""}:
        name = inputs.table.name
        raise PalError(f"{name} must have a column user_id, since {known} names people; add it")
    for rows in inputs.batches("chosen"):
        for user_id, taste in _tastes(inputs, rows, None if forget else tastes, has_ids=has_ids).items():
            before = tastes.get(user_id)
            if forget and before is None:
                message = f"--taste has no taste of {user_id!r}; take away only what went in"
                raise PalError(message, user=user_id)
            try:
                total = taste if before is None else before - taste if forget else before + taste
            except PalError as error:
                raise PalError(f"{error} (user {user_id!r})" if user_id else str(error)) from None
            tastes[user_id] = total
    if forget:  # users of whom nothing is left are forgotten altogether
        tastes = {user_id: taste for user_id, taste in tastes.items() if taste.comparisons}
    if out.lower().endswith(".json") and len(tastes) > 1:
        raise PalError(f"out must end in .jsonl for the tastes of {len(tastes):,} people, got {out!r}")
    with open_writer(out, "jsonl") as write:
        for user_id, taste in tastes.items():
            write([({"user_id": user_id} if user_id else {}) | json.loads(taste.to_json())])


def _tastes(
    inputs: TableModel, rows: Sequence[Row], known: Collection[str] | None, *, has_ids: bool
) -> dict[str, Taste]:
    """The tastes that the comparisons of a batch give, by user; a missing label is 1.

    Attributes in the first row of someone who is not `known` yet are part of the taste, but for None.
    """
    groups: dict[str, list[Row]] = {}
    labels: dict[str, list[float]] = {}
    for row in rows:
        if has_ids != ("user_id" in row.cells):
            message = f"{row.place} must have a user_id if and only if the first row has one"
            raise PalError(message, file=row.file, row=row.number, column="user_id")
        user_id = user_id_in(row) if has_ids else ""
        cell = row.cells.get("label")
        try:
            label = 1.0 if cell in (None, "") else -1.0 if isinstance(cell, bool) else float(cell)
        except (TypeError, ValueError, OverflowError):
            label = -1.0
        if not 0 <= label <= 1:
            raise row.error("label", f"must lie in [0, 1], got {cell!r}; 0.5 is a tie")
        groups.setdefault(user_id, []).append(row)
        labels.setdefault(user_id, []).append(label)
    comparisons = {
        str(number): _aligned(inputs, group, ("chosen", "rejected"), labels[user_id])
        for number, (user_id, group) in enumerate(groups.items())
    }
    with table_errors(*groups.values()):
        located = inputs.model.adapt_many(comparisons)
    tastes = dict(zip(groups, located.values(), strict=True))
    prior = inputs.model.attributes
    for user_id in tastes if prior and known is not None else ():
        cells = groups[user_id][0].cells
        if user_id not in known and (told := {name: cells[name] for name in prior.columns if name in cells}):
            tastes[user_id] += inputs.model.taste_of(told)
    return tastes


def _aligned(
    inputs: TableModel, rows: Sequence[Row], sides: tuple[str, str], *more: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """Prompt, both responses and more of each row, as `adapt_many` and `ask` take them."""
    prompts = inputs.prompts(rows) or [None] * len(rows)
    return list(zip(prompts, *(inputs.items(rows, side) for side in sides), *more, strict=True))


def ask(
    model: Path,
    table: str,
    output: dict[str, Any],
    user: str | None,
    tastes: Path | None,
    options: dict[str, Any],
    *,
    number: int,
    together: bool,
) -> None:
    """Write the pairs whose answers are expected to tell most of a user, with their bits.

    Args:
        model: The model's folder.
        table: The table of pairs.
        output: The table to write: see `score`.
        user: The user who is asked, where `tastes` holds several.
        tastes: A file of tastes; without it the user is new.
        options: See above.
        number: How many pairs to write.
        together: Whether all are asked together, so that none repeats what another tells; then all
            candidates are weighed against each other, else each is weighed alone.
    """
    sides = ("response_a", "response_b")
    inputs = read_inputs(model, table, sides, ["bits"], **options)
    known = read_tastes(tastes, inputs.model) if tastes else {}
    if tastes is None and user in inputs.model.rows:
        raise PalError(
            f"--user needs --taste to ask: of {user!r}, seen in fitting, the model keeps weights and not "
            "how sure they are; adapt to this user's comparisons first"
        )
    if user is not None and user not in known:
        raise unknown_user(user, inputs.model)
    if user is None and len(known) > 1:
        raise PalError(f"--user must say whose of the {len(known):,} tastes in {tastes}")
    taste = next(iter(known.values()), None) if user is None else known[user]
    best: list[tuple[float, int, Cells]] = []
    before = 0
    batches = inputs.batches("response_a")
    for rows in [list(chain.from_iterable(batches))] if together else batches:
        questions = _aligned(inputs, rows, sides)
        with table_errors(rows):
            chosen = inputs.model.ask(questions, taste, n=number, together=together)
        pairs = [(each.bits, -before - each.index, rows[each.index].cells) for each in chosen]
        best = pairs if together else heapq.nlargest(number, best + pairs, key=lambda pair: pair[:2])
        before += len(rows)
    with inputs.writer(**output) as write:
        write([{**cells, "bits": round(bits, 6)} for bits, _, cells in best])
