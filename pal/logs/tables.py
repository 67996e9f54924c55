"""Files of any common form and dialect, as rows that know their places.

CSV with any separator and encoding, JSON and JSONL, Parquet, Arrow and Excel, compressed or not. What a file
is, is told by its bytes, and said. The csv module reads CSV, since polars fills a short row with nulls and
pyarrow names no line.
"""

import codecs
import csv
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pal.errors import PalError, cut, reason, shorten

COMPRESSED = {b"\x1f\x8b": ("gzip", ".gz"), b"\x28\xb5\x2f\xfd": ("zstd", ".zst"), b"BZh": ("bz2", ".bz2")}
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # of what a cell may name
MOST_ROWS, MOST_BYTES = 200_000_000, 1 << 36  # of a Parquet file, of which some KB may claim billions
HEAD = 1 << 18  # bytes from which the dialect is told
LONGEST_CELL = 1 << 26  # characters; anything longer is a quote that is not closed
MOST_FAULTY = 0.1  # share of malformed rows from which on the file, not the row, is at fault
HOLDERS = ("data", "rows", "examples", "records", "results")  # keys of a list of rows in a JSON object
DAMAGED = "is damaged or not Parquet ({reason}); export it again"
Cells = dict[str, Any]


class Row(NamedTuple):
    """A row of a table."""

    file: str  # the table's name, for messages
    number: int  # from 1; a header and blank lines do not count
    line: int | None  # that it starts on, from 1; None where rows are no lines
    cells: Cells  # texts from CSV and Excel, any values from JSON, Parquet and Arrow

    @property
    def place(self) -> str:
        """Where the row is, for messages."""
        return row_place(self.file, self.number, self.line)

    def error(self, column: str | None, problem: str) -> PalError:
        """The error that a cell, or for None the row as a whole, causes."""
        message = f"{self.place} {problem}" if column is None else f"{column} in {self.place} {problem}"
        return PalError(message, file=self.file, row=self.number, column=column, problem=problem)


OnFault = Callable[[Row, str], None]  # takes a malformed row, without cells, and its problem


def row_place(file: str, number: int, line: int | None = None, others: int = 0) -> str:
    """Where a row is, such as `row 3 (line 4) of a.csv`, and how many more rows have the same fault."""
    at = f" (line {line:,})" if line not in (None, number) else ""
    more = f" (and {others:,} more row{'s' if others > 1 else ''})" if others else ""
    return f"row {number:,}{at} of {file}{more}" if number else f"the header of {file}"


def file_error(name: str, problem: str, **about: Any) -> PalError:
    """The error of a file as a whole."""
    return PalError(f"{name} {problem}", file=name, **about)


@dataclass(frozen=True)
class TableFile:
    """A table."""

    name: str  # what the user calls it, for messages
    rows: Iterable[Row]  # a list, or read as they come
    columns: list[str] | None = None  # None of JSON, where each row names its own
    arrow: pa.Table | None = None  # all of Parquet and Arrow, whose texts may be dictionaries
    schema: pa.Schema | None = None  # the Arrow schema, as the file has it
    said: list[str] = field(default_factory=list)  # what was understood, one sentence each

    def no_rows(self) -> PalError:
        """The error of a table without rows."""
        got = "a header only" if self.columns else "none"
        return file_error(self.name, f"must hold at least one row, got {got}")

    def require(self, needed: Iterable[str]) -> None:
        """Require columns of the table, of JSON of every row; a PalError names columns that are like them."""
        needed = list(needed)
        for row in self.rows if self.columns is None else [None]:
            names = self.columns if row is None else row.cells
            if not (missing := [column for column in needed if column not in names]):
                continue
            from pal.logs.columns import column_like  # polars, which a table that is right does not need

            others = [name for name in names if name not in needed]
            like = {column: found for column in missing if (found := column_like(column, others))}
            rename = "rename " + ", ".join(f"{found!r} to {column}" for column, found in like.items())
            has = cut(", ".join(map(repr, names)) or "none", 200)
            raise PalError(
                f"{row.place if row else self.name} lacks the column{'s' * (len(missing) > 1)} "
                f"{', '.join(missing)}; it has {has}; {rename if like else 'add what is missing'}",
                file=self.name, row=row and row.number, column=missing[0],
            )  # fmt: skip


