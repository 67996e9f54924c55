"""The format of Pick-a-Pic, v1 and v2: Parquet files with a comparison a row and both pictures' bytes in it.

The files are 200 to 335 GB, nearly all of it pixels. Here only footers and the narrow columns are read, row
group by row group; a picture is known by where its bytes first occur, and is read when it is encoded.
"""

import re
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from pal.logs.tables import readable_parquet
from pipeline import PipelineError, paths
from pipeline.datasets.base import HubFiles, Remote, Source

SPLITS = ("train", "validation", "test", "validation_unique", "test_unique")
LEFT_OUT = "validation_unique"
NAME = re.compile(rf"(?:.*/)?({'|'.join(SPLITS)})-[^/]*\.parquet")
JPEGS = ("jpg_0", "jpg_1")
# What is read: the file's column, its name here, and the type that it is read as.
COLUMNS = {
    "caption": ("prompt", pa.large_string()),
    "image_0_uid": ("uid_0", pa.large_string()),
    "image_1_uid": ("uid_1", pa.large_string()),
    "label_0": ("label", pa.float64()),
    "has_label": ("has_label", pa.bool_()),
    "user_id": ("user_id", pa.int64()),
    "ranking_id": ("ranking_id", pa.int64()),
    "num_example_per_prompt": ("per_prompt", pa.int64()),
    "created_at": ("time", pa.timestamp("us")),
}


def schema() -> pa.Schema:
    """The 19 columns of the hub's files."""
    text, pixels, number = pa.string(), pa.binary(), pa.float64()
    return pa.schema(
        {
            "are_different": pa.bool_(),
            "best_image_uid": text,
            "caption": text,
            "created_at": pa.timestamp("ns"),
            "has_label": pa.bool_(),
            "image_0_uid": text,
            "image_0_url": text,
            "image_1_uid": text,
            "image_1_url": text,
            "jpg_0": pixels,
            "jpg_1": pixels,
            "label_0": number,
            "label_1": number,
            "model_0": text,
            "model_1": text,
            "ranking_id": pa.int64(),
            "user_id": pa.int64(),
            "num_example_per_prompt": pa.int64(),
            "__index_level_0__": pa.int64(),
        }
    )


def split_of(name: str) -> str | None:
    """The split that a file belongs to by its name, None where it says none."""
    match = NAME.fullmatch(name)
    return match[1] if match else None


def in_order(name: str) -> tuple[int, str]:
    """Sorts files by split, then by name: the order in which pictures first occur."""
    return SPLITS.index(split_of(name) or ""), name


def check(files: dict[str, Path], *, pixels: bool) -> None:
    """Check the format of files by their footers alone; with `pixels` they must have pictures.

    Raises:
        PipelineError: Naming the first file and column that is not as it must be.
    """
    for name, path in files.items():
        with readable_parquet(name), pq.ParquetFile(path) as file:
            _check_schema(name, file.schema_arrow, pixels=pixels)


def read(files: dict[str, Path], *, pixels: bool = True) -> pl.DataFrame:
    """Read all rows of the files, narrow columns alone, in the order in which pictures first occur.

    Returns:
        split, file (sha256), row_group, row (within it), prompt, uid_0, uid_1, label (1: picture 0 wins),
        has_label, user_id, ranking_id, per_prompt, time.

    Raises:
        PipelineError: If a file is damaged or not in the format.
    """
    ordered = {name: files[name] for name in sorted(files, key=in_order)}
    blocks = []
    with tqdm(total=count(ordered, "num_row_groups"), desc="prepare", unit="row group") as bar:
        for name, path in ordered.items():
            with readable_parquet(name), pq.ParquetFile(path) as file:
                _check_schema(name, file.schema_arrow, pixels=pixels)
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=list(COLUMNS))
                    table.validate(full=True)
                    # Nothing else of a schema that may be damaged reaches polars. Times become UTC.
                    narrow = {
                        ours: table.column(theirs).cast(kind, safe=kind != pa.timestamp("us"))
                        for theirs, (ours, kind) in COLUMNS.items()
                    }
                    place = {
                        "split": pl.lit(split_of(name)),
                        "file": pl.lit(path.name),
                        "row_group": pl.lit(group, pl.Int32),
                        "row": pl.int_range(pl.len(), dtype=pl.Int32),
                    }
                    frame = pl.DataFrame(pa.table(narrow)).with_columns(**place)
                    blocks.append(frame.select(*place, *narrow))
                    bar.update()
    if not any(map(len, blocks)):
        raise PipelineError("Pick-a-Pic's files must hold comparisons, got not one row")
    names = pl.Enum([path.name for path in dict.fromkeys(ordered.values())])
    return pl.concat(blocks).with_columns(pl.col("file").cast(names), pl.col("split").cast(pl.Enum(SPLITS)))


def count(files: dict[str, Path], unit: str = "num_rows") -> int:
    """Count the rows or the row groups of files, by their footers."""
    total = 0
    for name, path in files.items():
        with readable_parquet(name), pq.ParquetFile(path) as file:
            total += getattr(file.metadata, unit)
    return total


def _check_schema(name: str, schema: pa.Schema, *, pixels: bool) -> None:
    for column in (*COLUMNS, *(JPEGS if pixels else ())):
        if column not in schema.names:
            hint = "; are these the tables without images?" if column in JPEGS else ""
            raise PipelineError(f"{name} must have a column {column}, as Pick-a-Pic has, got none{hint}")


HUB_FILES = ("train", "validation", "test", "test_unique")


def from_hub(hub: HubFiles, splits: tuple[str, ...] = HUB_FILES, prefix: str = "") -> Remote:
    """The files of these splits in a repository on the hub."""
    return Remote(hub.repo, hub.revision, [f"data/{split}-*.parquet" for split in splits], prefix=prefix)


def from_folder(
    source: str, what: str, splits: tuple[str, ...] = SPLITS, prefix: str = ""
) -> dict[str, Path]:
    """The files of these splits in a folder, or in the `data` in it, by name.

    `source` is its path as the parameter `what` has it. `prefix` goes before each name.

    Raises:
        PipelineError: If there is no such folder, no such file, a file that no split claims, or a name twice.
    """
    folder = paths.project_root() / Path(source).expanduser()
    if not folder.is_dir():
        raise PipelineError(
            f"{what} must be an existing folder of Pick-a-Pic's Parquet files, got {source!r}, "
            f"looked for at {folder}"
        )
    files: dict[str, Path] = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]):
        split = split_of(path.name)
        if split is None:
            raise PipelineError(
                f"{what} must hold files named {'-*, '.join(SPLITS)}-*.parquet, got {path.name!r} "
                f"in {source!r}; rename it or move it away"
            )
        if path.name in files:
            raise PipelineError(f"{what} must hold each file once, got {path.name!r} twice in {source!r}")
        if split in splits:
            files[path.name] = path
    if not files:
        raise PipelineError(
            f"{what} must hold Parquet files named {'-*, '.join(splits)}-*.parquet, got {source!r}, "
            "which has none"
        )
    return {f"{prefix}{name}": files[name] for name in sorted(files, key=in_order)}


def find(source: str, what: str, remote: Remote, about: str) -> Source:
    """What a source of Pick-a-Pic names now: `hub`, or a FOLDER whose footers are checked at once."""
    if source == "hub":
        return Source(f"{about} from the hub: {remote.repo} at {remote.revision}", remotes=[remote])
    links = from_folder(source, what)
    return Source(f"{about} from {source}", links=links, check=partial(check, links, pixels=True))
