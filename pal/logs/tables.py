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
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pal.errors import PalError, cut, reason, shorten

COMPRESSED = {b"\x1f\x8b": ("gzip", ".gz"), b"\x28\xb5\x2f\xfd": ("zstd", ".zst"), b"BZh": ("bz2", ".bz2")}
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
ENCODINGS = {"cp1252": "Windows-1252", "utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # of what a cell may name
MOST_ROWS, MOST_BYTES = 200_000_000, 1 << 36  # of a Parquet file, of which some KB may claim billions
HEAD = 1 << 18  # bytes from which the dialect is told
BLOCK = 1 << 20
LONGEST_CELL = 1 << 26  # characters; anything longer is a quote that is not closed
MOST_FAULTY = 0.1  # share of malformed rows from which on the file, not the row, is at fault
HOLDERS = ("data", "rows", "examples", "records", "results")  # keys of a list of rows in a JSON object
Cells = dict[str, Any]
OnFault = Callable[[int, int | None, str], None]


class Row(NamedTuple):
    """A row of a table.

    Args:
        file: The table's name, for messages.
        number: The row's number, from 1; a header and blank lines do not count.
        line: The line that it starts on, from 1; None where rows are no lines.
        cells: Values by column: texts from CSV and Excel, any values from JSON, Parquet and Arrow.
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


def row_place(file: str, number: int, line: int | None = None, others: int = 0) -> str:
    """Where a row is, such as `row 3 (line 4) of a.csv`, and how many more rows have the same fault."""
    at = f" (line {line:,})" if line not in (None, number) else ""
    more = f" (and {others:,} more row{'s' if others > 1 else ''})" if others else ""
    return f"row {number:,}{at} of {file}{more}" if number else f"the header of {file}"


@dataclass(frozen=True)
class TableFile:
    """A table.

    Args:
        name: What the user calls it, for messages.
        rows: Its rows: a list, or read as they come.
        columns: The names of its columns; None of JSON, where each row names its own.
        arrow: All of Parquet and Arrow, whose texts may be dictionaries.
        schema: Its Arrow schema, as the file has it.
        said: What was understood, one sentence each.
    """

    name: str
    rows: Iterable[Row]
    columns: list[str] | None = None
    arrow: pa.Table | None = None
    schema: pa.Schema | None = None
    said: list[str] = field(default_factory=list)

    def no_rows(self) -> PalError:
        """The error of a table without rows."""
        got = "a header only" if self.columns else "none"
        return PalError(f"{self.name} must hold at least one row, got {got}", file=self.name)

    def require(self, needed: Iterable[str]) -> None:
        """Require columns of the table; of JSON, of every row.

        Raises:
            PalError: Naming the columns that it lacks, and those to rename that have names like theirs.
        """
        needed = list(needed)
        if self.columns is not None:
            self._require(needed, self.columns, self.name)
        for row in self.rows if self.columns is None else ():
            self._require(needed, row.cells, row.place, row.number)

    def _require(self, needed: list[str], names: Collection[str], place: str, row: int | None = None) -> None:
        if not (missing := [column for column in needed if column not in names]):
            return
        from pal.logs.columns import column_like  # polars, which a table that is right does not need

        others = [name for name in names if name not in needed]
        like = {column: found for column in missing if (found := column_like(column, others))}
        advice = ", ".join(f"{found!r} to {column}" for column, found in like.items())
        advice = f"rename {advice}" if like else "add what is missing"
        has = cut(", ".join(map(repr, names)) or "none", 200)
        lacks = f"lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has {has}; {advice}"
        raise PalError(f"{place} {lacks}", file=self.name, row=row, column=missing[0])


def read_rows(path: str) -> TableFile:
    """A table in memory, of which no row may be malformed; `-` is standard input.

    Raises:
        PalError: If it cannot be read, or has no rows.
    """
    with open_table(path) as table:
        rows = list(table.rows)
    if not rows:
        raise table.no_rows()
    return TableFile(table.name, rows, table.columns, None, table.schema, table.said)


@contextmanager
def open_table(path: Path | str, name: str = "", on_fault: OnFault | None = None) -> Iterator[TableFile]:
    """Open a table, whose rows can be read once.

    Args:
        path: The file, or `-` for standard input.
        name: What the user calls it, for messages; empty: as `path` does.
        on_fault: Called with the number, the line and the problem of a malformed row, which is then left out;
            by default the first one raises.

    Raises:
        PalError: If it cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="pal-") as scratch:
        if str(path) == "-":
            path, name = Path(scratch) / "input", name or "standard input"
            with path.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        yield _open(Path(path), name or str(path), on_fault, Path(scratch))


