"""Pictures: read where their bytes lie, decoded with their colour filter, and as thumbnails.

A colour filter is a short text that stands in the items table and goes into the item's id: `mix #1f5fff 0.35`
goes so far towards the colour. It acts in linear light, through a table of 256 entries a channel, so that the
same filter gives the same bytes everywhere.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl
import pyarrow.parquet as pq

from pal.errors import PalError
from pipeline.storage import raw_files

if TYPE_CHECKING:
    from torch import Tensor

PLACE = ["file", "row_group", "row", "column", "filter"]
ROWS_AT_ONCE = 64  # rows of a Parquet file in memory at a time, each with a picture or two
LARGEST_FILE = 1 << 28  # bytes of a picture's file


class Picture(NamedTuple):
    """One image item, by its row in the frame of items."""

    row: int
    filter: str | None  # the colour filter that its pixels get
    data: bytes | None
    fault: str = ""  # why there are no bytes


def in_reading_order(items: pl.DataFrame) -> pl.DataFrame:
    """Image items in the order in which their bytes are best read."""
    return items.with_columns(pl.col("file", "column", "filter").cast(pl.String)).sort(PLACE)


def read_pictures(items: pl.DataFrame, dataset: str) -> Iterator[Picture]:
    """The bytes of image items, in the order of the frame, which should be that of `in_reading_order`."""
    files = {file.sha256: file for file in raw_files.read_manifest(dataset).files}
    places = items.select(PLACE).with_row_index("item")
    for (sha256,), of_file in places.group_by(["file"], maintain_order=True):
        path = raw_files.stored(files[sha256], dataset)
        if of_file["row_group"].is_null().all():
            large = path.stat().st_size > LARGEST_FILE
            data = None if large else path.read_bytes()
            for row, filtered in of_file.select("item", "filter").iter_rows():
                yield Picture(row, filtered, data, f"larger than {LARGEST_FILE >> 20} MiB" if large else "")
        else:
            yield from _from_parquet(of_file, path)


def _from_parquet(items: pl.DataFrame, path: Path) -> Iterator[Picture]:
    """Pictures of a Parquet file, some rows at a time; only columns that hold a wanted picture are read."""
    with pq.ParquetFile(path) as file:
        for (group,), of_group in items.group_by(["row_group"], maintain_order=True):
            wanted = deque(of_group.select("item", "row", "column", "filter").iter_rows())
            columns, start = sorted(of_group["column"].unique()), 0
            for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns):
                while wanted and wanted[0][1] < start + len(batch):
                    item, row, column, filtered = wanted.popleft()
                    data = batch.column(column)[row - start].as_py()
                    bad = not (data and isinstance(data, bytes))
                    yield Picture(item, filtered, None if bad else data, "it has no bytes" * bad)
                start += len(batch)


def decoded(picture: Picture) -> "Tensor":
    """A picture's pixels with its filter over them: (3, height, width) uint8; PalError if it is none."""
    from pal.encoders import images

    if picture.data is None:
        raise PalError(picture.fault)
    pixels = images.read(picture.data)
    return apply_filter(pixels, picture.filter) if picture.filter else pixels


def thumbnails(items: pl.DataFrame, dataset: str, size: int) -> dict[str, bytes]:
    """Small JPEGs of image items, by item id; one that cannot be decoded is left out."""
    from pal.encoders.images import small_jpeg

    items = in_reading_order(items)
    ids = items["item_id"].to_list()
    jpegs = {}
    for picture in read_pictures(items, dataset):
        with suppress(PalError):
            jpegs[ids[picture.row]] = small_jpeg(decoded(picture), size)
    return jpegs


def apply_filter(pixels: "Tensor", text: str) -> "Tensor":
    """Put a filter, given by its text, over a picture: (3, height, width), uint8, sRGB."""
    return filter_tables(text).gather(1, pixels.flatten(1).long()).view_as(pixels)


@lru_cache(maxsize=64)
def filter_tables(text: str) -> "Tensor":
    """What each of the 256 values becomes, for red, green and blue: (3, 256) uint8."""
    import torch

    _, tint, share = text.split()
    strength = float(share)

    def mixed(value: int, colour: int) -> int:
        return _to_srgb((1 - strength) * _to_linear(value) + strength * _to_linear(colour))

    tables = [[mixed(value, colour) for value in range(256)] for colour in bytes.fromhex(tint[1:])]
    return torch.tensor(tables, dtype=torch.uint8)


def _to_linear(value: int) -> float:
    """The light, from 0 to 1, that an sRGB value from 0 to 255 stands for (IEC 61966-2-1)."""
    share = value / 255
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


def _to_srgb(light: float) -> int:
    share = light * 12.92 if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    return min(255, max(0, int(share * 255 + 0.5)))
