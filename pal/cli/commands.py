"""The commands that read and write tables: `pal score`, `pal rank` and `pal ask`."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pal.cli.loading import read_table, read_tastes, table_errors, unknown_user, users_of
from pal.cli.writing import open_writer
from pal.errors import PalError
from pal.logs.tables import Cells, Row

if TYPE_CHECKING:
    from pal.cli.app import Computing, Output, Users


def score(
    model: Path, table: str, users: "Users", output: "Output", options: "Computing", *, ranked: bool
) -> None:
    """Add each response's reward to its row; `ranked` sorts the rows of each prompt (and user) by it."""
    written = ("reward", "rank") if ranked else ("reward",)
    inputs, schema = read_table(model, table, ["response"], written, options)
    given = users_of(inputs.model, inputs.rows, users)

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
    with open_writer(output.out, output.kind, schema, safe_csv=output.safe_csv) as write:
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


def ask(
    model: Path,
    table: str,
    output: "Output",
    user: str | None,
    tastes: Path | None,
    options: "Computing",
    *,
    number: int,
    together: bool,
) -> None:
    """Write the pairs whose answers are expected to tell most of a user, with their bits.

    Asked together, all candidates are weighed against each other, so that none repeats what another tells;
    else each is weighed alone.
    """
    sides = ("response_a", "response_b")
    inputs, schema = read_table(model, table, sides, ["bits"], options)
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
        questions = inputs.aligned(rows, sides)
        with table_errors(rows):
            chosen = inputs.model.ask(questions, taste, n=number, together=together)
        pairs = [(each.bits, -before - each.index, rows[each.index].cells) for each in chosen]
        best = pairs if together else heapq.nlargest(number, best + pairs, key=lambda pair: pair[:2])
        before += len(rows)
    with open_writer(output.out, output.kind, schema, safe_csv=output.safe_csv) as write:
        write([{**cells, "bits": round(bits, 6)} for bits, _, cells in best])
