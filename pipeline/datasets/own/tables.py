"""Users' tables as frames: which columns they have, what cells may hold, and faults with their places."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from pal.errors import shorten
from pal.table_files import (
    TableReader,
    check_columns,
    column_like,
    describe,
    readable_parquet,
    row_place,
)
from pipeline import PipelineError

SUFFIXES = (".csv", ".jsonl", ".parquet")
# A table has either two columns that say which response won, or two responses and a column that says it.
PREFERENCE, DUEL = ("chosen", "rejected"), ("response_a", "response_b", "winner")
RESPONSES = DUEL[:2]
OPTIONAL = ("label", "split", "timestamp")
COLUMNS = ("user_id", "prompt", *PREFERENCE, *DUEL, *OPTIONAL)
TIMES = "a time as ISO 8601 text (2026-03-01T12:00:00Z) or in seconds since 1970"
# From 1973 to 2100: smaller numbers are dates written as digits (20260301), larger ones milliseconds.
FIRST_TIME, LAST_TIME = 100_000_000, 4_102_444_800
CHUNK = 50_000  # rows that are in memory as Python objects
MOST_ROWS = 200_000_000
MOST_TEXT = 1 << 34  # bytes in a column of a file

_TEXT = ({str, type(None)}, "text")
_ID = ({str, int, type(None)}, "text or a whole number")
_CELLS: dict[str, tuple[set[type], str]] = {
    "user_id": _ID,
    "label": ({int, float, type(None)}, "a number from 0.5 to 1"),
    "timestamp": ({str, int, float, type(None)}, TIMES),
}


class Faults:
    """The first fault of each kind in a table, and how many rows share it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._first: dict[str, list[Any]] = {}

    def add(self, column: str, number: int, line: int | None, problem: str) -> None:
        """Note a fault of a row; column is empty where the row itself is malformed."""
        self._first.setdefault(column, [number, line, problem, -1])[3] += 1

    def refuse(self) -> None:
        """Raise the fault that comes first in the table, if there is any."""
        if self._first:
            column, (number, line, problem, others) = min(self._first.items(), key=lambda item: item[1][0])
            subject = f"{column} in " if column else ""
            message = f"{subject}{row_place(self.name, number, line, others)} {problem}"
            raise PipelineError(message, file=self.name, row=number, column=column or None, problem=problem)


def refuse(rows: pl.DataFrame, column: str, wrong: pl.Expr | pl.Series, rule: str, advice: str = "") -> None:
    """Raise at the first row where `wrong` holds; {got} in the rule stands for the cell's value.

    Where the table has two responses and a winner, the message names the column as it is in the table.
    """
    bad = rows.filter(wrong)
    if len(bad):
        first = bad.row(0, named=True)
        got = "nothing" if first[column] is None else shorten(first[column])
        problem = f"{rule.replace('{got}', got)}{advice and '; '}{advice}"
        if column in PREFERENCE and (winner := first.get("winner")) is not None:
            column = RESPONSES[(column == "chosen") == (winner == "b")]
        where = row_place(first["file"], first["row"], first["line"], len(bad) - 1)
        raise PipelineError(
            f"{column} in {where} {problem}",
            file=first["file"],
            row=first["row"],
            column=column,
            problem=problem,
        )


def columns_of(name: str, names: list[str]) -> list[str]:
    """Those of COLUMNS among a table's names, in COLUMNS' order, which say in one way what was preferred."""
    first, second = ([column for column in shape if column in names] for shape in (PREFERENCE, DUEL))
    # Beside chosen alone, `winner` may be meant for rejected.
    if first and second and (set(second) != {"winner"} or len(first) == len(PREFERENCE)):
        raise PipelineError(
            f"{name} must say in one way who won, by {', '.join(PREFERENCE)} or by {', '.join(DUEL)}, got "
            f"{', '.join(first + second)}; remove or rename what belongs to the other",
            file=name,
        )
    if "label" in names and not set(second).isdisjoint(RESPONSES):
        raise PipelineError(
            f"{name} must not have a column label beside {', '.join(second)}, since label says how surely "
            "`chosen` won; remove or rename it",
            file=name,
            column="label",
        )
    others = [each for each in names if each not in COLUMNS]
    duel = not first and any(column in names or column_like(column, others) for column in RESPONSES)
    # Other columns are ignored, also where two have the same name.
    single = [each for each in names if each in COLUMNS or names.count(each) == 1]
    check_columns(name, single, ("user_id", "prompt", *(DUEL if duel else PREFERENCE)))
    for column in set(OPTIONAL).difference(names):
        if like := [each for each in others if each.strip().lower() == column]:
            message = f"{name} has a column {like[0]!r}; rename it to {column}, or to something else"
            raise PipelineError(message, file=name, column=like[0])
    return [column for column in COLUMNS if column in names]


