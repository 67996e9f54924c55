"""Your files, as rows that know where they stand: CSV, JSONL and Parquet give the same columns and faults."""

import csv
import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.own import times as own_times
from pipeline.datasets.own.cells import Faults, arrow_type, clean_values, described, dtype, place
from pipeline.datasets.own.columns import COLUMNS, columns_of
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

SUFFIXES = (".csv", ".jsonl", ".parquet")
_CHUNK = 50_000
_MOST_ROWS = 200_000_000
_MOST_TEXT = 1 << 34  # bytes in a column of a file
_LONGEST_VALUE = 2**31 - 1  # what a C long holds everywhere


def read_rows(name: str, path: Path, ids: Collection[str] = ()) -> "pl.DataFrame":
    """Read one file, cells checked for their types alone.

    Args:
        name: The file as the user knows it; its ending says what it is.
        path: Where its bytes lie.
        ids: The columns that hold ids, where whole numbers are as good as texts.

    Returns:
        Columns file, row (from 1), line (null for Parquet), and those of COLUMNS that the file has: texts,
        label as a float, timestamp as a time. An empty CSV cell is an empty text.

    Raises:
        PipelineError: Naming the first fault, its row and its column.
    """
    import polars as pl

    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise PipelineError(f"{name} must be a {', '.join(SUFFIXES)} file")
    if path.stat().st_size == 0:
        raise PipelineError(f"{name} is empty (0 bytes); export it again")
    reader = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}[suffix]
    frame = reader(name, path, ids)
    if frame.is_empty():
        raise PipelineError(f"{name} must hold at least one row, got {_nothing(suffix)}")
    return frame.select(pl.lit(name).alias("file"), *frame.columns)


def _nothing(suffix: str) -> str:
    return {".csv": "a header only", ".jsonl": "blank lines only", ".parquet": "none"}[suffix]


def _read_csv(name: str, path: Path, ids: Collection[str]) -> "pl.DataFrame":
    _check_encoding(name, path)
    faults = Faults(name)
    with path.open(encoding="utf-8-sig", newline="") as file, _long_values():
        rows = _csv_rows(name, csv.reader(file, strict=True))
        header = next(rows, (0, 0, []))[2]
        columns = columns_of(name, header)
        return _frame(columns, _same_width(rows, header, columns, faults), faults, ids)


@contextmanager
def _long_values() -> Iterator[None]:
    """Let the csv module take values beyond 128 KiB; its limit holds for the whole process."""
    before = csv.field_size_limit(_LONGEST_VALUE)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _csv_rows(name: str, reader: Any) -> Iterator[tuple[int, int, list[str]]]:
    """Row number (0 is the header), line that it starts on, values; blank lines are no rows."""
    row, line = 0, 1
    try:
        for values in reader:
            if values:
                yield row, line, values
                row += 1
            line = reader.line_num + 1
    except csv.Error as error:
        raise PipelineError(
            f"{place(name, row, line)} has a quote that is not closed or not doubled ({error}); put quotes "
            "around the value and double each quote within it"
        ) from None


def _same_width(
    rows: Iterable[tuple[int, int, list[str]]], header: list[str], columns: list[str], faults: Faults
) -> Iterator[tuple[Any, ...]]:
    """The rows that have one value per column, as row, line and the values of `columns`."""
    picks = [header.index(column) for column in columns]
    label = columns.index("label") if "label" in columns else None
    for row, line, values in rows:
        if len(values) == len(header):
            picked: list[Any] = [values[pick] for pick in picks]
            if label is not None:
                picked[label] = _number(picked[label])
            yield row, line, *picked
        else:
            fault = f"must have {len(header)} values, one per column, got {len(values)}"
            quote = "put quotes around a value that holds a comma or a line break"
            faults.add("", row, line, f"{fault}; {quote}")


def _number(text: str) -> float | str | None:
    """A CSV cell as a number where it is one, None where it is empty."""
    try:
        return float(text)
    except ValueError:
        return text.strip() or None


def _read_jsonl(name: str, path: Path, ids: Collection[str]) -> "pl.DataFrame":
    _check_encoding(name, path)
    faults = Faults(name)
    seen: set[str] = set()
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        frame = _frame(COLUMNS, _json_rows(file, seen, faults), faults, ids)
    return frame if frame.is_empty() else frame.select("row", "line", *columns_of(name, sorted(seen)))