def read_rows(path: str) -> TableFile:
    """A table in memory, of which no row may be malformed; `-` is standard input."""
    with open_table(path) as table:
        rows = list(table.rows)
    if not rows:
        raise table.no_rows()
    return replace(table, rows=rows, arrow=None)


@contextmanager
def open_table(path: Path | str, name: str = "", on_fault: OnFault | None = None) -> Iterator[TableFile]:
    """Open a file, or standard input for `-`, as a table whose rows can be read once.

    Messages call it by `name`, else by its path. A malformed row is left out where `on_fault` takes it.
    """
    with ExitStack() as until_read:
        if str(path) == "-":
            path, name = _scratch(until_read) / "input", name or "standard input"
            with path.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        yield _open(Path(path), name or str(path), on_fault or _refuse, until_read)


def _scratch(until_read: ExitStack) -> Path:
    return Path(until_read.enter_context(tempfile.TemporaryDirectory(prefix="pal-")))


def _refuse(row: Row, problem: str) -> None:
    raise row.error(None, problem)


def _open(path: Path, name: str, on_fault: OnFault, until_read: ExitStack) -> TableFile:
    start, said = _start(path, name), []
    for magic, (kind, suffix) in COMPRESSED.items():
        if start.startswith(magic):
            said.append(f"{name} is {kind}")
            path, name = _unpacked(path, name, kind, _scratch(until_read)), name.removesuffix(suffix)
            start = _start(path, name)
    if start[:4] == b"PAR1":
        table = _of_arrow(name, *_parquet(path, name))
    elif start[:6] == b"ARROW1" or start[:4] == b"\xff\xff\xff\xff":
        table = _of_arrow(name, *_arrow(path, name))
    elif start[:4] == b"PK\x03\x04":
        frame = _excel(path, name)
        table = TableFile(name, _numbered(name, frame.iter_rows(named=True)), frame.columns)
    else:
        table = _text(path, name, on_fault, until_read)
    table.said[:0] = said
    for column in table.columns or ():
        if column and (count := table.columns.count(column)) > 1:
            raise file_error(name, f"must have one column {column}, got {count}; rename one", column=column)
    return table


def _start(path: Path, name: str) -> bytes:
    """The first bytes of a file."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        problem = f"cannot be read ({error.strerror}); name a file, or - for standard input"
        raise file_error(name, problem) from None
    if not start:
        raise file_error(name, "is empty (0 bytes); export it again")
    return start


def _numbered(name: str, rows: Iterable[Cells]) -> Iterator[Row]:
    return (Row(name, number, None, cells) for number, cells in enumerate(rows, 1))


def _unpacked(path: Path, name: str, kind: str, scratch: Path) -> Path:
    """The content of a compressed file, as a file."""
    out = scratch / "unpacked"
    problem = f"ends early or is damaged ({kind}: {{reason}}); copy or export it again"
    with (
        readable(name, problem, EOFError),
        pa.CompressedInputStream(pa.OSFile(str(path)), kind) as file,
        out.open("wb") as target,
    ):
        shutil.copyfileobj(file, target, 1 << 20)
    return out


@contextmanager
def readable(name: str, problem: str = DAMAGED, *errors: type[Exception]) -> Iterator[None]:
    """Turn a library's errors of reading a file into a PalError; {reason} in the problem is theirs."""
    try:
        yield
    except PalError:
        raise
    except (pa.ArrowException, OSError, ValueError, *errors) as error:
        raise file_error(name, problem.replace("{reason}", reason(error))) from None


