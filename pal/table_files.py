"""Tables in CSV, JSONL and Parquet: rows that know their places, and writers.

Rows are read and written as they come, so that a table may be longer than memory. The csv module reads CSV,
since polars fills a short row with nulls and pyarrow names no line.
"""

import csv
import io
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from pal.errors import PalError, shorten
from pal.files import new_file

FORMATS = ("jsonl", "csv", "parquet")
SIGNATURES = {  # how files begin that are no text, and what to do
    b"\x1f\x8b": "gzip; unpack it first (gunzip)",
    b"\x28\xb5\x2f\xfd": "zstd; unpack it first (unzstd)",
    b"BZh": "bzip2; unpack it first (bunzip2)",
    b"\xfd7zXZ": "xz; unpack it first (unxz)",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or export it as CSV",
    b"PAR1": "Parquet; name it .parquet",
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
}
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a text begins that spreadsheets compute
MAX_BYTES = 1 << 26  # of a line or a cell: anything longer is not a table of texts
# What others call these columns, for advice on which one to rename.
SYNONYMS = {
    "user_id": ("user", "annotator", "worker", "rater", "person", "participant"),
    "prompt": ("question", "instruction", "context", "input", "query"),
    "response": ("answer", "completion", "output", "text", "reply", "candidate"),
    "chosen": ("winner", "preferred", "better", "accepted"),
    "rejected": ("loser", "dispreferred", "worse"),
    "response_a": ("answer_a", "output_a", "completion_a", "option_a", "first"),
    "response_b": ("answer_b", "output_b", "completion_b", "option_b", "second"),
    "winner": ("preference", "preferred", "choice", "vote", "verdict"),
}
Cells = dict[str, Any]
WriteRows = Callable[[list[Cells]], None]


class Row(NamedTuple):
    """A row of a table.

    Args:
        file: The table's name, for messages.
        number: The row's number, from 1; a header and blank lines do not count.
        line: The line that it starts on, from 1; None in Parquet.
        cells: Values by column: texts from CSV, any values from JSON and Parquet.
    """

    file: str
    number: int
    line: int | None
    cells: Cells

    @property
    def place(self) -> str:
        """Where the row is, for messages."""
        return row_place(self.file, self.number, self.line)

    def error(self, column: str, problem: str) -> PalError:
        """The error that a cell causes."""
        message = f"{column} in {self.place} {problem}"
        return PalError(message, file=self.file, row=self.number, column=column, problem=problem)


def row_place(file: str, number: int, line: int | None, others: int = 0) -> str:
    """Where a row is, such as `row 3 (line 4) of a.csv`, and how many more rows have the same fault."""
    at = f" (line {line:,})" if line not in (None, number) else ""
    more = f" (and {others:,} more row{'s' if others > 1 else ''})" if others else ""
    return f"row {number:,}{at} of {file}{more}" if number else f"the header of {file}"


def table_format(path: str, stated: str | None) -> str:
    """The format of a table: jsonl, csv or parquet, by its suffix, else as the user states it.

    Raises:
        PalError: If a file has no such suffix and nothing is stated.
    """
    suffix = "" if path == "-" else Path(path).suffix.lower().removeprefix(".")
    if suffix in FORMATS:
        return suffix
    if stated is None and path != "-":
        message = f"{path} must end in .jsonl, .csv or .parquet, or --format must say what it is"
        raise PalError(message, file=path)
    return stated or "jsonl"


