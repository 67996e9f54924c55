"""What commands work on: tables that are read and written, models that read their cells, and users' states.

A file of tastes has one person a line, as `pal adapt` writes it: a taste, with the person's `user_id` where
there are several.
"""

import csv
import io
import json
import math
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from pal.conversations import parsed_json
from pal.errors import PalError, cut, reason
from pal.files import new_file, read_bytes
from pal.logs.tables import IMAGE_SUFFIXES, Cells, Row, file_error, read_rows
from pal.serving.inputs import Side
from pal.serving.reward_model import RewardModel, User
from pal.users.taste import Taste

if TYPE_CHECKING:
    from pal.cli.app import Computing, Output, Users
    from pal.logs.shapes import Log

FORMATS = ("jsonl", "csv", "parquet")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a text begins that spreadsheets compute
ROWS, PICTURES = 1024, 128  # rows of a batch: seconds of encoding
# The columns of tables for what the library calls its arguments.
COLUMNS = {"prompts": "prompt", "responses": "response", "first": "response_a", "second": "response_b"}


@dataclass(frozen=True)
class TableModel:
    """A reward model that reads the cells of a table."""

    model: RewardModel
    rows: Sequence[Row]  # at least one, but for commands that may do without a table
    folder: Path  # what paths of pictures are relative to

    def batches(self, column: str) -> Iterator[list[Row]]:
        """The rows in batches, with a progress bar on a terminal where the work takes a while."""
        size = PICTURES if self._is_picture(self.rows[0].cells[column], "responses") else ROWS
        with tqdm(total=len(self.rows), unit=" rows", delay=1, disable=None, leave=False) as bar:
            for start in range(0, len(self.rows), size):
                batch = list(self.rows[start : start + size])
                yield batch
                bar.update(len(batch))

    def prompts(self, rows: Sequence[Row]) -> list[Any] | None:
        """The prompt of each row; None where the model reads none."""
        return self.items(rows, "prompt", "prompts") if self.model.reads_prompts else None

    def items(self, rows: Sequence[Row], column: str, side: Side = "responses") -> list[Any]:
        """What a column's cells stand for: texts, pictures, or vectors; all else is refused."""
        items = []
        for row in rows:
            cell = row.cells[column]
            kinds = {type(part) for part in cell} if isinstance(cell, list) else set()
            if not isinstance(cell, str | bytes) and kinds not in ({dict}, {int}, {float}, {int, float}):
                got = "nothing" if cell is None else f"a value of type {type(cell).__name__}"
                problem = f"must be a text, messages, the path of an image or a list of numbers, got {got}"
                raise row.error(column, problem)
            items.append(self.folder / cell if cell and self._is_picture(cell, side) else cell)
        return items

    def aligned(
        self, rows: Sequence[Row], sides: tuple[str, str], *more: Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        """Prompt, both responses and more of each row, as `adapt_many` and `ask` take them."""
        prompts = self.prompts(rows) or [None] * len(rows)
        return list(zip(prompts, *(self.items(rows, side) for side in sides), *more, strict=True))

    def _is_picture(self, cell: Any, side: Side) -> bool:
        """Whether a cell is the path of a picture: by its name where the encoder reads texts too."""
        if not isinstance(cell, str):
            return False
        readable = self.model.input_encoder.load(side).modalities
        return "image" in readable and ("text" not in readable or cell.lower().endswith(IMAGE_SUFFIXES))


def read_table(
    folder: Path, table: str, needed: Iterable[str], written: Iterable[str], options: "Computing"
) -> tuple[TableModel, Any]:
    """Read a table, and load a model that reads its cells; also the table's Arrow schema, where it has one.

    The table must have the columns that are `needed`, and not those that the command writes.
    """
    read = read_rows(table)
    read.require(needed)
    for taken in sorted(read.rows[0].cells.keys() & set(written)):
        problem = f"must not have the column {taken}, which is to be written; rename it"
        raise file_error(read.name, problem, column=taken)
    for sentence in read.said:
        print(f"note: {sentence}", file=sys.stderr)
    model = load_model(folder, options)
    read.require(["prompt"] if model.reads_prompts else [])
    return TableModel(model, read.rows, Path(table).parent), read.schema


def load_model(folder: Path, options: "Computing") -> RewardModel:
    """Load a model, its encoders as the options say."""
    return RewardModel.load(folder, weights=places_of(options.weights), device=options.device)


def notes_of_fit(folder: Path) -> dict[str, Any]:
    """What `pal fit` wrote beside a model, in metrics.json; empty where there is none."""
    for metrics in (folder / "metrics.json", folder / ".." / "metrics.json"):
        if metrics.is_file():
            return json.loads(metrics.read_text(encoding="utf-8"))
    return {}


def places_of(weights: Sequence[str] | None) -> dict[str, str]:
    """Where encoders' weights come from, from NAME=PLACE each."""
    for each in weights or ():
        if not all(each.partition("=")):
            raise PalError(f"--weights must be NAME=PLACE, got {each!r}; a place is package, hub or a folder")
    return dict(each.split("=", 1) for each in weights or ())


@contextmanager
def table_errors(groups: Mapping[str, Sequence[Row]]) -> Iterator[None]:
    """Name rows of the table in errors of the library, which numbers the items of each of several users."""
    try:
        yield
    except PalError as error:
        if error.row is None or error.problem is None:
            raise
        row = groups[next(iter(groups)) if error.user is None else error.user][error.row]
        raise row.error(COLUMNS.get(error.column, error.column), error.problem) from None


def read_tastes(path: Path, model: RewardModel) -> dict[str, Taste]:
    """Tastes by user ids; a file of one person's taste may leave the id out, which is then empty."""
    tastes: dict[str, Taste] = {}
    for number, line in enumerate(read_bytes(path, "name what pal adapt wrote").splitlines(), 1):
        if not line.strip():
            continue
        try:
            taste = Taste.from_json(line, model)
        except PalError as error:
            message = f"line {number:,} of {path} cannot be used: {error}"
            raise PalError(message, file=str(path), row=number) from None
        user_id = json.loads(line).get("user_id", "")
        if not isinstance(user_id, str):
            raise Row(str(path), number, number, {}).error("user_id", f"must be text, got {user_id!r}")
        if user_id in tastes:
            raise PalError(f"{path} must have one taste of {user_id!r}, got two; merge them with pal adapt")
        tastes[user_id] = taste
    if not tastes:
        raise PalError(f"{path} must hold a taste, got an empty file; make one with pal adapt")
    if "" in tastes and len(tastes) > 1:
        raise PalError(f"{path} must say the user_id of each of its {len(tastes):,} tastes, got one without")
    return tastes


def unknown_user(user_id: str, model: RewardModel) -> PalError:
    """The error of a user who was not seen in fitting and has no taste."""
    rule = f"user must be one of the {len(model.rows):,} seen in fitting, or in the file of --taste"
    advice = "adapt to this user's comparisons first, `pal adapt MODEL COMPARISONS --out TASTES`, and give "
    advice += "`--taste TASTES`, or take --average for the average user"
    return PalError(f"{rule}, got {user_id!r}; {advice}", user=user_id)


def users_of(model: RewardModel, rows: Sequence[Row], options: "Users") -> User | list[User]:
    """Whose reward rows have: one user for all, or one for each row where the first has a `user_id`."""
    user, tastes, average, attributes = options.user, options.tastes, options.average, options.attributes
    for alone in (average and "--average", attributes and "--attributes"):
        if alone and ((average and attributes) or user is not None or tastes is not None):
            others = "another of these, --user or --taste"
            raise PalError(f"{alone} must stand alone, got {others}; leave one out")
    if attributes is not None:
        parts = [part.partition("=") for part in attributes.split(",")]
        if not all(name.strip() and equals for name, equals, _ in parts):
            raise PalError(f"--attributes must be NAME=VALUE, separated by commas, got {attributes!r}")
        return model.taste_of({name.strip(): value.strip() for name, _, value in parts})
    known = read_tastes(tastes, model) if tastes else {}
    if user is not None:
        if user not in known and user not in model.rows:
            raise unknown_user(user, model)
        return known.get(user, user)
    if "" in known:
        return known[""]
    if average or "user_id" not in rows[0].cells:
        if len(known) > 1:
            among = f"the {len(known):,} tastes, or a column user_id in the table"
            raise PalError(f"--user must say whose of {among}")
        return next(iter(known.values()), None)
    users = []
    for row in rows:
        cell = row.cells.get("user_id")
        user_id = str(cell) if type(cell) is int else cell  # whole numbers are as good as texts
        if not isinstance(user_id, str) or not user_id:
            got = "nothing" if cell in (None, "") else f"a value of type {type(cell).__name__}"
            raise row.error("user_id", f"must be text or a whole number, got {got}")
        if user_id not in known and user_id not in model.rows:
            message = f"{unknown_user(user_id, model)} ({row.place})"
            raise PalError(message, file=row.file, row=row.number, column="user_id")
        users.append(known.get(user_id, user_id))
    return users


def write_rewards(
    model: Path, table: str, users: "Users", output: "Output", options: "Computing", *, ranked: bool = False
) -> None:
    """Add each response's reward to its row; `ranked` sorts the rows of each prompt (and user) by it."""
    written = ("reward", "rank") if ranked else ("reward",)
    inputs, schema = read_table(model, table, ["response"], written, options)
    given = users_of(inputs.model, inputs.rows, users)

    def scored(rows: list[Row]) -> list[tuple[Row, float]]:
        user = [given[row.number - 1] for row in rows] if isinstance(given, list) else given
        prompts, responses = inputs.prompts(rows), inputs.items(rows, "response")
        with table_errors({"": rows}):
            rewards = inputs.model.score(prompts, responses, user=user)
        # The float whose repr is the shortest decimal of a float32.
        return [(row, float(str(reward))) for row, reward in zip(rows, rewards.numpy(), strict=True)]

    batches = map(scored, inputs.batches("response"))
    if ranked:
        known = {"prompt": inputs.model.reads_prompts, "user_id": isinstance(given, list)}
        rows = _ranked(chain.from_iterable(batches), [name for name, there in known.items() if there])
    else:
        rows = ([{**row.cells, "reward": reward} for row, reward in batch] for batch in batches)
    write_rows(rows, output.out, output.kind, schema, safe_csv=output.safe_csv)


def _ranked(scored: Iterable[tuple[Row, float]], columns: Sequence[str]) -> Iterator[list[Cells]]:
    """The rows of each prompt (and user), best first; they must stand together in the table."""
    seen: set[str] = set()
    for key, group in groupby(scored, lambda pair: repr([pair[0].cells.get(name) for name in columns])):
        pairs = list(group)
        if key in seen:
            row, _ = pairs[0]
            rule = f"rows of one prompt{' and user' * (len(columns) > 1)} must stand together"
            got = f"got {row.place} apart from the others; sort the table by {', '.join(columns)}"
            raise PalError(f"{rule}, {got}", file=row.file, row=row.number)
        seen.add(key)
        pairs.sort(key=lambda pair: -pair[1])
        yield [{**row.cells, "rank": n, "reward": reward} for n, (row, reward) in enumerate(pairs, 1)]


def rows_of_log(log: "Log", model: RewardModel) -> list[Row]:
    """A log's comparisons as rows of a table, with lists of numbers where the model reads vectors."""
    from pal.logs.answers import HALVES
    from pal.logs.read import FILE, ROW

    vectors = [c for half, sides in HALVES.items() if not model.input_encoder.describe(half) for c in sides]
    rows = []
    for cells in log.pairs.iter_rows(named=True):
        cells |= {column: parsed_json(cells[column]) for column in vectors}
        rows.append(Row(cells.pop(FILE), cells.pop(ROW), None, cells))
    return rows


def table_format(path: str, stated: str | None) -> str:
    """The format of a table: jsonl, csv or parquet, by its suffix, else as stated; `shown` on a terminal."""
    if (suffix := Path(path).suffix.lower().removeprefix(".")) in FORMATS:
        return suffix
    if stated is None and path != "-":
        raise file_error(path, "must end in .jsonl, .csv or .parquet, or --format must say what it is")
    return stated or ("shown" if sys.stdout.isatty() else "jsonl")


def write_rows(
    batches: Iterable[list[Cells]], path: str, kind: str | None, schema: Any = None, *, safe_csv: bool = False
) -> None:
    """Write lists of rows to a file, which appears under its name once it is whole, or to `-`.

    Columns that are passed on from Parquet have their types in `schema`; `safe_csv` puts a quote before texts
    that spreadsheets compute.
    """
    kind = table_format(path, kind)
    if path == "-" and kind == "parquet" and sys.stdout.isatty():
        raise PalError("Parquet is not for a terminal; give --out FILE, or another --format")
    with nullcontext(sys.stdout.buffer) if path == "-" else new_file(Path(path)) as file:
        if kind == "parquet":
            _write_parquet(file, list(chain.from_iterable(batches)), schema)
        elif kind == "shown":
            for rows in batches:
                print(shown(rows))
        else:
            names: list[str] = []
            for rows in batches:
                file.write(_lines(kind, rows, names, safe_csv=safe_csv))
                file.flush()  # whoever reads a pipe gets each batch at once


def shown(rows: list[Cells]) -> str:
    """Rows as a table as wide as the terminal: numbers first, texts cut to share what is left."""
    is_number = {name: isinstance(cell, int | float) for name, cell in rows[0].items()}
    names = sorted(rows[0], key=lambda name: not is_number[name])
    cells = [[row.get(name, "") for name in names] for row in rows]
    texts = [[f"{x:.3f}" if isinstance(x, float) else " ".join(str(x).split()) for x in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(names, *texts, strict=True)]
    n_numbers = sum(is_number.values())
    left = shutil.get_terminal_size().columns - sum(width + 2 for width in widths[:n_numbers])
    most = max(8, left // max(1, len(names) - n_numbers) - 2)
    widths[n_numbers:] = [min(width, most) for width in widths[n_numbers:]]
    lines = ("  ".join(map(str.ljust, map(cut, line, widths), widths)).rstrip() for line in (names, *texts))
    return "".join(f"{line}\n" for line in lines)


def _lines(kind: str, rows: list[Cells], names: list[str], *, safe_csv: bool) -> bytes:
    """Rows as JSONL, or as CSV, whose `names` the first row sets; nested cells are JSON in it."""
    text = io.StringIO()
    try:
        if kind == "csv":
            table = csv.writer(text, lineterminator="\n")  # pyarrow's writer quotes every text
            if not names:
                names.extend(rows[0])
                table.writerow(_csv_cell(name, safe=safe_csv) for name in names)
            for row in rows:
                _check_same_columns(row, names)
                table.writerow([_csv_cell(row[name], safe=safe_csv) for name in names])
        else:
            text.writelines(json.dumps(_as_json(row), ensure_ascii=False) + "\n" for row in rows)
        return text.getvalue().encode()
    except UnicodeEncodeError:
        raise PalError("a row holds half of a surrogate pair, which is no character; leave it out") from None
    except TypeError as error:
        raise PalError(f"a row cannot be written as JSON ({error}); leave that column out") from None


def _csv_cell(cell: Any, *, safe: bool) -> Any:
    if isinstance(cell, list | dict | bool):
        return json.dumps(_as_json(cell), ensure_ascii=False)
    if safe and isinstance(cell, str) and cell.startswith(FORMULA):
        return f"'{cell}"
    return _as_json(cell) if isinstance(cell, datetime | date | time) else cell


def _as_json(value: Any) -> Any:
    """A cell as JSON has it: times as ISO 8601, decimals as text, and null for what is no finite number."""
    if isinstance(value, dict):
        return {str(name): _as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_parquet(file: io.BufferedIOBase, rows: list[Cells], schema: pa.Schema | None) -> None:
    """Write all rows: columns that were read have their types, those of nothing but nulls are texts."""
    known = {} if schema is None else {field.name: field for field in schema}
    for row in rows:
        if not row.keys() <= rows[0].keys():
            _check_same_columns(row, rows[0])
    try:
        fields = [known.get(field.name, field) for field in pa.Table.from_pylist(rows).schema]
        fields = [each.with_type(pa.string()) if pa.types.is_null(each.type) else each for each in fields]
        out = io.BytesIO()  # Parquet asks for positions, which a pipe cannot tell
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), out)
    except (pa.ArrowException, UnicodeError) as error:
        raise PalError(f"rows cannot be written as Parquet ({reason(error)}); write JSONL") from None
    file.write(out.getbuffer())


def _check_same_columns(row: Cells, names: Iterable[str]) -> None:
    if odd := sorted(row.keys() ^ set(names)):
        raise PalError(f"rows must all have the same columns, got {odd[0]!r} in some; write JSONL")
