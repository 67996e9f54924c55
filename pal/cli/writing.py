"""Writers of tables: JSONL, CSV and Parquet, rows as they are done."""

import csv
import io
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pal.errors import PalError, reason
from pal.files import new_file
from pal.logs.tables import Cells

FORMATS = ("jsonl", "csv", "parquet")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a text begins that spreadsheets compute
WriteRows = Callable[[list[Cells]], None]


def table_format(path: str, stated: str | None) -> str:
    """The format of a table: jsonl, csv or parquet, by its suffix, else as the user states it; a terminal's.

    Raises:
        PalError: If a file has no such suffix and nothing is stated.
    """
    suffix = "" if path == "-" else Path(path).suffix.lower().removeprefix(".")
    if suffix in FORMATS:
        return suffix
    if stated is None and path != "-":
        message = f"{path} must end in .jsonl, .csv or .parquet, or --format must say what it is"
        raise PalError(message, file=path)
    return stated or ("shown" if sys.stdout.isatty() else "jsonl")


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
    if path == "-" and kind == "parquet" and sys.stdout.isatty():
        raise PalError("Parquet is not for a terminal; give --out FILE, or another --format")
    with nullcontext(sys.stdout.buffer) if path == "-" else new_file(Path(path)) as file:
        if kind == "parquet":
            rows: list[Cells] = []
            yield rows.extend
            _write_parquet(file, rows, schema)
        elif kind == "shown":
            yield _show
        else:
            names: list[str] = []
            yield lambda rows: _write_lines(file, kind, rows, names, safe_csv=safe_csv)
        file.flush()


def _show(rows: list[Cells]) -> None:
    """Print rows as a table as wide as the terminal: numbers first, texts cut to share what is left."""
    is_number = {name: isinstance(cell, int | float) for name, cell in rows[0].items()}
    names = sorted(rows[0], key=lambda name: not is_number[name])
    cells = [[row.get(name, "") for name in names] for row in rows]
    texts = [
        [f"{each:.3f}" if isinstance(each, float) else " ".join(f"{each}".split()) for each in row]
        for row in cells
    ]
    widths = [max(map(len, column)) for column in zip(names, *texts, strict=True)]
    n_numbers = sum(is_number.values())
    left = shutil.get_terminal_size().columns - sum(width + 2 for width in widths[:n_numbers])
    most = max(8, left // max(1, len(names) - n_numbers) - 2)
    for cells in (names, *texts):
        cut = (cell if len(cell) <= most else f"{cell[: most - 1]}…" for cell in cells)
        print(*(cell.ljust(min(width, most)) for cell, width in zip(cut, widths, strict=True)), sep="  ")
    print()


def _write_lines(
    file: io.BufferedIOBase, kind: str, rows: list[Cells], names: list[str], *, safe_csv: bool
) -> None:
    """Write rows as JSONL, or as CSV, whose `names` the first row sets; nested cells are JSON in it."""
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
        file.write(text.getvalue().encode())
    except UnicodeEncodeError:
        message = "a row holds half of a surrogate pair, which is no character; leave it out"
        raise PalError(message) from None
    except PalError:
        raise
    except (TypeError, ValueError) as error:
        raise PalError(f"a row cannot be written as JSON ({error}); leave that column out") from None
    file.flush()  # whoever reads a pipe gets each batch at once


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