def _open(path: Path, name: str, on_fault: OnFault | None, scratch: Path) -> TableFile:
    start, said = _start(path, name), []
    for magic, (kind, suffix) in COMPRESSED.items():
        if start.startswith(magic):
            said.append(f"{name} is {kind}")
            path, name = _unpacked(path, name, kind, scratch), name.removesuffix(suffix)
            start = _start(path, name)
    if start[:4] == b"PAR1":
        table = _of_arrow(name, *_parquet(path, name))
    elif start[:6] == b"ARROW1" or start[:4] == b"\xff\xff\xff\xff":
        table = _of_arrow(name, *_arrow(path, name))
    elif start[:4] == b"PK\x03\x04":
        frame = _excel(path, name)
        rows = (Row(name, number, None, cells) for number, cells in enumerate(frame.iter_rows(named=True), 1))
        table = TableFile(name, rows, frame.columns)
    else:
        table = _text(path, name, on_fault or _raiser(name))
    said += table.said
    for column in table.columns or ():
        if column and (count := table.columns.count(column)) > 1:
            problem = f"must have one column {column}, got {count}; rename one"
            raise PalError(f"{name} {problem}", file=name, column=column)
    return TableFile(name, table.rows, table.columns, table.arrow, table.schema, said)


def _start(path: Path, name: str) -> bytes:
    """The first bytes of a file."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        message = f"{name} cannot be read ({error.strerror}); name a file, or - for standard input"
        raise PalError(message, file=name) from None
    if not start:
        raise PalError(f"{name} is empty (0 bytes); export it again", file=name)
    return start


def _raiser(name: str) -> OnFault:
    def fault(number: int, line: int | None, problem: str) -> None:
        message = f"{row_place(name, number, line)} {problem}"
        raise PalError(message, file=name, row=number, problem=problem)

    return fault


def _unpacked(path: Path, name: str, kind: str, scratch: Path) -> Path:
    """The content of a compressed file, as a file."""
    out = scratch / "unpacked"
    try:
        with pa.CompressedInputStream(pa.OSFile(str(path)), kind) as file, out.open("wb") as target:
            while block := file.read(BLOCK):
                target.write(block)
    except (OSError, EOFError) as error:
        raise PalError(
            f"{name} ends early or is damaged ({kind}: {reason(error)}); copy or export it again", file=name
        ) from None
    return out


@contextmanager
def readable_parquet(name: str) -> Iterator[None]:
    """Turn the errors of reading a damaged Parquet or Arrow file into a PalError."""
    try:
        yield
    except PalError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        message = f"{name} is damaged or not Parquet ({reason(error)}); export it again"
        raise PalError(message, file=name) from None


def _parquet(path: Path, name: str) -> tuple[pa.Table, pa.Schema]:
    """Parquet through pyarrow, since polars panics on damaged files with a backtrace.

    Texts come as dictionaries, since one that a file holds once may stand in millions of rows.
    """
    with readable_parquet(name):
        about = pq.read_metadata(path)
        size = sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups))
        for what, got, most in (("rows", about.num_rows, MOST_ROWS), ("bytes unpacked", size, MOST_BYTES)):
            if got > most:
                message = f"{name} must have at most {most:,} {what}, got {got:,}; split it"
                raise PalError(message, file=name)
        schema = about.schema.to_arrow_schema()
        texts = [each.name for each in schema if pa.types.is_string(each.type)]
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            table = file.read()
        table.validate(full=True)
    return table, schema


def _arrow(path: Path, name: str) -> tuple[pa.Table, pa.Schema]:
    with readable_parquet(name), pa.memory_map(str(path)) as file:
        try:
            table = pa.ipc.open_stream(file).read_all()
        except pa.ArrowInvalid:
            file.seek(0)
            table = pa.ipc.open_file(file).read_all()
    return table, table.schema


def _of_arrow(name: str, table: pa.Table, schema: pa.Schema) -> TableFile:
    def rows() -> Iterator[Row]:
        with readable_parquet(name):
            cells = (row for batch in table.to_batches(max_chunksize=1024) for row in batch.to_pylist())
            yield from (Row(name, number, None, row) for number, row in enumerate(cells, 1))

    return TableFile(name, rows(), table.column_names, table, schema)


def _excel(path: Path, name: str) -> Any:
    """The first sheet of a workbook as a frame of texts."""
    import polars as pl

    try:
        return pl.read_excel(path, engine="calamine", infer_schema_length=0)
    except ModuleNotFoundError:
        raise PalError(
            f"{name} is a workbook, which needs the package fastexcel; run `pip install fastexcel`, or save "
            "the sheet as CSV", file=name,
        ) from None  # fmt: skip
    except (pl.exceptions.PolarsError, ValueError, RuntimeError) as error:
        message = f"{name} cannot be read as a workbook ({reason(error)}); save the sheet as CSV"
        raise PalError(message, file=name) from None


def _text(path: Path, name: str, on_fault: OnFault) -> TableFile:
    """CSV or JSON, whichever it is."""
    encoding, said = _encoding(path, name), []
    if encoding in ENCODINGS:
        said.append(f"{name} is {ENCODINGS[encoding]}")
    with path.open("rb") as file, _readable_text(name):
        head = codecs.getincrementaldecoder(encoding)().decode(file.read(HEAD))
    if head.lstrip()[:1] in ("[", "{"):
        rows = None if _is_lines(head, name) else _whole_json(path, name, encoding)
        return TableFile(
            name, _json_lines(path, name, encoding, on_fault) if rows is None else rows, said=said
        )
    separator = _separator(head)
    if separator != ",":
        said.append(f"{name} separates its columns by {SEPARATORS[separator]}")
    header = next((row for row in csv.reader(io.StringIO(head, newline=""), delimiter=separator) if row), [])
    rows = _csv_rows(path, name, encoding, separator, header, on_fault)
    return TableFile(name, rows, header, said=said)


def _encoding(path: Path, name: str) -> str:
    """The encoding of a text by its byte order mark, its zero bytes, and whether it is valid UTF-8."""
    with path.open("rb") as file:
        block = file.read(HEAD)
        for mark, encoding in (
            (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
        ):  # fmt: skip
            if block.startswith(mark):
                return encoding
        for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            if block[offset::2].count(0) > len(block) // 5:
                return encoding
        decoder, line, plain = codecs.getincrementaldecoder("utf-8")(), 1, True
        while True:
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                before, byte = error.object[: error.start], error.object[error.start]
                if plain and before.isascii():
                    return "cp1252"
                raise PalError(
                    f"line {line + before.count(10):,} of {name} must be UTF-8, as those before it, got the "
                    f"byte 0x{byte:02x}; save the file as UTF-8", file=name,
                ) from None  # fmt: skip
            if not block:
                return "utf-8"
            line, plain, block = line + text.count("\n"), plain and text.isascii(), file.read(BLOCK)


@contextmanager
def _readable_text(name: str) -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:
        got = (
            f"the byte 0x{error.object[error.start]:02x}" if isinstance(error, UnicodeDecodeError) else error
        )
        raise PalError(
            f"{name} must be a table: CSV, JSON, JSONL, Parquet, Arrow or Excel, got {got}, which is no "
            "text; save it as UTF-8", file=name,
        ) from None  # fmt: skip


def _lines(path: Path, name: str, encoding: str) -> Iterator[str]:
    with _readable_text(name), path.open(encoding=encoding, newline="") as file:
        yield from file


def _separator(head: str) -> str:
    """The separator by which the first rows have most columns, nearly all of them as many as the header."""
    best, most = ",", 1
    for separator in SEPARATORS:
        rows: list[list[str]] = []
        with suppress(csv.Error):
            reader = csv.reader(io.StringIO(head, newline=""), delimiter=separator)
            rows = [row for row in islice(reader, 200) if row]
        width = len(rows[0]) if rows else 0
        rows = rows[:-1] or rows  # the last may be cut off
        if width > most and sum(len(row) == width for row in rows) >= (1 - MOST_FAULTY) * len(rows):
            best, most = separator, width
    return best


def _csv_rows(
    path: Path, name: str, encoding: str, separator: str, header: list[str], on_fault: OnFault
) -> Iterator[Row]:
    """The rows below the header; blank lines are none."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    reader = csv.reader(_lines(path, name, encoding), delimiter=separator, strict=True)
    number, line = 0, 1  # the header is row 0
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"has a quote that is not closed or not doubled ({error})"
            advice = "put quotes around the value and double each quote within it"
            ends = number == 0 or "expected after" not in str(error)  # what follows is within the quote
            (_raiser(name) if ends else on_fault)(number, line, f"{problem}; {advice}")
            values = []
            number += 1
        if len(values) == len(header) and number:
            yield Row(name, number, line, dict(zip(header, values, strict=True)))
        elif values and number:
            problem = f"must have {len(header)} values, one per column, got {len(values)}"
            advice = "put quotes around a value that holds a separator or a line break"
            on_fault(number, line, f"{problem}; {advice}")
        number += bool(values)
        line = reader.line_num + 1


