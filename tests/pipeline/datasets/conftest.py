"""Small files of Pick-a-Pic's exact 19-column schema, a comparison a row."""

import hashlib
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.datasets import pickapic
from pipeline.storage import tables


class Shards:
    """A folder of such files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.n = 0

    def row(self, user=1, prompt="a dog", label=1.0, images=None, **changes):
        """One comparison; pictures of its own unless two are named."""
        self.n += 1
        uids = images or (f"{self.n}a", f"{self.n}b")
        return {
            "are_different": True, "best_image_uid": "", "caption": prompt, "has_label": True,
            "created_at": datetime(2023, 1, 1) + timedelta(minutes=self.n),
            "image_0_uid": uids[0], "image_0_url": "", "image_1_uid": uids[1], "image_1_url": "",
            "jpg_0": f"bytes of {uids[0]}".encode(), "jpg_1": f"bytes of {uids[1]}".encode(),
            "label_0": label, "label_1": None if label is None else 1 - label, "model_0": "m", "model_1": "m",
            "ranking_id": self.n, "user_id": user, "num_example_per_prompt": 1, "__index_level_0__": self.n,
            **changes,
        }  # fmt: skip

    def write(self, name, rows, row_group_size=None, without=(), cast=None):
        """A file of these rows; some columns left out, or of another type."""
        table = pa.Table.from_pylist(rows, schema=pickapic.schema()).drop_columns(list(without))
        for column, kind in (cast or {}).items():
            place = table.schema.get_field_index(column)
            table = table.set_column(place, column, table[column].cast(kind))
        path = self.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        pq.write_table(table, path, row_group_size=row_group_size)
        return path

    def files(self, prefix=""):
        """The files as prepare is given them: by name, at paths that end in their sha256."""
        found = {}
        for path in sorted(self.folder.glob("*.parquet")):
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            home = self.folder / "store" / sha256
            home.parent.mkdir(exist_ok=True)
            if not home.exists():
                home.symlink_to(path)
            found[f"{prefix}{path.name}"] = home
        return found


@pytest.fixture
def shards(tmp_path):
    """An empty folder for files of Pick-a-Pic's format."""
    return Shards(tmp_path / "shards")


@pytest.fixture
def more_shards(tmp_path):
    return Shards(tmp_path / "more")


@pytest.fixture
def read_pairs():
    """Reads what prepare wrote: pairs with prompts as text and pictures as the bytes' uids, and the items."""

    def read(out, raw=None):
        items, pairs = (tables.read_table(out / name, "") for name in (tables.ITEMS, tables.PAIRS))
        names = pl.col(
            "user_id", "prompt", "chosen", "rejected", "group", "users", "split", "test", "filtered"
        )
        pairs = pairs.with_columns(names.cast(pl.String))
        texts = items.filter(pl.col("modality") == "text")
        pairs = pairs.with_columns(pl.col("prompt").replace_strict(texts["item_id"], texts["text"]))
        if raw is None:
            return pairs, items
        shown = {row["item_id"]: _bytes_at(raw, row) for row in items.iter_rows(named=True) if row["file"]}
        return pairs.with_columns(pl.col("chosen", "rejected").replace_strict(shown)), items

    return read


def _bytes_at(raw, row):
    path = next(path for path in raw.values() if path.name == row["file"])
    with pq.ParquetFile(path) as file:
        found = file.read_row_group(row["row_group"], columns=[row["column"]])[row["column"]][row["row"]]
    return found.as_py().decode().removeprefix("bytes of ")