def _json_rows(lines: Iterable[str], seen: set[str], faults: Faults) -> Iterator[tuple[Any, ...]]:
    row = 0
    for line, text in enumerate(lines, 1):
        if text.isspace():
            continue
        row += 1
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            cut = "the file seems cut off there" if text[-1] != "\n" else "write one JSON object a line"
            faults.add("", row, line, f"is not valid JSON ({_reason(error)}); {cut}")
            continue
        if isinstance(values, dict):
            seen.update(values)
            yield row, line, *map(values.get, COLUMNS)
        else:
            faults.add("", row, line, f"must be a JSON object, got {described(values)}")


def _check_encoding(name: str, path: Path) -> None:
    with path.open("rb") as file:
        for line, text in enumerate(file, 1):
            try:
                text.decode()
            except UnicodeDecodeError as error:
                raise PipelineError(
                    f"line {line:,} of {name} must be UTF-8, got the byte 0x{text[error.start]:02x}; "
                    "save the file as UTF-8"
                ) from None


def _frame(
    columns: Iterable[str], rows: Iterator[tuple[Any, ...]], faults: Faults, ids: Collection[str]
) -> "pl.DataFrame":
    """Rows of (row, line, value of each column) as a frame, a chunk at a time to spare memory."""
    import polars as pl

    schema = {"row": pl.Int64, "line": pl.Int64} | {name: dtype(name) for name in columns}
    frames = [pl.DataFrame(schema=schema)]
    while chunk := list(islice(rows, _CHUNK)):
        places, values = [row[:2] for row in chunk], list(zip(*chunk, strict=True))
        for index, column in enumerate(columns, 2):
            values[index] = clean_values(column, values[index], places, faults, ids)
        frames.append(pl.DataFrame(dict(zip(schema, values, strict=True)), schema=schema))
    faults.refuse()
    return pl.concat(frames)


def _read_parquet(name: str, path: Path, ids: Collection[str]) -> "pl.DataFrame":
    """Through pyarrow: on damaged files polars panics, with a backtrace on the terminal."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = columns_of(name, file.schema_arrow.names)
            schema = {
                column: arrow_type(name, column, file.schema_arrow.field(column).type, ids)
                for column in columns
            }
            _check_rows(name, file.metadata.num_rows)
        texts = [column for column in columns if pa.types.is_large_string(schema[column])]
        # As dictionaries: a text that a file holds once may stand in millions of rows.
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            table = file.read(columns=columns)
            table.validate(full=True)
            for column in texts:
                _check_length(name, column, table.column(column))
            # Unsafe for times alone: nanoseconds since 1970 lose digits as floats, and are refused as such.
            arrays = {
                column: table.column(column).cast(kind, safe=column != "timestamp")
                for column, kind in schema.items()
            }
    except PipelineError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PipelineError(f"{name} is damaged or not Parquet ({_reason(error)}); export it again") from None
    frame = pl.DataFrame(pl.from_arrow(pa.table(arrays)))
    if "timestamp" in columns:
        frame = frame.with_columns(_parquet_times(name, frame["timestamp"]))
    row, line = pl.int_range(1, pl.len() + 1, dtype=pl.Int64), pl.lit(None, pl.Int64)
    return frame.select(row.alias("row"), line.alias("line"), *columns)


def _check_rows(name: str, rows: int) -> None:
    if rows > _MOST_ROWS:
        raise PipelineError(f"{name} must have at most {_MOST_ROWS:,} rows, got {rows:,}; split it")


def _check_length(name: str, column: str, cells: "pa.ChunkedArray") -> None:
    """Hold a column to what fits in memory once every cell is a text of its own."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total = 0
    for chunk in cells.chunks:
        if pa.types.is_dictionary(chunk.type) and not pa.types.is_integer(chunk.type.value_type):
            lengths = pc.binary_length(chunk.dictionary).cast(pa.int64()).take(chunk.indices)
            total += pc.sum(lengths).as_py() or 0
    if total > _MOST_TEXT:
        raise PipelineError(
            f"{column} in {name} must hold at most {_MOST_TEXT:,} bytes of text, got {total:,}; split it"
        )


def _parquet_times(name: str, times: "pl.Series") -> "pl.Series":
    """Parquet's own times in UTC; numbers and texts as they are read elsewhere."""
    import polars as pl

    if times.dtype.is_temporal():
        return own_times.in_utc(times)
    faults = Faults(name)
    places = [(row, None) for row in range(1, len(times) + 1)]
    clean = clean_values("timestamp", times.to_list(), places, faults)
    faults.refuse()
    return pl.Series("timestamp", clean, pl.Datetime("us"))


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return " ".join(str(error).split()).split(". ")[0].rstrip(".")[:100]
