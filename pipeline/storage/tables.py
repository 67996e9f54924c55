"""The tables that stages hand to each other: column names and types are spelled here and nowhere else.

items       one row per distinct prompt or response, however many pairs name it
pairs       one row per comparison
splits      one row per pair: where it belongs
embeddings  one row per item: its vector, in Parquet shards
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pal.encoders.vector_store import Embedder, first_places, read_shard
from pal.encoders.vector_store import image_id as image_id
from pal.encoders.vector_store import item_id as item_id
from pal.encoders.vector_store import text_id as text_id
from pal.errors import PalError
from pal.files import new_file
from pipeline import PipelineError
from pipeline.storage import manifests

ITEMS, PAIRS, SPLITS = "items.parquet", "pairs.parquet", "splits.parquet"
SHARDS = "shard-*.parquet"

MODALITIES = ("text", "image", "vector")
USERS = ("seen", "unseen")
SIDES = ("chosen", "rejected")  # of a pair: columns of items
SPLIT_NAMES = ("train", "adapt", "val", "test")
NAME = pa.dictionary(pa.int32(), pa.string())  # few names, many rows
BLOCK_ROWS = 1 << 20  # rows of a Parquet row group, which is what stages read and write at a time


# item_id is a 128-bit content hash in hex; what else is filled depends on the modality: of texts text, of
# vectors vector. An image has the sha256 of the raw file that holds its bytes; where that is a Parquet file
# also row_group, the row in it and the column; and a filter, which its pixels get when they are decoded.
ITEMS_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("modality", NAME, nullable=False),
        pa.field("text", pa.string()),
        pa.field("vector", pa.list_(pa.float32())),
        pa.field("file", NAME),
        pa.field("row_group", pa.int32()),
        pa.field("row", pa.int32()),
        pa.field("column", NAME),
        pa.field("filter", NAME),
    ]
)
# One comparison a row; dictionary columns keep sixty million rows within a few GB. label is P(chosen is
# preferred). group is the true group where data are semi-synthetic. users and split are filled where the
# source itself says where a pair belongs; the stage split decides where they are null. test names the test
# set where a dataset has several. filtered is winner or loser where that response has a colour filter. weight
# is how much a comparison counts in training, 1 where null. time is when the user answered.
PAIRS_SCHEMA = pa.schema(
    [
        pa.field("pair_id", pa.int64(), nullable=False),
        pa.field("user_id", NAME, nullable=False),
        pa.field("prompt", NAME),
        pa.field("chosen", NAME, nullable=False),
        pa.field("rejected", NAME, nullable=False),
        pa.field("label", pa.float32(), nullable=False),
        *[pa.field(name, NAME) for name in ("group", "users", "split", "test", "filtered")],
        pa.field("weight", pa.float32()),
        pa.field("time", pa.timestamp("us")),
    ]
)
# users: seen or unseen. split: train, val, test, for unseen users adapt, val, test. items says whether the
# pair's prompt (without prompts: either response) occurs in training: known or new.
SPLITS_SCHEMA = pa.schema(
    [
        pa.field("pair_id", pa.int64(), nullable=False),
        *[pa.field(name, NAME, nullable=False) for name in ("users", "split", "items")],
    ]
)
SCHEMAS = {ITEMS: ITEMS_SCHEMA, PAIRS: PAIRS_SCHEMA, SPLITS: SPLITS_SCHEMA}


def write_table(path: Path, table: pl.DataFrame | pa.Table | Iterable[pl.DataFrame | pa.Table]) -> None:
    """Write a table as Parquet in the schema of its file's name, all or nothing; absent columns are null.

    Args:
        path: A file named ITEMS, PAIRS or SPLITS.
        table: The table, or its blocks of rows, of which one at a time lies in memory. A dictionary's names
            are written once a block: a block should bring those that it uses, not all there are.
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
    """Read a table that a stage wrote.

    Raises:
        PipelineError: If it is missing or damaged; `made_by` names the stage to run again.
    """
    manifests.check(path, made_by)
    return pl.DataFrame(_read(path, made_by, columns))