def _parquet(path: Path, name: str) -> tuple[pa.Table, pa.Schema]:
    """Parquet through pyarrow, since polars panics on damaged files with a backtrace.

    Texts come as dictionaries, since one that a file holds once may stand in millions of rows.
    """
    with readable(name):
        about = pq.read_metadata(path)
        size = sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups))
        for what, got, most in (("rows", about.num_rows, MOST_ROWS), ("bytes unpacked", size, MOST_BYTES)):
            if got > most:
                raise file_error(name, f"must have at most {most:,} {what}, got {got:,}; split it")
        schema = about.schema.to_arrow_schema()
        texts = [each.name for each in schema if pa.types.is_string(each.type)]
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            table = file.read()
        table.validate(full=True)
    return table, schema


def _arrow(path: Path, name: str) -> tuple[pa.Table, pa.Schema]:
    with readable(name), pa.memory_map(str(path)) as file:
        try:
            table = pa.ipc.open_stream(file).read_all()
        except pa.ArrowInvalid:
            file.seek(0)
            table = pa.ipc.open_file(file).read_all()
    return table, table.schema


def _of_arrow(name: str, table: pa.Table, schema: pa.Schema) -> TableFile:
    def rows() -> Iterator[Row]:
        with readable(name):
            batches = table.to_batches(max_chunksize=1024)
            yield from _numbered(name, (row for batch in batches for row in batch.to_pylist()))

    return TableFile(name, rows(), table.column_names, table, schema)


def _excel(path: Path, name: str) -> Any:
    """The first sheet of a workbook as a frame of texts."""
    import polars as pl

    if find_spec("fastexcel") is None:
        problem = "is a workbook, which needs the package fastexcel; run `pip install fastexcel`, or save "
        raise file_error(name, f"{problem}the sheet as CSV")
    problem = "cannot be read as a workbook ({reason}); save the sheet as CSV"
    with readable(name, problem, pl.exceptions.PolarsError, RuntimeError):
        return pl.read_excel(path, engine="calamine", infer_schema_length=0)


def _text(path: Path, name: str, on_fault: OnFault, until_read: ExitStack) -> TableFile:
    """CSV or JSON, whichever it is."""
    encoding, said = _encoding(path, name), []
    if encoding == "cp1252" or encoding.startswith("utf-16"):
        said.append(f"{name} is {'Windows-1252' if encoding == 'cp1252' else 'UTF-16'}")
    with path.open("rb") as file, _readable_text(name):
        head = codecs.getincrementaldecoder(encoding)().decode(file.read(HEAD))
    lines = until_read.enter_context(closing(_lines(path, name, encoding)))
    if head.lstrip()[:1] in ("[", "{"):
        rows = _whole_json(path, name, encoding, head) or _json_lines(lines, name, on_fault)
        return TableFile(name, rows, said=said)
    separator = _separator(head)
    if separator != ",":
        said.append(f"{name} separates its columns by {SEPARATORS[separator]}")
    header = next((row for row in csv.reader(io.StringIO(head, newline=""), delimiter=separator) if row), [])
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    reader = csv.reader(lines, delimiter=separator, strict=True)
    return TableFile(name, _csv_rows(reader, name, header, on_fault), header, said=said)


def _encoding(path: Path, name: str) -> str:
    """The encoding of a text by its byte order mark, its zero bytes, and whether it is valid UTF-8."""
    with path.open("rb") as file:
        head = file.read(HEAD)
        if mark := next((encoding for mark, encoding in MARKS.items() if head.startswith(mark)), None):
            return mark
        for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            if head[offset::2].count(0) > len(head) // 5:
                return encoding
        file.seek(0)
        plain = True
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                if plain and line[: error.start].isascii():
                    return "cp1252"
                got = f"got the byte 0x{line[error.start]:02x}; save the file as UTF-8"
                message = f"line {number:,} of {name} must be UTF-8, as those before it, {got}"
                raise PalError(message, file=name) from None
            plain = plain and line.isascii()
    return "utf-8"


