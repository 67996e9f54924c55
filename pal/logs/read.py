"""Files of any common format and dialect to one table of texts, whose rows know their places.

CSV with any separator and encoding, JSON and JSONL, Parquet, Arrow, Excel, compressed or not, folders and
globs of these, a `datasets` folder saved to disk, `hf://datasets/ORG/NAME@revision`, and standard input. A
list or an object in a cell is kept as its JSON; bytes stay bytes. What a file is, is told by its bytes, and
said.
"""

import base64
import codecs
import csv
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pal.errors import PalError, shorten
from pal.logs.presets import HUB
from pal.table_files import TableReader, readable_parquet, reason, row_place

FILE, ROW = "#file", "#row"  # columns of a table: which file a row is from, and its number there, from 1
SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".xlsx")
COMPRESSED = {b"\x1f\x8b": ("gzip", ".gz"), b"\x28\xb5": ("zstd", ".zst")}
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
HEAD = 1 << 18  # bytes from which the dialect is told
BLOCK = 1 << 24  # bytes that are parsed at once, the length of the longest row
MOST_ROWS = 200_000_000
MOST_TEXT = 1 << 34  # bytes in a column of a file
CHUNK = 20_000  # rows that are in memory as Python objects
MOST_FAULTY = 0.1  # share of malformed rows from which on the file, not the row, is at fault
HOLDERS = ("data", "rows", "examples", "records", "results")  # keys of a list of rows in a JSON object


@dataclass(frozen=True)
class Rejected:
    """A row that was left out.

    Args:
        file: Its file.
        row: Its number, from 1; a header and blank lines do not count.
        reason: Why, as the end of a sentence about the row.
    """

    file: str
    row: int
    reason: str


@dataclass(frozen=True)
class Table:
    """Rows as they were read.

    Args:
        frame: A column of texts (or bytes) for each of the files' columns, and `#file` and `#row`.
        source: What was read, in the user's words.
        folder: What paths in cells are relative to.
        said: What was understood of the files, one sentence each.
        rejected: Rows that could not be read.
    """

    frame: pl.DataFrame
    source: str
    folder: Path
    said: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The names of the files' columns."""
        return [name for name in self.frame.columns if name not in (FILE, ROW)]


@dataclass(frozen=True)
class Files:
    """The files of a log.

    Args:
        paths: Where they lie, by the names that messages use; what a file is, its bytes tell.
        source: What was asked for, in the user's words.
        folder: What paths in cells are relative to.
        said: What was understood, one sentence each.
    """

    paths: dict[str, Path]
    source: str
    folder: Path
    said: list[str] = field(default_factory=list)


def read(source: Any) -> Table:
    """Read a file, a folder, a glob of files, a data set of the hub, or standard input for `-`.

    Rows in memory are read too: mappings, a frame of polars or pandas, an Arrow table, a `datasets` table;
    and `Files` that were found before.

    Raises:
        PalError: If there is nothing to read, or a file cannot be read.
    """
    if not isinstance(source, str | Path | Files):
        return _in_memory(source)
    with tempfile.TemporaryDirectory(prefix="pal-") as scratch:
        if source == "-":
            path = Path(scratch) / "standard input"
            with path.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            source = Files({path.name: path}, "-", Path())
        files = source if isinstance(source, Files) else find_files(source)
        said, rejected = list(files.said), []
        frames = [_read_file(path, name, said, rejected, Path(scratch)) for name, path in files.paths.items()]
    frame = pl.concat(frames, how="diagonal_relaxed") if len(frames) > 1 else frames[0]
    if len({tuple(sorted(each.columns)) for each in frames}) > 1:
        said.append("the files have not all the same columns; what one lacks is taken as empty there")
    return Table(frame, files.source, files.folder, said, rejected)


def _in_memory(rows: Any) -> Table:
    if isinstance(rows, pl.DataFrame):
        frame = _texts(rows.to_arrow())
    elif isinstance(rows, pa.Table):
        frame = _texts(rows)
    else:  # iterating over pandas gives the names of columns
        is_pandas = type(rows).__module__.startswith("pandas")
        frame = _frame_of(iter(rows.to_dict("records") if is_pandas else rows))
    if not len(frame):
        raise PalError("a log must hold at least one row, got none")
    place = {FILE: pl.lit("rows").cast(pl.Categorical), ROW: pl.int_range(1, pl.len() + 1, dtype=pl.UInt32)}
    return Table(frame.with_columns(**place), "rows", Path())


