"""Writers of tables: JSONL, CSV and Parquet, rows as they are done."""

import csv
import io
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pal.errors import PalError
from pal.files import new_file
from pal.logs.tables import Cells, reason

FORMATS = ("jsonl", "csv", "parquet")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a text begins that spreadsheets compute
WriteRows = Callable[[list[Cells]], None]


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
