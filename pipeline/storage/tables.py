"""What stages hand to each other: tables, JSON, and in each folder a manifest with the sha256 of every file.

Whoever reads a file checks it against the manifest of its folder. Parquet's footer and pages carry no
checksum that covers everything, and JSON none at all; without this a flipped bit could become another number.
What is missing or damaged is a PipelineError that names the stage to run again (`made_by`).

    {"counts": {"read": 10, "kept": 9, "dropped": 1},
     "files": {"pairs.parquet": {"sha256": "9f86d0…", "size": 1234}, ...}}
"""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pal.encoders.vector_store import Embedder, first_places, read_shard
from pal.encoders.vector_store import image_id as image_id
from pal.encoders.vector_store import item_id as item_id
from pal.encoders.vector_store import text_id as text_id
from pal.errors import PalError
from pal.files import new_file, sha256_of, write_json
from pipeline import PipelineError

MANIFEST = "manifest.json"
ITEMS, PAIRS, SPLITS = "items.parquet", "pairs.parquet", "splits.parquet"
SHARDS = "shard-*.parquet"

MODALITIES = ("text", "image", "vector")
USERS = ("seen", "unseen")
SIDES = ("chosen", "rejected")  # of a pair: columns of items
SPLIT_NAMES = ("train", "adapt", "val", "test")
Shard = tuple[np.ndarray, np.ndarray, Embedder]  # item ids, their vectors, and what made them
NAME = pa.dictionary(pa.int32(), pa.string())  # few names, many rows
BLOCK_ROWS = 1 << 20  # rows of a Parquet row group, which is what stages read and write at a time


def _schema(columns: dict[str, pa.DataType], never_null: Iterable[str]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, name not in never_null) for name, kind in columns.items()])


# One distinct prompt or response a row. item_id is a 128-bit content hash in hex; what else is filled depends
# on the modality: of texts text, of vectors vector. An image has the sha256 of the raw file that holds its
# bytes; where that is a Parquet file also row_group, the row in it and the column; and a filter, which its
# pixels get when they are decoded.
ITEMS_SCHEMA = _schema(
    {
        "item_id": pa.string(), "modality": NAME, "text": pa.string(), "vector": pa.list_(pa.float32()),
        "file": NAME, "row_group": pa.int32(), "row": pa.int32(), "column": NAME, "filter": NAME,
    },
    never_null=("item_id", "modality"),
)  # fmt: skip
# One comparison a row; dictionary columns keep sixty million rows within a few GB. label is P(chosen is
# preferred). group is the true group where data are semi-synthetic. users and split are filled where the
# source itself says where a pair belongs; the stage split decides where they are null. test names the test
# set where a dataset has several. filtered is winner or loser where that response has a colour filter. weight
# is how much a comparison counts in training, 1 where null. time is when the user answered.
PAIRS_SCHEMA = _schema(
    {
        "pair_id": pa.int64(), "user_id": NAME, "prompt": NAME, "chosen": NAME, "rejected": NAME,
        "label": pa.float32(), **dict.fromkeys(("group", "users", "split", "test", "filtered"), NAME),
        "weight": pa.float32(), "time": pa.timestamp("us"),
    },
    never_null=("pair_id", "user_id", "chosen", "rejected", "label"),
)  # fmt: skip
# users: seen or unseen. split: train, val, test, for unseen users adapt, val, test. items says whether the
# pair's prompt (without prompts: either response) occurs in training: known or new.
SPLIT_COLUMNS = {"pair_id": pa.int64(), "users": NAME, "split": NAME, "items": NAME}
SCHEMAS = {ITEMS: ITEMS_SCHEMA, PAIRS: PAIRS_SCHEMA, SPLITS: _schema(SPLIT_COLUMNS, SPLIT_COLUMNS)}


def write_manifest(folder: Path, **contents: Any) -> None:
    """Write a folder's manifest, after all its other files; `counts` are read, kept, dropped, and others."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        hashes = pool.map(sha256_of, paths)
    files = {
        path.relative_to(folder).as_posix(): {"sha256": sha256, "size": path.stat().st_size}
        for path, sha256 in zip(paths, hashes, strict=True)
    }
    write_json(folder / MANIFEST, {**contents, "files": files})


def recorded_hashes(manifest: Path, made_by: str = "") -> dict[str, str]:
    """The sha256 that a manifest gives each file, by the file's path relative to it."""
    try:
        return {name: str(file["sha256"]) for name, file in _load(manifest, made_by)["files"].items()}
    except (LookupError, TypeError, AttributeError) as error:
        raise _damaged(manifest, error, made_by) from None


def check(path: Path, made_by: str) -> None:
    """Compare a file's sha256 with the manifest in its folder or the one above; without one, do nothing."""
    folder = next((parent for parent in path.parents[:2] if (parent / MANIFEST).exists()), None)
    if folder is None or path == folder / MANIFEST:
        return
    wanted = recorded_hashes(folder / MANIFEST, made_by).get(path.relative_to(folder).as_posix())
    if not path.exists():
        raise _missing(path, made_by)
    if wanted is None:
        raise _damaged(path, f"{folder / MANIFEST} has no file of its name", made_by)
    # The bytes are read, whatever size and time say: a failing disk leaves both as they were.
    if sha256_of(path) != wanted:
        raise _damaged(path, f"its hash is not that in {folder / MANIFEST}", made_by)


def read_json(path: Path, made_by: str, absent: Any = None) -> Any:
    """Read JSON that a stage wrote, checked against its folder's manifest; `absent` stands for no file."""
    if absent is not None and not path.exists():
        return absent
    check(path, made_by)
    return _load(path, made_by)


def _load(path: Path, made_by: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _missing(path, made_by) from None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error, made_by) from None