def read_table(name: str, path: Path, ids: Collection[str] = ()) -> pl.DataFrame:
    """Read one table, with cells checked for their types alone; in columns `ids` whole numbers are texts.

    The result has the columns file, row (from 1), line (null for Parquet), and those of COLUMNS that the
    table has: texts, label as a float, timestamp as a time. An empty cell of CSV is an empty text.
    """
    kind = Path(name).suffix.lower()
    if kind not in SUFFIXES:
        raise PipelineError(f"{name} must be a {', '.join(SUFFIXES)} file", file=name)
    if path.stat().st_size == 0:
        raise PipelineError(f"{name} is empty (0 bytes); export it again", file=name)
    faults = Faults(name)
    with path.open("rb") as file:
        reader = TableReader(file, name, kind[1:], lambda *fault: faults.add("", *fault))
        if kind == ".parquet":
            frame = _parquet_frame(reader, path, faults, ids)
        else:
            frame = _frame(reader, faults, ids)
    if frame.is_empty():
        raise reader.no_rows()
    return frame.select(pl.lit(name).alias("file"), *frame.columns)


def _frame(reader: TableReader, faults: Faults, ids: Collection[str]) -> pl.DataFrame:
    """The rows of CSV or JSONL as a frame, a chunk at a time to save memory."""
    csv = reader.kind == "csv"
    columns = columns_of(reader.name, reader.columns or []) if csv else COLUMNS
    types = {"label": pl.Float64, "timestamp": pl.Datetime("us")}
    schema = {"row": pl.Int64, "line": pl.Int64} | {name: types.get(name, pl.String) for name in columns}
    frames = [pl.DataFrame(schema=schema)]
    names: set[str] = set()
    rows = iter(reader)
    while chunk := list(islice(rows, CHUNK)):
        names.update(*(row.cells for row in chunk))
        places = [(row.number, row.line) for row in chunk]
        data = dict(zip(("row", "line"), zip(*places, strict=True), strict=True))
        for column in columns:
            cells = [row.cells.get(column) for row in chunk]
            if csv and column == "label":
                cells = [_number(cell) for cell in cells]
            data[column] = _clean(column, cells, places, faults, ids)
        frames.append(pl.DataFrame(data, schema=schema))
    faults.refuse()
    if not csv and len(frames) > 1:
        columns = columns_of(reader.name, sorted(names))
    return pl.concat(frames).select("row", "line", *columns)


def _number(text: str) -> float | str | None:
    """A cell of CSV as a number where it is one, None where it is empty."""
    try:
        return float(text)
    except ValueError:
        return text.strip() or None


def _clean(
    column: str,
    cells: list[Any],
    places: list[tuple[int, int | None]],
    faults: Faults,
    ids: Collection[str] = (),
) -> list[Any]:
    """The cells of a column in its type; wrong ones are noted and become null."""
    types, allowed = _ID if column in ids else _CELLS.get(column, _TEXT)
    clean: list[Any] = []
    for cell, place in zip(cells, places, strict=True):
        try:
            if type(cell) is float and types is _ID[0] and cell.is_integer():
                cell = int(cell)  # whole numbers beside a gap are written as floats
            if type(cell) not in types:
                raise ValueError(f"must be {allowed}, got {describe(cell)}")
            if column == "timestamp":
                cell = parse_time(cell)
            elif type(cell) is int:
                cell = _float(cell) if column == "label" else str(cell)
            elif type(cell) is str:
                cell.encode()
        except UnicodeEncodeError:
            problem = f"must be valid Unicode, got {shorten(cell)}; it holds half of a surrogate pair"
            faults.add(column, *place, problem)
            cell = None
        except ValueError as error:
            faults.add(column, *place, str(error))
            cell = None
        clean.append(cell)
    return clean


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def parse_time(cell: str | float | None) -> datetime | None:
    """A time in UTC, without a zone, of ISO 8601 text or seconds since 1970; None where the cell is empty.

    A ValueError holds the problem. polars reads fewer forms of ISO 8601, and no column that mixes them.
    """
    if cell is None or cell == "":
        return None
    problem = f"must be {TIMES}, got {shorten(cell)}"
    try:
        seconds = _float(cell) if type(cell) is int else float(cell)
    except ValueError:
        try:
            time = datetime.fromisoformat(cell.strip())
            return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
        except (ValueError, OverflowError):
            raise ValueError(problem) from None
    if seconds < FIRST_TIME:
        raise ValueError(f"{problem}; write dates as 2026-03-01")
    if not seconds <= LAST_TIME:  # NaN is not either
        raise ValueError(f"{problem}; divide milliseconds by 1,000")
    return datetime(1970, 1, 1) + timedelta(seconds=seconds)