class TableReader:
    """The rows of a table, read once from its start to its end.

    Args:
        file: The table's bytes.
        name: What the user calls it, for messages.
        kind: jsonl, csv or parquet.
        on_fault: Called with the number, the line and the problem of a malformed row, which is then skipped;
            by default the first one raises.

    Attributes:
        columns: The names of the columns; None for JSONL, where each row names its own.
        schema: The Arrow schema of Parquet, else None.
        done: How much was read: bytes of lines, rows of Parquet.
        total: How much there is, where it is known.

    Raises:
        PalError: If it cannot be read.
    """

    def __init__(
        self,
        file: io.BufferedIOBase,
        name: str,
        kind: str,
        on_fault: Callable[[int, int, str], None] | None = None,
    ) -> None:
        self.name, self.kind = name, kind
        self.columns: list[str] | None = None
        self.schema: pa.Schema | None = None
        self.done, self.total = 0, None
        self._file, self._on_fault = file, on_fault or self._raise
        self._required: tuple[str, ...] = ()
        self._rows = {"jsonl": self._json_rows, "csv": self._csv_rows, "parquet": self._parquet_rows}[kind]()
        if kind != "jsonl":
            next(self._rows, None)  # which sets the columns

    def __iter__(self) -> Iterator[Row]:
        """All rows.

        Raises:
            PalError: With the place of the first row that cannot be read, or lacks a required column.
        """
        for row in self._rows:
            if self.columns is None and self._required:
                check_columns(self.name, row.cells, self._required, row)
            yield row

    def first(self) -> Row:
        """The first row, which is read again with the others.

        Raises:
            PalError: If there is none.
        """
        row = next(self._rows, None)
        if row is None:
            raise self.no_rows()
        self._rows = chain([row], self._rows)
        return row

    def no_rows(self) -> PalError:
        """The error of a table without rows."""
        got = "a header only" if self.kind == "csv" and self.columns else "none"
        return PalError(f"{self.name} must hold at least one row, got {got}", file=self.name)

    def require(self, columns: Iterable[str]) -> None:
        """Require columns of the table, or of every row of JSONL.

        Raises:
            PalError: If the table, or its first row, lacks one.
        """
        self._required = (*self._required, *columns)
        row = self.first() if self.columns is None else None
        check_columns(self.name, self.columns if row is None else row.cells, self._required, row)

    def _raise(self, number: int, line: int, problem: str) -> NoReturn:
        message = f"{row_place(self.name, number, line)} {problem}"
        raise PalError(message, file=self.name, row=number, problem=problem)

    def _lines(self) -> Iterator[str]:
        number = 0
        while line := self._file.readline(MAX_BYTES + 1):
            number += 1
            self.done += len(line)
            if len(line) > MAX_BYTES:
                message = f"line {number:,} of {self.name} must have at most {MAX_BYTES:,} bytes, got more"
                raise PalError(message, file=self.name)
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                if kind := next(
                    (kind for start, kind in SIGNATURES.items() if number == 1 and line.startswith(start)), ""
                ):
                    message = f"{self.name} must be {self.kind.upper()}, got {kind}"
                    raise PalError(message, file=self.name) from None
                raise PalError(
                    f"line {number:,} of {self.name} must be UTF-8, got the byte "
                    f"0x{error.object[error.start]:02x}; save the file as UTF-8",
                    file=self.name,
                ) from None

    def _json_rows(self) -> Iterator[Row]:
        number = 0
        for line, text in enumerate(self._lines(), 1):
            if not text.strip():
                continue
            number += 1
            try:
                cells = json.loads(text)
            except (ValueError, RecursionError) as error:
                cut = "the file seems cut off there" if text[-1] != "\n" else "write one JSON object a line"
                self._on_fault(number, line, f"is not valid JSON ({reason(error)}); {cut}")
                continue
            if isinstance(cells, dict):
                yield Row(self.name, number, line, cells)
            else:
                self._on_fault(number, line, f"must be a JSON object, got {describe(cells)}")

    def _csv_rows(self) -> Iterator[Any]:
        """None once the header is read, then rows; blank lines are none."""
        # StringIO splits lines at carriage returns too, as the csv module wants them.
        lines = chain.from_iterable(io.StringIO(line, newline="") for line in self._lines())
        reader = csv.reader(lines, strict=True)
        number, line = 0, 1  # the header is row 0
        while True:
            limit = csv.field_size_limit(MAX_BYTES)  # it holds for the whole process, so only for this row
            try:
                values = next(reader, None)
            except csv.Error as error:
                problem = f"has a quote that is not closed or not doubled ({error})"
                advice = "put quotes around the value and double each quote within it"
                self._raise(number, line, f"{problem}; {advice}")
            finally:
                csv.field_size_limit(limit)
            if values is None:
                return
            if values:
                if self.columns is None:
                    self.columns = values
                    yield None
                elif len(values) == len(self.columns):
                    yield Row(self.name, number, line, dict(zip(self.columns, values, strict=True)))
                else:
                    problem = f"must have {len(self.columns)} values, one per column, got {len(values)}"
                    advice = "put quotes around a value that holds a comma or a line break"
                    self._on_fault(number, line, f"{problem}; {advice}")
                number += 1
            line = reader.line_num + 1

    def _parquet_rows(self) -> Iterator[Any]:
        """None once the schema is read, then rows."""
        with readable_parquet(self.name):
            parquet = pq.ParquetFile(self._file)
            self.schema, self.columns = parquet.schema_arrow, parquet.schema_arrow.names
            self.total = parquet.metadata.num_rows
            yield None
            for batch in parquet.iter_batches(batch_size=64):
                for cells in batch.to_pylist():
                    self.done += 1
                    yield Row(self.name, self.done, None, cells)


