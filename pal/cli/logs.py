"""The commands that start from a log of answers: `pal fit`, `pal compare`, `pal eval` and `pal adapt`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pal.cli.tables import (
    TableModel,
    load_model,
    notes_of_fit,
    open_writer,
    places_of,
    read_tastes,
    table_errors,
)
from pal.errors import PalError
from pal.files import write_json
from pal.logs.answers import attributes_of_people
from pal.logs.columns import parse_columns, parsed_json
from pal.logs.read import FILE, ROW
from pal.logs.shapes import EVERYONE, Log, read_log
from pal.logs.tables import Row
from pal.serving.reward_model import RewardModel

if TYPE_CHECKING:
    from pal.cli.app import FitOptions, LogOptions, OneFitOptions


def fit(source: str, out: Path, options: "OneFitOptions") -> None:
    """Fit a log, and say what was understood, found and written."""
    from pal.serving import fit_log

    if options.K != "auto" and not options.K.isdigit():
        raise PalError(f"-K must be auto or a whole number, got {options.K!r}")
    if not 0 <= options.unseen < 1:
        raise PalError(f"--unseen must be a share from 0 to below 1, got {options.unseen:g}")
    K = options.K if options.K == "auto" else int(options.K)
    given = _given(options, K=K, attributes=_names(options.attributes))
    try:
        fit_log.fit(source, out=out, **given, say=lambda text: print(text, "\n", sep=""))
    except KeyboardInterrupt:
        kept = "what was encoded is kept, so that a rerun goes on from there"
        raise PalError(f"stopped before {out} was written; {kept}") from None
    print(f"{out / fit_log.REPORT}  what was found\n{out / fit_log.METRICS}  its numbers")
    print(f"{out / fit_log.KEPT}  the model:\n  pal rank {out} replies.csv --user NAME")


def evaluate(model: Path, source: str, options: "LogOptions") -> None:
    """Print the accuracies of a saved model on a log, as JSON."""
    from pal.serving import fit_log

    found = fit_log.evaluate(load_model(model, options), source, **_given(options), say=_note)
    print(json.dumps(found, indent=2))
    if found["log"] == notes_of_fit(model).get("log"):
        _note("These are the answers that the model was fitted to, on which it is nearly always right.")


def compare(source: str, methods: str, out: Path | None, options: "FitOptions") -> None:
    """Print methods side by side on a log, and which to take; `out` is a JSON file to write."""
    from pal.methods.compare import printed
    from pal.serving import fit_log

    found = fit_log.compare(source, _names(methods), **_given(options), say=_note)
    print(printed(found["rows"]))
    print("\n".join([*found["notes"], found["verdict"]]))
    if out is not None:
        write_json(out, found)


def adapt(
    folder: Path, source: str, out: str, known: Path | None, options: "LogOptions", *, forget: bool
) -> None:
    """Write the tastes of the people of a log, one a line with the person's id where the log has ids.

    Args:
        folder: The model's folder.
        source: The log, whose rows may come in any order.
        out: The file of tastes to write.
        known: Tastes that the comparisons are added to; those of people who are not in the log stay.
        options: How the log is read, and where encoders come from.
        forget: Whether the comparisons are taken out of these tastes instead.
    """
    if out != "-" and Path(out).suffix.lower() not in (".json", ".jsonl"):
        raise PalError(f"out must end in .jsonl, or .json for one person, got {out!r}; tastes are JSON")
    if forget and known is None:
        raise PalError("--forget needs --taste, the tastes that comparisons are to be taken out of")
    model, columns = load_model(folder, options), parse_columns(options.columns or "")
    prior = list(model.attributes.columns) if model.attributes else []
    log = read_log(
        source, columns, values=_values(options.values), ties="keep", known=prior, alone=True,
        seed=options.seed,
    )  # fmt: skip
    tastes = read_tastes(known, model) if known else {}
    has_ids = bool(log.columns.roles.get("user_id"))
    if has_ids and "" in tastes:
        raise PalError(f"{known} must say whose taste it is, since {log.table.source} names people")
    if not has_ids and tastes.keys() - {""}:
        raise PalError(f"{log.table.source} must have a column user_id, since {known} names people; add it")
    inputs = TableModel(model, _rows(log, model), log.table.folder)
    before = set(tastes)
    for rows in inputs.batches("chosen"):
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(row.cells["user_id"] if has_ids else "", []).append(row)
        comparisons = {
            str(n): inputs.aligned(group, ("chosen", "rejected"), [row.cells["label"] for row in group])
            for n, group in enumerate(groups.values())
        }
        with table_errors(*groups.values()):
            located = model.adapt_many(comparisons).values()
        for user_id, taste in zip(groups, located, strict=True):
            if forget and user_id not in tastes:
                message = f"--taste has no taste of {user_id!r}; take away only what went in"
                raise PalError(message, user=user_id)
            try:
                had = tastes.get(user_id)
                tastes[user_id] = taste if had is None else had - taste if forget else had + taste
            except PalError as error:
                raise PalError(f"{error} (user {user_id!r})" if user_id else str(error)) from None
    told = attributes_of_people(log.attributes, log.pairs["user_id"])
    for user_id in tastes.keys() - before:  # of the others a taste has said it already
        if about := told.get(user_id or EVERYONE):
            tastes[user_id] += model.taste_of(about)
    if forget:  # people of whom nothing is left are forgotten altogether
        tastes = {user_id: taste for user_id, taste in tastes.items() if taste.comparisons}
    if out.lower().endswith(".json") and len(tastes) > 1:
        raise PalError(f"out must end in .jsonl for the tastes of {len(tastes):,} people, got {out!r}")
    with open_writer(out, "jsonl") as write:
        for user_id, taste in tastes.items():
            write([({"user_id": user_id} if user_id else {}) | json.loads(taste.to_json())])
    _note(log.summary())


def _rows(log: Log, model: RewardModel) -> list[Row]:
    """A log's comparisons as rows of a table, with lists of numbers where the model reads vectors."""
    sides = {"prompt": "prompts", "chosen": "responses", "rejected": "responses"}
    vectors = [column for column, side in sides.items() if model.input_encoder.name(side) is None]
    rows = []
    for cells in log.pairs.iter_rows(named=True):
        cells |= {column: parsed_json(cells[column]) for column in vectors}
        rows.append(Row(cells.pop(FILE), cells.pop(ROW), None, cells))
    return rows


def _note(text: str) -> None:
    """What was understood, beside what is printed for others to read."""
    print(text, "\n", sep="", file=sys.stderr)


def _given(options: "LogOptions", **others: Any) -> dict[str, Any]:
    """What options say: columns by role, sides by value, and `fit_log.Options`."""
    from pal.serving.fit_log import Options

    given = vars(options) | {"weights": places_of(options.weights)} | others
    columns, values = parse_columns(given.pop("columns") or ""), _values(given.pop("values"))
    return {"columns": columns, "values": values, "options": Options(**given)}


def _values(text: str | None) -> dict[str, str]:
    sides = dict(part.split("=", 1) for part in (text or "").split(",") if "=" in part)
    if text and not sides:
        raise PalError(f"--values must be VALUE=SIDE, separated by commas, got {text!r}")
    return sides


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]