def find_files(source: Path | str, folder: Path | None = None, without: Iterable[Path] = ()) -> Files:
    """The files that a source names.

    Args:
        source: A file, a folder, a glob, or `hf://datasets/ORG/NAME@revision`, which is downloaded.
        folder: What a relative path starts from; None: the current folder.
        without: Files that are no part of the log, though they may lie in its folder.

    Raises:
        PalError: If there are none.
    """
    source, said = str(source), []
    if source.startswith(HUB):
        paths, root = _from_hub(source, said)
        return Files({path.relative_to(root).as_posix(): path for path in paths}, source, root, said)
    path = (folder or Path()) / Path(source).expanduser()
    if path.is_file():
        return Files({path.name: path}, source, path.parent)
    if path.is_dir():
        saved = sorted(path.rglob("data-*-of-*.arrow"))
        paths = saved if list(path.rglob("state.json")) and saved else sorted(path.rglob("*"))
        root = path
    else:
        paths, root = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))), path.parent
        while any(mark in str(root) for mark in "*?["):
            root = root.parent
    others = {each.resolve() for each in without}
    named = {each.relative_to(root): each for each in paths}
    found = {
        name.as_posix(): each
        for name, each in named.items()
        if is_table(each.name) and not any(part.startswith((".", "_")) for part in name.parts)
        and each.is_file() and each.resolve() not in others
    }  # fmt: skip
    if not found:
        allowed = ", ".join(SUFFIXES)
        what = "holds no" if path.is_dir() else "is not there, and matches no"
        raise PalError(
            f"{source} {what} file that ends in {allowed} (or these with .gz or .zst)", file=source
        )
    return Files(found, source, root)


def is_table(name: str) -> bool:
    """Whether a file may be a table, by its name."""
    return _suffix(Path(name)) in SUFFIXES


def _suffix(path: Path) -> str:
    endings = [each.lower() for each in path.suffixes[-2:]]
    if endings and endings[-1] in (".gz", ".zst"):
        endings.pop()
    return endings[-1] if endings else ""


def _from_hub(source: str, said: list[str]) -> tuple[list[Path], Path]:
    from pal.hub_files import download, list_files

    repo, revision, below = hub_parts(source)
    advice = "download it by other means and name the folder"
    commit, files = list_files(repo, revision, repo_type="dataset", advice=advice)
    wanted = hub_tables(files, below)
    folder = download(repo, commit, wanted, repo_type="dataset", advice=advice)
    said.append(f"{repo} at {commit}, {len(wanted)} files")
    return [folder / name for name in wanted], folder


def hub_parts(source: str) -> tuple[str, str, str]:
    """Repository, revision and folder of `hf://datasets/ORG/NAME@revision/FOLDER`."""
    repo, _, inside = source.removeprefix(HUB).partition("@")
    revision, _, inside = inside.partition("/")
    parts = repo.split("/")
    return "/".join(parts[:2]), revision or "main", "/".join([*parts[2:], *filter(None, [inside])])


def hub_tables(files: Iterable[str], below: str) -> list[str]:
    """Those of a repository's files that are read: of the same data in two formats, as many have, one.

    Raises:
        PalError: If there are none.
    """
    wanted = [name for name in files if is_table(name) and name.startswith(below)]
    for suffix in (".parquet", ".jsonl", ".csv"):
        if some := [name for name in wanted if _suffix(Path(name)) == suffix]:
            wanted = some
            break
    if not wanted:
        raise PalError(f"the repository must hold a table in {below or 'it'}, got none; name a folder of it")
    return sorted(wanted)