@contextmanager
def readable_parquet(name: str) -> Iterator[None]:
    """Turn the errors of reading a damaged Parquet file into a PalError."""
    try:
        yield
    except PalError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        message = f"{name} is damaged or not Parquet ({reason(error)}); export it again"
        raise PalError(message, file=name) from None


def check_columns(file: str, names: Iterable[str], needed: Iterable[str], row: Row | None = None) -> None:
    """Check that a table, or a row of JSON, has the needed columns, and no column twice.

    Args:
        file: The table, for messages.
        names: The columns that it has.
        needed: The columns that it must have.
        row: The row, where these are the columns of one row.

    Raises:
        PalError: Naming the columns that it lacks, and those to rename that have names like theirs.
    """
    names, needed = list(names), list(needed)
    about: Any = {"file": file, "row": row.number if row else None}
    if missing := [column for column in needed if column not in names]:
        many = len(missing) > 1
        others, renames = [name for name in names if name not in needed], []
        for column in missing:
            if like := column_like(column, others):
                others = [name for name in others if name != like]
                renames.append(f"{like!r} to {column}")
        advice = f"add {'them' if many else 'it'}; the first line of a CSV file names its columns"
        if renames:
            advice = f"rename {', '.join(renames)}"
        if len(names) == 1 and (marks := [mark for mark in (";", "\t", "|") if mark in names[0]]):
            advice = f"separate its columns by commas, not by {marks[0]!r}"
        has = ", ".join(map(repr, names)) or "none"
        has = has if len(has) <= 200 else f"{has[:200]}…"
        lacks = f"lacks the column{'s' * many} {', '.join(missing)}; it has {has}; {advice}"
        raise PalError(f"{row.place if row else file} {lacks}", column=missing[0], **about)
    if len(set(names)) < len(names):  # also of columns that are only passed on: one would be lost
        double = next(name for name in names if names.count(name) > 1)
        problem = f"must have one column {double}, got {names.count(double)}; rename one"
        raise PalError(f"{file} {problem}", column=double, **about)


def column_like(column: str, names: Iterable[str]) -> str | None:
    """The name that is spelt like a column's, or like what others call it; None if there is none."""
    folded = {name.strip().lower(): name for name in names}
    for known in (column, *SYNONYMS.get(column, ())):
        if close := get_close_matches(known, folded, n=1, cutoff=0.8):
            return folded[close[0]]
    return None


def describe(value: Any) -> str:
    """A JSON value in a message; lists and objects by their kind, since they may be nested deeply."""
    return {list: "a list", dict: "a JSON object", type(None): "nothing"}.get(type(value)) or shorten(value)