def _read(path: Path, made_by: str, columns: list[str] | None) -> pa.Table:
    """The same as Arrow has it, names as dictionaries, without a look at the manifest."""
    try:
        # Fully validated: on damaged files polars' own reader panics, which is no Exception.
        table = pq.read_table(path, columns=columns, memory_map=False, partitioning=None)
        table.validate(full=True)
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; run `dvc repro {made_by}`") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise PipelineError(f"{path} is damaged ({reason}); run `dvc repro -f {made_by}`") from None
    return table


@dataclass(frozen=True)
class Coded:
    """Columns of a table as arrays: sixty million rows in a GB.

    Args:
        columns: One array per column; of names their codes, in as few bytes as hold them, -1 for null.
        names: For each column of names those that the codes stand for; some may not occur.
    """

    columns: dict[str, np.ndarray]
    names: dict[str, list[str]]

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def rows(self, at: np.ndarray | slice) -> "Coded":
        """Some of the rows; all of them are not copied."""
        return Coded({name: values[at] for name, values in self.columns.items()}, self.names)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def read_coded(path: Path, made_by: str, columns: list[str]) -> Coded:
    """Read columns of a table that a stage wrote as codes, one after the other, which bounds memory.

    Raises:
        PipelineError: If it is missing or damaged; `made_by` names the stage to run again.
    """
    manifests.check(path, made_by)
    sides = [name for name in columns if name in SIDES]
    parts = [sides, *([name] for name in columns if name not in SIDES)]
    each = [coded(_read(path, made_by, part)) for part in parts if part]
    columns_read = {name: array for part in each for name, array in part.columns.items()}
    return Coded(columns_read, {name: names for part in each for name, names in part.names.items()})


def coded(table: pa.Table) -> Coded:
    """A table's columns as codes; chosen and rejected share their names. A null number is 1."""
    arrays, names = {}, {}
    sides = [name for name in table.column_names if name in SIDES]
    if sides:
        both = pa.chunked_array(
            [chunk for name in sides for chunk in table[name].chunks], table[sides[0]].type
        )
        joined, names_of_both = codes(both)
        arrays |= dict(zip(sides, np.split(joined, len(sides)), strict=True))
        names |= dict.fromkeys(sides, names_of_both)
    for name in table.column_names:
        if name in sides:
            continue
        if pa.types.is_dictionary(table[name].type):
            arrays[name], names[name] = codes(table[name])
        else:
            values = table[name].fill_null(1).to_numpy()
            # A column of ones alone takes no memory.
            arrays[name] = np.broadcast_to(values[:1], values.shape) if (values == 1).all() else values
    return Coded(arrays, names)


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
    """Codes as words, a byte or two each.

    Args:
        codes: Each row's name; -1 is null.
        names: What the codes stand for.
        known: Words that may be asked for though no row has them.
    """
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


def read_shards(folder: Path, made_by: str) -> tuple[np.ndarray, np.ndarray, Embedder]:
    """Read all shards of a folder, in the order of their names, checked against the manifest above it.

    Raises:
        PipelineError: If there are none, or one is damaged; `made_by` names the stage to run again.
    """
    manifests.check_folder(folder, SHARDS, made_by)
    paths = sorted(folder.glob(SHARDS))
    if not paths:
        raise PipelineError(f"{folder} holds no embeddings; run `dvc repro {made_by}`")
    try:
        shards = [read_shard(path) for path in paths]
    except PalError as error:
        raise PipelineError(f"{error}; run `dvc repro -f {made_by}`") from None
    if len(shards) == 1:
        return shards[0]
    ids, vectors, embedders = zip(*shards, strict=True)
    return np.concatenate(ids), np.concatenate(vectors), embedders[0]