def _missing(path: Path, made_by: str) -> PipelineError:
    return PipelineError(f"{path} is missing; run `dvc repro {made_by}`")


def _damaged(path: Path, why: object, made_by: str) -> PipelineError:
    reason = " ".join(str(why).split())[:120]
    return PipelineError(f"{path} is damaged ({reason}); run `dvc repro -f {made_by}`")


def write_table(path: Path, table: pl.DataFrame | pa.Table | Iterable[pl.DataFrame | pa.Table]) -> None:
    """Write a table, or its blocks of rows, as Parquet in the schema of its file's name.

    Absent columns are null. One block at a time lies in memory. A dictionary's names are written once a
    block: it should bring those that it uses, not all there are.
    """
    schema = SCHEMAS[path.name]
    with new_file(path) as out, pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for block in [table] if isinstance(table, pl.DataFrame | pa.Table) else table:
            rows = block if isinstance(block, pa.Table) else block.to_arrow()
            columns = [
                rows.column(field.name).cast(field.type)
                if field.name in rows.column_names
                else pa.nulls(len(rows), field.type)
                for field in schema
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=BLOCK_ROWS)


def read_table(path: Path, made_by: str, columns: list[str] | None = None) -> pl.DataFrame:
    """Read a table that the stage `made_by` wrote."""
    check(path, made_by)
    return pl.DataFrame(_read(path, made_by, columns))


def _read(path: Path, made_by: str, columns: list[str] | None) -> pa.Table:
    """The same as Arrow has it, names as dictionaries, without a look at the manifest."""
    try:
        # Fully validated: on damaged files polars' own reader panics, which is no Exception.
        table = pq.read_table(path, columns=columns, memory_map=False, partitioning=None)
        table.validate(full=True)
    except FileNotFoundError:
        raise _missing(path, made_by) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error, made_by) from None
    return table


@dataclass(frozen=True)
class Coded:
    """Columns of a table as arrays: sixty million rows in a GB."""

    columns: dict[str, np.ndarray]  # of names their codes, in as few bytes as hold them, -1 for null
    names: dict[str, list[str]]  # that the codes stand for, by column; some may not occur

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def rows(self, at: np.ndarray | slice) -> "Coded":
        """Some of the rows; all of them are not copied."""
        return Coded({name: values[at] for name, values in self.columns.items()}, self.names)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def read_coded(path: Path, made_by: str, columns: list[str]) -> Coded:
    """Read columns of a table that the stage `made_by` wrote as codes, one by one, which bounds memory.

    Chosen and rejected share their names. A null number is 1.
    """
    check(path, made_by)
    read = Coded({}, {})
    sides = [list(SIDES)] if SIDES[0] in columns else []
    for part in [*sides, *([name] for name in columns if name not in SIDES)]:
        table = _read(path, made_by, part)
        column = pa.chunked_array([chunk for name in part for chunk in table[name].chunks], table[0].type)
        if pa.types.is_dictionary(column.type):
            joined, names = codes(column)
            read.columns.update(zip(part, np.split(joined, len(part)), strict=True))
            read.names.update(dict.fromkeys(part, names))
        else:
            values = column.fill_null(1).to_numpy()
            # A column of ones alone takes no memory.
            ones = np.broadcast_to(values[:1], values.shape)
            read.columns[part[0]] = ones if (values == 1).all() else values
    return read


def codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """A dictionary column as whole numbers and the names that they stand for: -1 is null."""
    array = column.unify_dictionaries().combine_chunks()
    if not len(array):
        return np.empty(0, np.int8), []
    names = array.dictionary.to_pylist()
    indices = array.indices.cast("int32")  # others than ours may count without a sign, and so without -1
    code = indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return code.astype(np.min_scalar_type(-len(names) - 1)), names


def words(codes: np.ndarray, names: list[str], known: Iterable[str] = ()) -> pl.Series:
    """Codes (-1: null) as the names that they stand for; `known` are those that may be asked for anyway."""
    categories = list(dict.fromkeys([*known, *names]))
    index = {name: row for row, name in enumerate(categories)}
    row = np.array([*(index[name] for name in names), len(categories)], np.uint32)  # the last is null
    return pl.Series([*categories, None], dtype=pl.Enum(categories)).gather(row[codes])


def rows_of(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray | slice | None:
    """The row of each wanted id among `ids`: a slice where both are equal, None where one is missing."""
    if np.array_equal(ids, wanted):
        return slice(None)
    rows = first_places(ids, wanted)
    return None if (rows < 0).any() else rows


def text_items(texts: list[str]) -> pl.DataFrame:
    """The items table of distinct texts, ordered by id."""
    rows = {text_id(text): text for text in texts}
    columns = {"item_id": list(rows), "modality": ["text"] * len(rows), "text": list(rows.values())}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)).sort("item_id")


def read_shards(folder: Path, made_by: str) -> Shard:
    """All shards of a folder by their names, neither more nor fewer than the manifest above it has."""
    paths = set(folder.glob(SHARDS))
    if (manifest := folder.parent / MANIFEST).exists():
        recorded = (folder.parent / name for name in recorded_hashes(manifest, made_by))
        paths |= {path for path in recorded if path.parent == folder and path.match(SHARDS)}
    if not paths:
        raise PipelineError(f"{folder} holds no embeddings; run `dvc repro {made_by}`")
    for path in sorted(paths):
        check(path, made_by)
    try:
        shards = [read_shard(path) for path in sorted(paths)]
    except PalError as error:
        raise PipelineError(f"{error}; run `dvc repro -f {made_by}`") from None
    if len(shards) == 1:
        return shards[0]
    ids, vectors, embedders = zip(*shards, strict=True)
    return np.concatenate(ids), np.concatenate(vectors), embedders[0]