@contextmanager
def _readable_text(name: str) -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:
        byte = isinstance(error, UnicodeDecodeError) and f"the byte 0x{error.object[error.start]:02x}"
        kinds = "must be a table: CSV, JSON, JSONL, Parquet, Arrow or Excel"
        raise file_error(name, f"{kinds}, got {byte or error}, which is no text; save it as UTF-8") from None


def _lines(path: Path, name: str, encoding: str) -> Generator[str, None, None]:
    with _readable_text(name), path.open(encoding=encoding, newline="") as file:
        yield from file


def _separator(head: str) -> str:
    """The separator by which the first rows have most columns, nearly all of them as many as the header."""
    best, most = ",", 1
    for separator in SEPARATORS:
        widths: list[int] = []
        with suppress(csv.Error):
            reader = csv.reader(io.StringIO(head, newline=""), delimiter=separator)
            widths = [len(row) for row in islice(reader, 200) if row]
        width, *_ = widths or [0]
        widths = widths[:-1] or widths  # the last row may be cut off
        if width > most and widths.count(width) >= (1 - MOST_FAULTY) * len(widths):
            best, most = separator, width
    return best


def _csv_rows(reader: Any, name: str, header: list[str], on_fault: OnFault) -> Iterator[Row]:
    """The rows below the header; blank lines are none."""
    number, line = 0, 1  # the header is row 0
    while True:
        values = []
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"has a quote that is not closed or not doubled ({error})"
            advice = "put quotes around the value and double each quote within it"
            ends = number == 0 or "expected after" not in str(error)  # what follows is within the quote
            (_refuse if ends else on_fault)(Row(name, number, line, {}), f"{problem}; {advice}")
            number += 1
        if len(values) == len(header) and number:
            yield Row(name, number, line, dict(zip(header, values, strict=True)))
        elif values and number:
            problem = f"must have {len(header)} values, one per column, got {len(values)}"
            advice = "put quotes around a value that holds a separator or a line break"
            on_fault(Row(name, number, line, {}), f"{problem}; {advice}")
        number += bool(values)
        line = reader.line_num + 1


def _json_lines(lines: Iterable[str], name: str, on_fault: OnFault) -> Iterator[Row]:
    written = ((line, text) for line, text in enumerate(lines, 1) if text.strip())
    for number, (line, text) in enumerate(written, 1):
        row = Row(name, number, line, {})
        try:
            cells = json.loads(text)
        except (ValueError, RecursionError) as error:
            advice = "the file seems cut off there" if text[-1] != "\n" else "write one JSON object a line"
            on_fault(row, f"is not valid JSON ({reason(error)}); {advice}")
            continue
        if isinstance(cells, dict):
            yield row._replace(cells=cells)
        else:  # lists by their kind, since they may be nested deeply
            kind = {list: "a list", type(None): "nothing"}.get(type(cells)) or shorten(cells)
            on_fault(row, f"must be a JSON object, got {kind}")


def _whole_json(path: Path, name: str, encoding: str, head: str) -> Iterator[Row] | None:
    """A JSON list of objects, or an object of columns, or one that holds such a list; None: it is lines."""
    first, _, rest = head.lstrip().partition("\n")
    with suppress(ValueError, RecursionError):
        if isinstance(json.loads(first), dict) and (rest.strip() or Path(name).suffix.lower() != ".json"):
            return None
    text = "".join(_lines(path, name, encoding))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:1] == "{":
            return None
        raise file_error(name, f"is not valid JSON ({reason(error)}); export it again") from None
    if isinstance(value, dict):
        lists = [each for each in value.values() if isinstance(each, list)]
        if rows := next((value[key] for key in HOLDERS if isinstance(value.get(key), list)), None):
            value = rows
        elif len(lists) == len(value) and len(set(map(len, lists))) == 1:
            value = [dict(zip(value, row, strict=True)) for row in zip(*lists, strict=True)]
        else:
            value = [value]
    if not all(isinstance(row, dict) for row in value):
        raise file_error(name, "must hold a list of JSON objects, got another list")
    return _numbered(name, value)
