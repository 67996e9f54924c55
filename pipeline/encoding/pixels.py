"""Images: their bytes from where they lie, in order and never all at once, and their filtered pixels."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pal.errors import PalError
from pipeline.errors import PipelineError
from pipeline.storage import raw

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from torch import Tensor

PLACE = ["file", "row_group", "row", "column", "filter"]
ROWS_AT_ONCE = 64  # rows of a Parquet file in memory at a time, each with a picture or two
LARGEST_FILE = 1 << 28  # bytes of a picture's file


@dataclass(frozen=True)
class Picture:
    """One image item.

    Args:
        at: Its row in the frame of items.
        filter: The colour filter that its pixels get; None for none.
        data: Its bytes; None where there are none.
        fault: Why there are none.
    """

    at: int
    filter: str | None
    data: bytes | None
    fault: str = ""


def in_order(items: "pl.DataFrame") -> "pl.DataFrame":
    """Image items in the order in which their bytes are best read."""
    import polars as pl

    return items.with_columns(pl.col("file", "column", "filter").cast(pl.String)).sort(PLACE)


def read(items: "pl.DataFrame", dataset: str) -> Iterator[Picture]:
    """The bytes of image items, in the order of the frame, which should be that of `in_order`.

    Raises:
        PipelineError: If a raw file is missing or damaged.
    """
    files = {file.sha256: file for file in raw.read_manifest(dataset).files}
    places = items.select("file", "row_group", "row", "column", "filter").with_row_index("at")
    for (sha256,), part in places.group_by(["file"], maintain_order=True):
        if sha256 not in files:
            raise PipelineError(
                f"an image of {dataset} lies in a raw file {sha256} that download@{dataset} does not list; "
                f"run `dvc repro prepare@{dataset}`"
            )
        path = raw.stored(files[sha256], dataset)
        yield from _of_file(part, path, f"{files[sha256].name} of {dataset}")


def pixels(picture: Picture) -> "Tensor":
    """Decode a picture and put its filter over it: (3, height, width) uint8.

    Raises:
        PalError: With the reason, if it is no picture.
    """
    from pal.encoders import pictures
    from pipeline.encoding import colour

    if picture.data is None:
        raise PalError(picture.fault)
    found = pictures.read(picture.data)
    return colour.apply(found, picture.filter) if picture.filter else found


def thumbnails(items: "pl.DataFrame", dataset: str, size: int) -> dict[str, bytes]:
    """Small JPEGs of image items, by item id; one that cannot be decoded is left out."""
    from PIL import Image

    ordered = in_order(items)
    ids = ordered["item_id"].to_list()
    found = {}
    for picture in read(ordered, dataset):
        try:
            shown = pixels(picture)
        except PipelineError:  # the raw file or the filter is wrong, not the image
            raise
        except PalError:
            continue
        image = Image.fromarray(shown.permute(1, 2, 0).contiguous().numpy())
        image.thumbnail((size, size))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=80)
        found[ids[picture.at]] = out.getvalue()
    return found


def _of_file(part: "pl.DataFrame", path: Path, name: str) -> Iterator[Picture]:
    if part["row_group"].is_null().all():
        large = path.stat().st_size > LARGEST_FILE
        data = None if large else path.read_bytes()
        for at, filtered in part.select("at", "filter").iter_rows():
            yield Picture(at, filtered, data, f"larger than {LARGEST_FILE >> 20} MiB" if large else "")
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for (group,), rows in part.group_by(["row_group"], maintain_order=True):
                yield from _of_row_group(file, group, rows)
    except (pa.ArrowException, OSError, KeyError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())[:120]
        raise PipelineError(f"{name} is damaged or has not the images that it had ({reason})") from None


def _of_row_group(file: "pa.parquet.ParquetFile", group: int, rows: "pl.DataFrame") -> Iterator[Picture]:
    """Pictures of one row group, some rows at a time, columns that hold no wanted picture left unread."""
    wanted = rows.select("at", "row", "column", "filter").iter_rows()
    ahead = next(wanted, None)
    start = 0
    columns = sorted(rows["column"].unique())
    for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns):
        while ahead is not None and ahead[1] < start + len(batch):
            at, row, column, filtered = ahead
            data = batch.column(column)[row - start].as_py()
            if not isinstance(data, bytes | None):
                raise ValueError(f"column {column} holds no bytes but {type(data).__name__}")
            yield Picture(at, filtered, data, "" if data else "it has no bytes")
            ahead = next(wanted, None)
        start += len(batch)
    if ahead is not None:
        raise IndexError(f"row group {group} ends before row {ahead[1]}")