def _read_file(
    path: Path, name: str, said: list[str], rejected: list[Rejected], scratch: Path
) -> pl.DataFrame:
    """One file's rows; what was understood and what was rejected is added to the lists."""
    try:
        with path.open("rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise PalError(
            f"{name} cannot be read ({error.strerror}); name a file or a folder", file=name
        ) from None
    if not magic:
        raise PalError(f"{name} is empty (0 bytes); export it again", file=name)
    if magic[:2] in COMPRESSED:
        kind, suffix = COMPRESSED[magic[:2]]
        said.append(f"{name} is {kind}")
        path = _unpacked(path, name, kind, scratch)
        name = name.removesuffix(suffix)
        with path.open("rb") as file:
            magic = file.read(8)
    faults: list[tuple[int, str]] = []
    if magic[:4] == b"PAR1":
        frame = _texts(_parquet(path, name))
    elif magic[:6] == b"ARROW1" or magic[:4] == b"\xff\xff\xff\xff":
        frame = _texts(_arrow(path, name))
    elif magic[:4] == b"PK\x03\x04":
        frame = _excel(path, name)
    else:
        frame = _text_file(path, name, said, faults)
    n = len(frame) + len(faults)
    if not n or not frame.width:
        raise PalError(
            f"{name} must hold at least one row, got {'a header only' if frame.width else 'none'}", file=name
        )
    if len(faults) > MOST_FAULTY * n:
        number, problem = faults[0]
        more = len(faults) - 1
        raise PalError(
            f"{row_place(name, number, None, more)} {problem}", file=name, row=number, problem=problem
        )
    rejected += [Rejected(name, number, problem) for number, problem in faults]
    lost = {number for number, _ in faults}
    numbers = (
        [number for number in range(1, n + 1) if number not in lost]
        if lost
        else pl.int_range(1, n + 1, eager=True)
    )
    return frame.with_columns(
        pl.lit(name).cast(pl.Categorical).alias(FILE), pl.Series(ROW, numbers, dtype=pl.UInt32)
    )


def _unpacked(path: Path, name: str, kind: str, scratch: Path) -> Path:
    """The content of a compressed file, as a file."""
    out = scratch / f"{len(list(scratch.iterdir()))}"
    try:
        with pa.CompressedInputStream(pa.OSFile(str(path)), kind) as file, out.open("wb") as target:
            while block := file.read(1 << 20):
                target.write(block)
    except (OSError, EOFError) as error:
        raise PalError(
            f"{name} ends early or is damaged ({kind}: {reason(error)}); copy or export it again", file=name
        ) from None
    return out


def _parquet(path: Path, name: str) -> pa.Table:
    """Parquet through pyarrow, since polars panics on damaged files with a backtrace.

    Texts come as dictionaries, since one that a file holds once may stand in millions of rows.
    """
    with readable_parquet(name), pq.ParquetFile(path) as file:
        if (total := file.metadata.num_rows) > MOST_ROWS:
            message = f"{name} must have at most {MOST_ROWS:,} rows, got {total:,}; split it"
            raise PalError(message, file=name)
        texts = [each.name for each in file.schema_arrow if pa.types.is_string(each.type)]
    with readable_parquet(name), pq.ParquetFile(path, read_dictionary=texts) as file:
        table = file.read()
        table.validate(full=True)
    for column in texts:
        # What it takes in memory once every cell is a text of its own.
        length = sum(
            pc.sum(pc.binary_length(chunk.dictionary).cast(pa.int64()).take(chunk.indices)).as_py() or 0
            for chunk in table.column(column).chunks
        )
        if length > MOST_TEXT:
            raise PalError(
                f"{column} in {name} must hold at most {MOST_TEXT:,} bytes of text, got {length:,}; split it",
                file=name, column=column,
            )  # fmt: skip
    return table


def _arrow(path: Path, name: str) -> pa.Table:
    with readable_parquet(name), pa.memory_map(str(path)) as file:
        try:
            return pa.ipc.open_stream(file).read_all()
        except pa.ArrowInvalid:
            file.seek(0)
            return pa.ipc.open_file(file).read_all()


def _excel(path: Path, name: str) -> pl.DataFrame:
    try:
        frame = pl.read_excel(path, engine="calamine", infer_schema_length=0)
    except ModuleNotFoundError:
        raise PalError(
            f"{name} is a workbook, which needs the package fastexcel; run `pip install fastexcel`, or save "
            "the sheet as CSV", file=name,
        ) from None  # fmt: skip
    except (pl.exceptions.PolarsError, ValueError, RuntimeError) as error:
        raise PalError(
            f"{name} cannot be read as a workbook ({reason(error)}); save the sheet as CSV"
        ) from None
    return frame


def _texts(table: pa.Table) -> pl.DataFrame:
    """The columns of an Arrow table as texts or bytes; of two of one name the first."""
    columns: dict[str, pl.Series] = {}
    for index, field_ in enumerate(table.schema):
        if field_.name not in columns:
            columns[field_.name] = _text_column(field_.name, table.column(index))
    return pl.DataFrame(columns)