def reason(error: Exception) -> str:
    """The first sentence of a library's error, to be put in brackets."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return " ".join(str(error).split()).split(". ")[0].rstrip(".")[:120]


@contextmanager
def open_reader(path: str, kind: str | None) -> Iterator[TableReader]:
    """Open a table, or standard input for `-`.

    Args:
        path: The file.
        kind: jsonl, csv or parquet, where the suffix does not say it.

    Raises:
        PalError: If it cannot be read.
    """
    kind = table_format(path, kind)
    with ExitStack() as stack:
        if path == "-":
            file: io.BufferedIOBase = sys.stdin.buffer
            if kind == "parquet" and not file.seekable():  # Parquet is read from its end
                file = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(sys.stdin.buffer, file)
            yield TableReader(file, "standard input", kind)
            return
        try:
            file = stack.enter_context(Path(path).open("rb"))
        except OSError as error:
            message = f"{path} cannot be read ({error.strerror}); name a file, or - for standard input"
            raise PalError(message, file=path) from None
        reader = TableReader(file, path, kind)
        reader.total = reader.total or os.fstat(file.fileno()).st_size
        yield reader


@contextmanager
def open_writer(
    path: str, kind: str | None, schema: pa.Schema | None = None, *, safe_csv: bool = False
) -> Iterator[WriteRows]:
    """A function that writes lists of rows to a file, or to standard output for `-`.

    A file appears under its name only when the block ends without an error.

    Args:
        path: The file.
        kind: jsonl, csv or parquet, where the suffix does not say it.
        schema: The Arrow schema of columns that are passed on from Parquet.
        safe_csv: Whether texts of CSV that a spreadsheet would take for a formula get a quote before them.

    Raises:
        PalError: If the file cannot be written, or rows do not fit the format.
    """
    kind = table_format(path, kind)
    with ExitStack() as stack:
        file = sys.stdout.buffer if path == "-" else stack.enter_context(new_file(Path(path)))
        if kind == "parquet":
            yield stack.enter_context(_parquet_writer(file, schema))
        else:
            yield _line_writer(file, kind, safe_csv=safe_csv)
        file.flush()


def as_json(value: Any) -> Any:
    """A cell as JSON has it: times as ISO 8601, decimals as text, and null for what is no finite number."""
    if isinstance(value, dict):
        return {str(name): as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line_writer(file: io.BufferedIOBase, kind: str, *, safe_csv: bool) -> WriteRows:
    """CSV has a header from the first row; its lists, objects and booleans are written as JSON."""
    names: list[str] = []

    def csv_cell(cell: Any) -> Any:
        if isinstance(cell, list | dict | bool):
            return json.dumps(as_json(cell), ensure_ascii=False)
        if safe_csv and isinstance(cell, str) and cell.startswith(FORMULA):
            return f"'{cell}"
        return as_json(cell) if isinstance(cell, datetime | date | time) else cell

    def csv_text(rows: list[Cells]) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")  # pyarrow's writer quotes every text
        if rows and not names:
            names.extend(rows[0])
            writer.writerow(map(csv_cell, names))
        for row in rows:
            _check_same_columns(row, names)
            writer.writerow([csv_cell(row[name]) for name in names])
        return text.getvalue()

    def write(rows: list[Cells]) -> None:
        try:
            if kind == "csv":
                text = csv_text(rows)
            else:
                text = "".join(json.dumps(as_json(row), ensure_ascii=False) + "\n" for row in rows)
            data = text.encode()
        except UnicodeEncodeError:
            message = "a row holds half of a surrogate pair, which is no character; leave it out"
            raise PalError(message) from None
        except PalError:
            raise
        except (TypeError, ValueError) as error:
            raise PalError(f"a row cannot be written as JSON ({error}); leave that column out") from None
        file.write(data)
        file.flush()  # whoever reads a pipe gets each batch at once

    return write


@contextmanager
def _parquet_writer(file: io.BufferedIOBase, schema: pa.Schema | None) -> Iterator[WriteRows]:
    """A row group a batch; types as in the input or, of new columns, as in the first batch."""
    piped = file is sys.stdout.buffer
    if piped and sys.stdout.isatty():
        raise PalError("Parquet is not for a terminal; give --out FILE, or another --format")
    with ExitStack() as stack:
        # Parquet asks for positions, which a pipe cannot tell.
        target = stack.enter_context(tempfile.TemporaryFile()) if piped else file
        writer: pq.ParquetWriter | None = None

        def write(rows: list[Cells]) -> None:
            nonlocal writer, schema
            try:
                if writer is None:
                    known = {} if schema is None else {field.name: field for field in schema}
                    fields = [known.get(field.name, field) for field in pa.Table.from_pylist(rows).schema]
                    # A column of nothing but nulls is taken for texts.
                    texts = [
                        each.with_type(pa.string()) if pa.types.is_null(each.type) else each
                        for each in fields
                    ]
                    schema = pa.schema(texts)
                    writer = stack.enter_context(pq.ParquetWriter(target, schema))
                for row in rows:
                    if not row.keys() <= set(schema.names):
                        _check_same_columns(row, schema.names)
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            except (pa.ArrowException, UnicodeError) as error:
                raise PalError(f"rows cannot be written as Parquet ({reason(error)}); write JSONL") from None

        yield write
        if writer is not None:
            writer.close()
        if piped:
            target.seek(0)
            shutil.copyfileobj(target, file)


def _check_same_columns(row: Cells, names: Iterable[str]) -> None:
    if odd := sorted(row.keys() ^ set(names)):
        raise PalError(f"rows must all have the same columns, got {odd[0]!r} in some; write JSONL")
