"""Tables from files and standard input, a batch of rows at a time: JSONL, CSV and Parquet."""

import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from pal.cli.columns import check_columns
from pal.errors import PalError

FORMATS = ("jsonl", "csv", "parquet")
LONGEST = 1 << 26  # bytes of a line or a cell: what is longer is no table of texts
Cells = dict[str, Any]


class Row(NamedTuple):
    """One row.

    Args:
        cells: Values by column: texts from CSV, whatever JSON or Parquet holds from these.
        place: Where it stands, for messages: `row 3 (line 4) of answers.csv`.
    """

    cells: Cells
    place: str


def format_of(path: str, otherwise: str | None) -> str:
    """A table's format: by its suffix; of a standard stream, or without a known suffix, as is said.

    Raises:
        PalError: If neither tells.
    """
    suffix = "" if path == "-" else Path(path).suffix.lower().removeprefix(".")
    if suffix in FORMATS:
        return suffix
    if otherwise is None and path != "-":
        raise PalError(f"{path} must end in .jsonl, .csv or .parquet, or --format must say what it is")
    return otherwise or "jsonl"


class Table:
    """A table that is read once, from its start to its end; a context manager, which closes it.

    Args:
        path: A file, or `-` for standard input.
        kind: jsonl, csv or parquet, where the suffix does not say it.
        needed: The columns that it must have.

    Raises:
        PalError: If it cannot be read, is empty, or lacks a column.
    """

    def __init__(self, path: str, kind: str | None, needed: Iterable[str]) -> None:
        self.name = "standard input" if path == "-" else path
        self.folder = Path() if path == "-" else Path(path).parent
        self.kind = format_of(path, kind)
        self.needed = tuple(needed)
        self.names: list[str] | None = None  # of JSONL every row tells its own
        self.schema: Any = None  # Parquet's
        self.total: int | None = None
        self.done = 0
        self._stack = ExitStack()
        try:
            self._file: Any = (
                sys.stdin.buffer if path == "-" else self._stack.enter_context(Path(path).open("rb"))  # noqa: SIM115
            )
            if path != "-":
                self.total = Path(path).stat().st_size
        except OSError as error:
            raise PalError(
                f"{path} cannot be read ({error.strerror}); name a file, or - for standard input"
            ) from None
        rows = {"jsonl": self._jsonl, "csv": self._csv, "parquet": self._parquet}[self.kind]()
        try:
            first = next(rows, None)
            if first is None:
                raise PalError(f"{self.name} must hold at least one row, got none; look at what wrote it")
        except BaseException:
            self._stack.close()
            raise
        self.first = first
        self._rows = chain([first], rows)

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def need(self, columns: Iterable[str]) -> None:
        """Hold all rows to more columns.

        Raises:
            PalError: If the table lacks one.
        """
        self.needed = (*self.needed, *columns)
        where = self.first.place if self.names is None else self.name
        check_columns(where, self.first.cells if self.names is None else self.names, self.needed)

    def batches(self, size: int) -> Iterator[list[Row]]:
        """All rows, `size` at a time.

        Raises:
            PalError: Naming the first row that cannot be read.
        """
        while batch := list(islice(self._rows, size)):
            yield batch

    def _lines(self) -> Iterator[str]:
        """Lines as text."""
        number = 0
        while line := self._file.readline(LONGEST + 1):
            number += 1
            self.done += len(line)
            if len(line) > LONGEST:
                raise PalError(
                    f"line {number:,} of {self.name} must have at most {LONGEST:,} bytes, got more"
                )
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise PalError(
                    f"line {number:,} of {self.name} must be UTF-8, got the byte "
                    f"0x{line[error.start]:02x}; save it as UTF-8"
                ) from None

    def _jsonl(self) -> Iterator[Row]:
        row = 0
        for number, line in enumerate(self._lines(), 1):
            if line.isspace():
                continue
            row += 1
            place = f"line {number:,} of {self.name}"
            try:
                cells = json.loads(line)
            except (ValueError, RecursionError) as error:
                at = f"{error.msg} at character {error.pos + 1}" if hasattr(error, "msg") else str(error)
                raise PalError(f"{place} is not valid JSON ({at}); write one JSON object a line") from None
            if not isinstance(cells, dict):
                raise PalError(f"{place} must be a JSON object, got {type(cells).__name__}; name its columns")
            check_columns(place, cells, self.needed)
            yield Row(cells, place)

    def _csv(self) -> Iterator[Row]:
        reader = csv.reader(self._lines(), strict=True)
        line, row = 1, 0
        try:
            with _long_cells():
                header = next(reader, None)
            if header is None:
                return
            self.names = header
            check_columns(self.name, header, self.needed)
            while True:
                line = reader.line_num + 1
                with _long_cells():
                    values = next(reader, None)
                if values is None:
                    return
                if not values:
                    continue
                row += 1
                place = f"row {row:,} (line {line:,}) of {self.name}"
                if len(values) != len(header):
                    raise PalError(
                        f"{place} must have {len(header)} values, one per column, got {len(values)}; put "
                        "quotes around a value that holds a comma or a line break"
                    )
                yield Row(dict(zip(header, values, strict=True)), place)
        except csv.Error as error:
            raise PalError(
                f"line {line:,} of {self.name} has a quote that is not closed or not doubled ({error}); put "
                "quotes around the value and double each quote within it"
            ) from None

    def _parquet(self) -> Iterator[Row]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = self._file
        if self.name == "standard input":  # Parquet is read from its end
            file = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            shutil.copyfileobj(self._file, file)
            file.seek(0)
        row = self.done = 0
        try:
            with pq.ParquetFile(file) as parquet:
                self.schema, self.names = parquet.schema_arrow, parquet.schema_arrow.names
                self.total = parquet.metadata.num_rows
                check_columns(self.name, self.names, self.needed)
                for batch in parquet.iter_batches(batch_size=64):
                    for cells in batch.to_pylist():
                        row += 1
                        self.done = row
                        yield Row(cells, f"row {row:,} of {self.name}")
        except (pa.ArrowException, OSError) as error:
            why = " ".join(str(error).split())[:100]
            raise PalError(f"{self.name} is damaged or not Parquet ({why}); write it again") from None


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let the csv module take cells beyond 128 KiB; its limit holds for the whole process."""
    before = csv.field_size_limit(LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)
