"""The tables that stages hand to each other: column names and types are spelled here and nowhere else.

items       one row per distinct prompt or response, however many pairs name it
pairs       one row per comparison
splits      one row per pair: where it belongs
embeddings  one row per item: its vector, in Parquet shards
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import sums
from pipeline.errors import PipelineError
from pipeline.files import new_file

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa

ITEMS, PAIRS, SPLITS = "items.parquet", "pairs.parquet", "splits.parquet"

MODALITIES = ("text", "image", "vector")
USERS = ("seen", "unseen")
SPLIT_NAMES = ("train", "adapt", "val", "test")


def items_schema() -> "pa.Schema":
    """item_id is a 128-bit content hash in hex; what else is filled depends on the modality.

    text     text
    vector   vector
    image    file, the sha256 of the raw file that holds its bytes; where that is a Parquet file also the
             row_group, the row in it and the column; and filter, which the pixels get when they are decoded
    """
    import pyarrow as pa

    name = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("modality", name, nullable=False),
            pa.field("text", pa.string()),
            pa.field("vector", pa.list_(pa.float32())),
            pa.field("file", name),
            pa.field("row_group", pa.int32()),
            pa.field("row", pa.int32()),
            pa.field("column", name),
            pa.field("filter", name),
        ]
    )


def pairs_schema() -> "pa.Schema":
    """One comparison a row; dictionary columns keep sixty million rows within a few GB.

    label is P(chosen is preferred). group is the true group where data are semi-synthetic. users and split
    are filled where the source itself says where a pair belongs; split decides where they are null. test
    names the test set where a dataset has several. filtered is winner or loser where that response has a
    colour filter. weight is how much a comparison counts in training, 1 where null. time is when the user
    answered.
    """
    import pyarrow as pa

    name = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            pa.field("pair_id", pa.int64(), nullable=False),
            pa.field("user_id", name, nullable=False),
            pa.field("prompt", name),
            pa.field("chosen", name, nullable=False),
            pa.field("rejected", name, nullable=False),
            pa.field("label", pa.float32(), nullable=False),
            pa.field("group", name),
            pa.field("users", name),
            pa.field("split", name),
            pa.field("test", name),
            pa.field("filtered", name),
            pa.field("weight", pa.float32()),
            pa.field("time", pa.timestamp("us")),
        ]
    )


def splits_schema() -> "pa.Schema":
    """users: seen or unseen. split: train, val, test, for unseen users adapt, val, test.

    items says whether the pair's prompt (without prompts: either response) occurs in training: known or new.
    """
    import pyarrow as pa

    name = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            pa.field("pair_id", pa.int64(), nullable=False),
            pa.field("users", name, nullable=False),
            pa.field("split", name, nullable=False),
            pa.field("items", name, nullable=False),
        ]
    )


def item_id(modality: str, content: bytes) -> str:
    """The content hash that identifies an item, the same wherever it occurs: 32 hex digits."""
    return hashlib.sha256(modality.encode() + b"\0" + content).hexdigest()[:32]


def text_id(text: str) -> str:
    """The item id of a text."""
    return item_id("text", text.encode())


def image_id(
    file: str,
    row_group: int | None = None,
    row: int | None = None,
    column: str | None = None,
    filter: str | None = None,
) -> str:
    """The item id of an image: where its bytes lie, by content, and the filter that its pixels get.

    A file's sha256 pins its bytes, so what lies at a place in it never changes and need not be read here.
    """
    place = "|".join("" if part is None else str(part) for part in (file, row_group, row, column, filter))
    return item_id("image", place.encode())


def write_table(path: Path, frame: "pl.DataFrame | pa.Table", schema: "pa.Schema") -> None:
    """Write a frame as Parquet in the given schema, whole or not at all; absent columns are null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = frame if isinstance(frame, pa.Table) else frame.to_arrow()
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    with new_file(path) as out:
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), out, compression="zstd")


def read_arrow(path: Path, made_by: str, columns: list[str] | None = None) -> "pa.Table":
    """Read a table that a stage wrote, names as dictionaries.

    Raises:
        PipelineError: If it is missing or damaged; `made_by` names the stage to run again.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sums.check(path, made_by)
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


def read_table(path: Path, made_by: str, columns: list[str] | None = None) -> "pl.DataFrame":
    """The same as a polars frame."""
    import polars as pl

    return pl.DataFrame(read_arrow(path, made_by, columns))


def codes(column: "pa.ChunkedArray") -> tuple["np.ndarray", list[str]]:
    """A dictionary column as whole numbers and the names that they stand for: -1 is null."""
    import numpy as np

    array = column.unify_dictionaries().combine_chunks()
    if not len(array):
        return np.empty(0, np.int32), []
    return array.indices.fill_null(-1).to_numpy(zero_copy_only=False), array.dictionary.to_pylist()


def text_items(texts: list[str]) -> "pl.DataFrame":
    """The items table of distinct texts, ordered by id."""
    import polars as pl

    rows: dict[str, Any] = {text_id(text): text for text in texts}
    ids = sorted(rows)
    return pl.DataFrame(
        {"item_id": ids, "modality": ["text"] * len(ids), "text": [rows[i] for i in ids]},
        schema={"item_id": pl.String, "modality": pl.String, "text": pl.String},
    )