def _text_column(name: str, column: pa.ChunkedArray) -> pl.Series:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind):
        cells = (as_text(cell) for cell in column.to_pylist())
        if pa.types.is_struct(kind) and "bytes" in {each.name for each in kind}:  # pictures of `datasets`
            pictures = column.to_pylist()
            if any(cell and cell["bytes"] for cell in pictures):
                return pl.Series(name, [cell and cell["bytes"] for cell in pictures], dtype=pl.Binary)
            cells = (cell and cell.get("path") for cell in pictures)
        return pl.Series(name, list(cells), dtype=pl.String)
    if pa.types.is_dictionary(column.type):  # of which polars would make categories
        chunks = [
            pl.Series(pl.from_arrow(c.dictionary)).gather(pl.from_arrow(c.indices)) for c in column.chunks
        ]
        series = (pl.concat(chunks) if chunks else pl.Series(dtype=pl.String)).alias(name)
    else:
        series = pl.Series(name, pl.from_arrow(column))
    if series.dtype.is_float():
        if (series.drop_nulls() == series.drop_nulls().round()).all() and series.is_finite().all():
            series = series.cast(pl.Int64, strict=False)
    elif series.dtype == pl.Boolean:
        series = series.cast(pl.String)
    elif series.dtype.is_temporal():
        return series.dt.to_string("iso") if series.dtype != pl.Time else series.cast(pl.String)
    return series if series.dtype == pl.Binary else series.cast(pl.String)


def as_text(cell: Any) -> str | None:
    """A JSON value as a text: a text as it is, 7.0 as 7, lists and objects as JSON."""
    if cell is None or isinstance(cell, str):
        return cell
    if cell != cell:  # NaN, pandas' empty cell
        return None
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, bool | int | float):
        return str(cell).lower()
    return json.dumps(cell, ensure_ascii=False, default=_encoded)


def _encoded(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _text_file(path: Path, name: str, said: list[str], faults: list[tuple[int, str]]) -> pl.DataFrame:
    with path.open("rb") as file:
        head = file.read(HEAD)
    encoding = _encoding(head)
    if encoding not in ("utf-8", "utf-8-sig"):
        said.append(f"{name} is {encoding.replace('cp1252', 'Windows-1252').replace('utf-', 'UTF-')}")
    text = _decoded(head, encoding, name)
    start = text.lstrip()[:1]
    if start in ("[", "{"):
        data = _utf8(path, name, encoding)
        frame = None if _is_lines(text) else _whole_json(data, name)
        return _json_lines(data, name, faults) if frame is None else frame
    separator = _separator(text, name)
    if separator != ",":
        said.append(f"{name} separates its columns by {SEPARATORS[separator]}")
    try:
        return _csv(path, name, separator, encoding, text, faults)
    except pa.ArrowInvalid as error:
        # Later bytes than the head's may be no UTF-8; where those before were only ASCII, it never was.
        if "UTF8" in str(error) and encoding == "utf-8" and text.isascii():
            said.append(f"{name} is Windows-1252")
            faults.clear()
            return _csv(path, name, separator, "cp1252", text, faults)
        if "UTF8" in str(error):
            problem = "must be UTF-8 throughout, got other bytes after some; save the file as UTF-8"
            raise PalError(f"{name} {problem}", file=name) from None
        raise PalError(
            f"{name} cannot be read as CSV ({reason(error)}); export it again", file=name
        ) from None
    except UnicodeError as error:
        raise PalError(
            f"{name} cannot be read as {encoding} ({error}); save it as UTF-8", file=name
        ) from None


def _encoding(head: bytes) -> str:
    """The encoding of a text by its byte order mark, its zero bytes, and whether it is valid UTF-8."""
    for mark, name in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if head.startswith(mark):
            return name
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if head[offset::2].count(0) > len(head) // 5:
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _decoded(head: bytes, encoding: str, name: str) -> str:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError as error:
        got = f"the byte 0x{head[error.start]:02x}"
        raise PalError(
            f"{name} must be a table: CSV, JSON, JSONL, Parquet, Arrow or Excel, got {got}, which is no "
            "text; save it as UTF-8", file=name,
        ) from None  # fmt: skip


def _utf8(path: Path, name: str, encoding: str) -> bytes:
    data = path.read_bytes()
    if encoding == "utf-8":
        return data
    try:
        return data.decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise PalError(
            f"{name} cannot be read as {encoding} ({error}); save it as UTF-8", file=name
        ) from None


def _separator(head: str, name: str) -> str:
    """The separator by which the first rows have most columns, all of them as many as the header."""
    best, most = ",", 1
    for separator in SEPARATORS:
        rows: list[list[str]] = []
        with suppress(csv.Error):
            rows = [
                row
                for row in islice(csv.reader(io.StringIO(head, newline=""), delimiter=separator), 200)
                if row
            ]
        width = len(rows[0]) if rows else 0
        rows = rows[:-1] or rows  # the last may be cut off
        even = sum(len(row) == width for row in rows)
        if width > most and even >= (1 - MOST_FAULTY) * len(rows):
            best, most = separator, width
    return best


def _csv(
    path: Path, name: str, separator: str, encoding: str, head: str, faults: list[tuple[int, str]]
) -> pl.DataFrame:
    header = next((row for row in csv.reader(io.StringIO(head, newline=""), delimiter=separator) if row), [])

    def skip(row: Any) -> str:
        problem = f"must have {row.expected_columns} values, one per column, got {row.actual_columns}"
        advice = "put quotes around a value that holds a separator or a line break"
        faults.append((row.number - 1, f"{problem}; {advice}"))
        return "skip"

    # A block at a time, so that beside what it becomes little else lies in memory.
    with pa_csv.open_csv(
        path,
        # With threads rows that are malformed have no numbers.
        read_options=pa_csv.ReadOptions(
            use_threads=False, block_size=BLOCK, encoding=encoding.removesuffix("-sig")
        ),
        parse_options=pa_csv.ParseOptions(
            delimiter=separator, newlines_in_values=True, invalid_row_handler=skip
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.large_string()), strings_can_be_null=False
        ),
    ) as reader:  # fmt: skip
        frames = [_texts(pa.Table.from_batches([block])) for block in reader]
        frame = pl.concat(frames) if frames else _texts(reader.schema.empty_table())
    pa.default_memory_pool().release_unused()
    if len(frame):
        last = str(frame[-1, -1] or "")
        if last.endswith(("\n", "\r")) or (last.count("\n") > 1 and separator in last):
            number = len(frame) + len(faults)
            problem = "has a quote that is not closed; double each quote within quotes"
            raise PalError(f"row {number:,} of {name} {problem}", file=name, row=number, problem=problem)
    return frame