def _parquet_frame(reader: TableReader, path: Path, faults: Faults, ids: Collection[str]) -> pl.DataFrame:
    """Parquet by columns, through pyarrow, since polars panics on damaged files with a backtrace."""
    name = reader.name
    columns = columns_of(name, reader.columns or [])
    kinds = {column: _arrow_type(name, column, reader.schema.field(column).type, ids) for column in columns}
    if reader.total > MOST_ROWS:
        message = f"{name} must have at most {MOST_ROWS:,} rows, got {reader.total:,}; split it"
        raise PipelineError(message, file=name)
    texts = [column for column in columns if pa.types.is_large_string(kinds[column])]
    with readable_parquet(name), pq.ParquetFile(path, read_dictionary=texts) as file:
        # As dictionaries, since a text that a file holds once may stand in millions of rows.
        table = file.read(columns=columns)
        table.validate(full=True)
        for column in texts:
            # What it takes in memory once every cell is a text of its own.
            length = 0
            for chunk in table.column(column).chunks:
                if pa.types.is_dictionary(chunk.type) and not pa.types.is_integer(chunk.type.value_type):
                    lengths = pc.binary_length(chunk.dictionary).cast(pa.int64()).take(chunk.indices)
                    length += pc.sum(lengths).as_py() or 0
            if length > MOST_TEXT:
                most = f"at most {MOST_TEXT:,} bytes of text, got {length:,}"
                raise PipelineError(
                    f"{column} in {name} must hold {most}; split it", file=name, column=column
                )
        # Unsafe for times alone: nanoseconds since 1970 lose digits as floats, and are refused as such.
        arrays = {
            column: table.column(column).cast(kind, safe=column != "timestamp")
            for column, kind in kinds.items()
        }
    frame = pl.DataFrame(pl.from_arrow(pa.table(arrays)))
    for column in (name for name in columns if frame[name].dtype == pl.Float64 and name not in OPTIONAL):
        places = [(number, None) for number in range(1, len(frame) + 1)]
        cells = _clean(column, frame[column].to_list(), places, faults, ids)
        faults.refuse()
        frame = frame.with_columns(pl.Series(column, cells, pl.String))
    if "timestamp" in columns:
        times = frame["timestamp"]
        if not times.dtype.is_temporal():
            places = [(number, None) for number in range(1, len(times) + 1)]
            times = pl.Series("timestamp", _clean("timestamp", times.to_list(), places, faults))
            faults.refuse()
        elif isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone:
            times = times.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        frame = frame.with_columns(times.cast(pl.Datetime("us")))
    row, line = pl.int_range(1, pl.len() + 1, dtype=pl.Int64), pl.lit(None, pl.Int64)
    return frame.select(row.alias("row"), line.alias("line"), *columns)


def _arrow_type(name: str, column: str, kind: pa.DataType, ids: Collection[str]) -> pa.DataType:
    """The type that a Parquet column is cast to: large_string, float64 or a time."""
    value = kind.value_type if types.is_dictionary(kind) else kind
    text = types.is_string(value) or types.is_large_string(value) or types.is_string_view(value)
    integer = types.is_integer(value)
    number = integer or types.is_floating(value) or types.is_decimal(value)
    time = types.is_timestamp(value) or types.is_date(value)
    is_id = column == "user_id" or column in ids
    fits = {"label": number, "timestamp": text or number or time}.get(
        column, text or (is_id and (integer or types.is_floating(value)))
    )
    if not fits and not types.is_null(value):
        allowed = (_ID if column in ids else _CELLS.get(column, _TEXT))[1]
        raise PipelineError(f"{column} in {name} must hold {allowed}, got {value}", file=name, column=column)
    if column == "timestamp" and not text:
        return pa.float64() if number else value if time else pa.timestamp("us")
    return pa.float64() if column == "label" or types.is_floating(value) else pa.large_string()
