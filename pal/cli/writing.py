"""Tables to files and standard output: a file stands there whole or not at all."""

import csv
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import typer

from pal.cli.tables import Cells, format_of
from pal.errors import PalError
from pal.files import forget_output, new_file

BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE ended
Write = Callable[[list[Cells]], None]


@contextmanager
def output(path: str, kind: str | None, schema: Any = None) -> Iterator[Write]:
    """What writes rows to a file or, for `-`, to standard output.

    Args:
        path: A file is written beside its place and moved there once the block ends well.
        kind: jsonl, csv or parquet, where the suffix does not say it.
        schema: The Parquet schema of the columns that are passed on, where there is one.

    Raises:
        PalError: If it cannot be written, or rows do not fit the format.
    """
    kind = format_of(path, kind)
    with _opened(path) as file, ExitStack() as stack:
        if kind == "parquet":
            writer = _Parquet(file, schema, stack)
            yield writer.write
            writer.close()
        else:
            yield {"jsonl": _Jsonl, "csv": _Csv}[kind](file).write


@contextmanager
def _opened(path: str) -> Iterator[io.BufferedIOBase]:
    if path == "-":
        with _quiet_pipe():
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    with new_file(Path(path)) as file:
        yield file


@contextmanager
def _quiet_pipe() -> Iterator[None]:
    """End without a word where nobody reads on: `pal score ... | head`."""
    try:
        yield
    except BrokenPipeError:
        forget_output()
        raise typer.Exit(BROKEN_PIPE) from None


def print_text(text: str) -> None:
    """Print to standard output, quietly where nobody reads."""
    with _quiet_pipe():
        sys.stdout.buffer.write((text + "\n").encode(sys.stdout.encoding, "replace"))
        sys.stdout.buffer.flush()


class _Jsonl:
    """One object a line."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self.file = file

    def write(self, rows: list[Cells]) -> None:
        try:
            lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
            data = lines.encode("utf-8")
        except (TypeError, ValueError) as error:
            raise PalError(f"a row cannot be written as JSON ({error}); leave that column out") from None
        self.file.write(data)
        self.file.flush()


class _Csv:
    """A header from the first row, which all others must follow."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self.file = file
        self.names: list[str] | None = None

    def write(self, rows: list[Cells]) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for row in rows:
            if self.names is None:
                self.names = list(row)
                writer.writerow(self.names)
            if row.keys() != set(self.names):
                odd = sorted(row.keys() ^ set(self.names))[0]
                raise PalError(
                    f"rows must all have the same columns for CSV, got {odd!r} in some; write JSONL"
                )
            writer.writerow([_cell(row[name]) for name in self.names])
        try:
            self.file.write(text.getvalue().encode("utf-8"))
        except UnicodeEncodeError:
            raise PalError(
                "a row holds half of a surrogate pair, which is no character; leave it out"
            ) from None
        self.file.flush()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value


class _Parquet:
    """A row group per batch; types as the first batch shows them, or as the input had them."""

    def __init__(self, file: io.BufferedIOBase, schema: Any, stack: ExitStack) -> None:
        if file is sys.stdout.buffer and sys.stdout.isatty():
            raise PalError("Parquet is not for a terminal; give --out FILE, or another --format")
        self.file, self.schema, self.stack = file, schema, stack
        self.writer: Any = None
        # Parquet asks where it stands, which a pipe cannot tell.
        piped = file is sys.stdout.buffer
        self.target = stack.enter_context(tempfile.TemporaryFile()) if piped else file  # noqa: SIM115

    def write(self, rows: list[Cells]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            if self.writer is None:
                self.schema = _schema(rows, self.schema)
                self.writer = self.stack.enter_context(pq.ParquetWriter(self.target, self.schema))
            for row in rows:
                if odd := sorted(row.keys() - set(self.schema.names)):
                    raise PalError(
                        f"rows must all have the same columns, got {odd[0]!r} in some; write JSONL"
                    )
            self.writer.write_table(pa.Table.from_pylist(rows, schema=self.schema))
        except (pa.ArrowException, UnicodeError) as error:
            why = " ".join(str(error).split())[:150]
            raise PalError(f"rows cannot be written as Parquet ({why}); write JSONL") from None

    def close(self) -> None:
        """Write what tells where everything is, and hand over what was held back."""
        if self.writer is not None:
            self.writer.close()
        if self.target is not self.file:
            self.target.seek(0)
            shutil.copyfileobj(self.target, self.file)


def _schema(rows: list[Cells], given: Any) -> Any:
    """Types of columns; those of which nothing is known yet are taken for texts."""
    import pyarrow as pa

    found = pa.Table.from_pylist(rows).schema
    fields = []
    for field in found:
        known = given is not None and field.name in given.names
        field = given.field(field.name) if known else field
        fields.append(field.with_type(pa.string()) if pa.types.is_null(field.type) else field)
    return pa.schema(fields)