def _is_lines(head: str, name: str) -> bool:
    """Whether the first line is a JSON object by itself, and more than a file that holds one."""
    first, _, rest = head.lstrip().partition("\n")
    try:
        is_object = isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False
    return is_object and (bool(rest.strip()) or Path(name).suffix.lower() != ".json")


def _json_lines(path: Path, name: str, encoding: str, on_fault: OnFault) -> Iterator[Row]:
    number = 0
    for line, text in enumerate(_lines(path, name, encoding), 1):
        if not text.strip():
            continue
        number += 1
        try:
            cells = json.loads(text)
        except (ValueError, RecursionError) as error:
            advice = "the file seems cut off there" if text[-1] != "\n" else "write one JSON object a line"
            on_fault(number, line, f"is not valid JSON ({reason(error)}); {advice}")
            continue
        if isinstance(cells, dict):
            yield Row(name, number, line, cells)
        else:
            on_fault(number, line, f"must be a JSON object, got {_kind(cells)}")


def _whole_json(path: Path, name: str, encoding: str) -> Iterator[Row] | None:
    """A JSON list of objects, or an object of columns, or one that holds such a list; None: it is lines."""
    with _readable_text(name):
        text = path.read_bytes().decode(encoding)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:1] == "{":
            return None
        raise PalError(f"{name} is not valid JSON ({reason(error)}); export it again", file=name) from None
    if isinstance(value, dict):
        lists = [each for each in value.values() if isinstance(each, list)]
        if rows := next((value[key] for key in HOLDERS if isinstance(value.get(key), list)), None):
            value = rows
        elif len(lists) == len(value) and len(set(map(len, lists))) == 1:
            value = [dict(zip(value, row, strict=True)) for row in zip(*lists, strict=True)]
        else:
            value = [value]
    if not all(isinstance(row, dict) for row in value):
        raise PalError(f"{name} must hold a list of JSON objects, got another list", file=name)
    return (Row(name, number, None, cells) for number, cells in enumerate(value, 1))


def _kind(value: Any) -> str:
    """A JSON value in a message; lists and objects by their kind, since they may be nested deeply."""
    return {list: "a list", dict: "a JSON object", type(None): "nothing"}.get(type(value)) or shorten(value)