def _is_lines(text: str) -> bool:
    """Whether the first of several lines is a JSON object by itself."""
    first, _, rest = text.lstrip().partition("\n")
    try:
        return isinstance(json.loads(first), dict) and bool(rest.strip())
    except (ValueError, RecursionError):
        return False


def _whole_json(data: bytes, name: str) -> pl.DataFrame | None:
    """A JSON list of objects, or an object of columns, or one that holds such a list."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        if data.lstrip()[:1] == b"{":
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
    return _frame_of(iter(value), name)


def _json_lines(data: bytes, name: str, faults: list[tuple[int, str]]) -> pl.DataFrame:
    reader = TableReader(
        io.BytesIO(data), name, "jsonl", lambda row, _, problem: faults.append((row, problem))
    )
    return _frame_of((row.cells for row in reader), name)


def _frame_of(rows: Iterator[dict[str, Any]], file: str = "rows") -> pl.DataFrame:
    """Objects as a frame of texts, a chunk at a time to save memory."""
    frames: list[pl.DataFrame] = []
    while chunk := list(islice(rows, CHUNK)):
        names = dict.fromkeys(name for row in chunk for name in row)
        cells = {name: [as_text(row.get(name)) for row in chunk] for name in names}
        try:
            frames.append(pl.DataFrame(cells, schema=dict.fromkeys(names, pl.String)))
        except UnicodeEncodeError:
            _refuse_halves(cells, sum(map(len, frames)), file)
    return pl.concat(frames, how="diagonal") if frames else pl.DataFrame()


def _refuse_halves(cells: dict[str, list[str | None]], before: int, file: str) -> None:
    """Say which cell holds half of a surrogate pair, which is no character, and which JSON can write."""
    for name, column in cells.items():
        for at, cell in enumerate(column):
            if cell and any("\ud800" <= each <= "\udfff" for each in cell):
                number, problem = before + at + 1, f"must be valid Unicode, got {shorten(cell)}"
                raise PalError(
                    f"{name} in {row_place(file, number, None)} {problem}; it holds half of a surrogate pair",
                    file=file, row=number, column=name, problem=problem,
                )  # fmt: skip
