"""Pick-a-Pic v1: comparisons of generated pictures by some 4,700 people (Kirstain et al., arXiv:2305.01569).

From the hub at a pinned revision, or from a folder of the same files: Parquet with a comparison a row and
both pictures' bytes in it, 200 GB, of version 2 335 GB, nearly all of it pixels. Here only footers and the
narrow columns are read, row group by row group; a picture is known by where its bytes first occur, and is
read when it is encoded. `pickapic_v2` and `pickafilter` use this module's functions.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from pal.config import Config, Share
from pal.files import write_json
from pal.logs.tables import readable
from pipeline import PipelineError, paths
from pipeline.datasets import base
from pipeline.storage import tables

TITLE = "Pick-a-Pic, version 1"
ABOUT = "Pick-a-Pic, version 1: people asked for a picture in words, and said which of two they preferred."
ITEMS_APART = False
SPLITS = ("train", "validation", "test", "validation_unique", "test_unique")
LEFT_OUT = "validation_unique"
HUB_FILES = ("train", "validation", "test", "test_unique")
PLACES = {"train": "train", "validation": "val", "test": "test", "test_unique": "test"}
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
    "created_at": ("time", pa.timestamp("us")),
}
# The published numbers of rows of each of SPLITS.
ROWS = {"v1": (583_747, 17_439, 14_073, 500, 500), "v2": (959_040, 20_596, 20_716, 500, 500)}


class Prepare(Config):
    """How Pick-a-Pic is read."""

    ties: Literal["drop", "keep"]
    unseen_users: Share


class Params(base.DatasetParams):
    """The section pickapic_v1 of params.yaml; `tables` are the same files without pixels."""

    hub: base.HubFiles
    tables: base.HubFiles
    prepare: Prepare


def find(params: "base.AllParams") -> base.Source:
    """The hub's files, or links to those in the folder."""
    remote = from_hub(params.pickapic_v1.hub)
    return source_of(params.pickapic_v1.source, "pickapic_v1.source", remote, "Pick-a-Pic v1")


def prepare(params: "base.AllParams", files: dict[str, Path], out: Path) -> dict[str, int]:
    """Write items and pairs, and the row counts beside the published ones."""
    options = params.pickapic_v1.prepare
    kept, images = load(files, ties=options.ties)
    rows = place(kept.rows, options.unseen_users, params.prepare.seed)
    write_notes(out, "v1", files)
    return kept.counts() | write(rows, images, out)


def schema() -> pa.Schema:
    """The 19 columns of the hub's files."""
    flag, text, number, whole = pa.bool_(), pa.string(), pa.float64(), pa.int64()
    return pa.schema(
        {
            "are_different": flag, "best_image_uid": text, "caption": text, "created_at": pa.timestamp("ns"),
            "has_label": flag,
            "image_0_uid": text, "image_0_url": text, "image_1_uid": text, "image_1_url": text,
            "jpg_0": pa.binary(), "jpg_1": pa.binary(), "label_0": number, "label_1": number, "model_0": text,
            "model_1": text, "ranking_id": whole, "user_id": whole, "num_example_per_prompt": whole,
            "__index_level_0__": whole,
        }
    )  # fmt: skip


def split_of(name: str) -> str | None:
    """The split that a file belongs to by its name, None where it says none."""
    match = NAME.fullmatch(name)
    return match[1] if match else None


def in_order(name: str) -> tuple[int, str]:
    """Sorts files by split, then by name: the order in which pictures first occur."""
    return SPLITS.index(split_of(name) or ""), name


@contextmanager
def opened(name: str, path: Path, *, pixels: bool) -> Iterator[pq.ParquetFile]:
    """A file whose footer has the format's columns; with `pixels` those of the pictures too."""
    with readable(name), pq.ParquetFile(path) as file:
        for column in (*COLUMNS, *(JPEGS if pixels else ())):
            if column not in file.schema_arrow.names:
                hint = "; are these the tables without images?" if column in JPEGS else ""
                raise PipelineError(f"{name} must have a column {column}, as Pick-a-Pic has, got none{hint}")
        yield file


def check(files: dict[str, Path], *, pixels: bool) -> None:
    """Check the format of files by their footers alone."""
    for file in files.items():
        with opened(*file, pixels=pixels):
            pass


def read(files: dict[str, Path], *, pixels: bool = True) -> pl.DataFrame:
    """Read all rows of the files, narrow columns alone, in the order in which pictures first occur.

    Of each row its split, file (sha256), row_group, row within it, and COLUMNS; label 1: picture 0 wins.
    """
    ordered = {name: files[name] for name in sorted(files, key=in_order)}
    blocks = []
    with tqdm(total=count(ordered, "num_row_groups"), desc="prepare", unit="row group") as bar:
        for name, path in ordered.items():
            with opened(name, path, pixels=pixels) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=list(COLUMNS))
                    table.validate(full=True)
                    # Nothing else of a schema that may be damaged reaches polars. Times become UTC.
                    narrow = {
                        ours: table.column(theirs).cast(kind, safe=kind != pa.timestamp("us"))
                        for theirs, (ours, kind) in COLUMNS.items()
                    }
                    place = {
                        "split": pl.lit(split_of(name)), "file": pl.lit(path.name),
                        "row_group": pl.lit(group, pl.Int32), "row": pl.int_range(pl.len(), dtype=pl.Int32),
                    }  # fmt: skip
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
    for file in files.items():
        with opened(*file, pixels=False) as footer:
            total += getattr(footer.metadata, unit)
    return total


def from_hub(hub: base.HubFiles, splits: tuple[str, ...] = HUB_FILES, prefix: str = "") -> base.Remote:
    """The files of these splits in a repository on the hub."""
    return base.Remote(hub.repo, hub.revision, [f"data/{split}-*.parquet" for split in splits], prefix=prefix)


def from_folder(
    source: str, what: str, splits: tuple[str, ...] = SPLITS, prefix: str = ""
) -> dict[str, Path]:
    """The files of these splits in a folder, or in its `data`, by name; `what` is the folder's parameter."""
    folder = paths.project_root() / Path(source).expanduser()
    if not folder.is_dir():
        must = f"{what} must be an existing folder of Pick-a-Pic's Parquet files"
        raise PipelineError(f"{must}, got {source!r}, looked for at {folder}")
    files: dict[str, Path] = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]):
        split = split_of(path.name)
        if split is None:
            must = f"{what} must hold files named {'-*, '.join(SPLITS)}-*.parquet"
            raise PipelineError(f"{must}, got {path.name!r} in {source!r}; rename it or move it away")
        if path.name in files:
            raise PipelineError(f"{what} must hold each file once, got {path.name!r} twice in {source!r}")
        if split in splits:
            files[path.name] = path
    if not files:
        must = f"{what} must hold Parquet files named {'-*, '.join(splits)}-*.parquet"
        raise PipelineError(f"{must}, got {source!r}, which has none")
    return {f"{prefix}{name}": files[name] for name in sorted(files, key=in_order)}


def source_of(source: str, what: str, remote: base.Remote | None, about: str) -> base.Source:
    """What a source of Pick-a-Pic names now: the `hub`, or a FOLDER whose footers are checked at once."""
    if source == "hub" and remote is not None:
        return base.Source(f"{about} from the hub: {remote.repo} at {remote.revision}", remotes=[remote])
    links = from_folder(source, what)
    return base.Source(f"{about} from {source}", links=links, check=partial(check, links, pixels=True))


def load(files: dict[str, Path], *, ties: str) -> tuple[base.Kept, pl.DataFrame]:
    """Read files, and leave out what is no comparison.

    These are the rows of validation_unique, which repeat some of validation; rows that lack a prompt, a
    picture or a user, or show one picture twice; outside of train, as PickScore does, rows marked as without
    a label, and anywhere those that have none; and ties, unless they are kept.

    Returns the comparisons as `read` does, and of each picture uid and the place where it first occurs.
    """
    unread = {name: path for name, path in files.items() if split_of(name) == LEFT_OUT}
    rows = read({name: files[name] for name in files.keys() - unread.keys()})
    images = first_places(rows)
    check(unread, pixels=True)
    no_filter = pl.lit(None, pl.String)
    kept = base.Kept(rows.with_columns(filter_0=no_filter, filter_1=no_filter), {LEFT_OUT: count(unread)})
    filled = pl.col("prompt", "uid_0", "uid_1").fill_null("").str.strip_chars() != ""
    kept.keep(pl.all_horizontal(pl.col("user_id").is_not_null(), filled), "incomplete")
    empty = pl.col("label").is_null() | pl.col("label").is_nan()
    unlabelled = ~pl.col("has_label").fill_null(value=False) & (empty | (pl.col("split") != "train"))
    kept.keep(~unlabelled, "without_label")
    bad = kept.rows.filter(~pl.col("label").is_in([0.0, 0.5, 1.0]).fill_null(value=False)).head(1)
    for row in bad.iter_rows(named=True):
        name = next(name for name, path in files.items() if path.name == row["file"])
        raise PipelineError(
            f"{name}, row {row['row']} of row group {row['row_group']}, must have a label_0 of 1 (picture 0 "
            f"wins), 0 (picture 1 wins) or 0.5 (a tie), got {row['label']}"
        )
    kept.keep(pl.col("uid_0") != pl.col("uid_1"), "same_image")
    if ties == "drop":
        kept.keep(pl.col("label") != 0.5, "ties")
    return kept, images


def first_places(rows: pl.DataFrame) -> pl.DataFrame:
    """Where each picture's bytes first occur in the table: that place stands for it wherever else it is."""
    places = rows.select("file", "row_group", "row", "uid_0", "uid_1").with_row_index("order")
    lie = ("file", "row_group", "row", "order")
    sides = [places.select(*lie, uid=f"uid_{side}", column=pl.lit(jpeg)) for side, jpeg in enumerate(JPEGS)]
    both = pl.concat(sides).drop_nulls("uid").sort("order", "column")
    return both.unique("uid", keep="first", maintain_order=True).drop("order")


def place(rows: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """Say of each row whether its user is seen, as users with train rows are, and where it belongs.

    A share of those with train and test rows is kept unseen, to be located from their train rows (D21);
    users with test rows alone are unseen too, and there is nothing to locate them from.
    """
    users = {split: set(rows.filter(pl.col("split") == split)["user_id"]) for split in ("train", "test")}
    both = np.random.default_rng(seed).permutation(sorted(users["train"] & users["test"]))
    unseen = set(both[: round(share * len(both))].tolist())
    seen = users["train"] - unseen
    if not seen:
        raise PipelineError(
            "Pick-a-Pic must leave comparisons to train on, got none in train of a seen user; give it the "
            "files named train-*, or lower unseen_users in prepare"
        )
    place = pl.col("split").cast(pl.String).replace_strict(PLACES)
    is_seen = pl.col("user_id").is_in(list(seen))
    return rows.with_columns(
        users=pl.when(is_seen).then(pl.lit("seen")).otherwise(pl.lit("unseen")),
        split=pl.when((place == "train") & ~is_seen).then(pl.lit("adapt")).otherwise(place),
        test=pl.when(place == "test").then(pl.col("split").cast(pl.String)),
    )


def write(rows: pl.DataFrame, images: pl.DataFrame, out: Path) -> dict[str, int]:
    """Write items and pairs in the order of the rows; how many prompts, pictures and users there are.

    `rows` have users, split, the filters that pictures get, and where they apply test and group; `images` say
    where pictures lie.
    """
    shown = [rows.select(uid=f"uid_{side}", filter=f"filter_{side}") for side in (0, 1)]
    images = images.join(pl.concat(shown).unique(), on="uid").with_columns(pl.col("file").cast(pl.String))
    places = images.select("file", "row_group", "row", "column", "filter").iter_rows()
    images = images.with_columns(
        item_id=pl.Series([tables.image_id(*place) for place in places], dtype=pl.String)
    )
    texts = rows["prompt"].unique().to_list()
    pictures = images.drop("uid").with_columns(modality=pl.lit("image"))
    items = pl.concat([tables.text_items(texts), pictures], how="diagonal")
    tables.write_table(out / tables.ITEMS, items.unique("item_id").sort("item_id"))
    prompt_ids = [tables.text_id(text) for text in texts]
    for side in (0, 1):
        ids, on = images.select("uid", "filter", pl.col("item_id").alias(f"item_{side}")), ["uid", "filter"]
        mine = [f"uid_{side}", f"filter_{side}"]
        rows = rows.join(ids, left_on=mine, right_on=on, how="left", nulls_equal=True, maintain_order="left")
    second = pl.col("label") == 0
    pairs = rows.with_columns(
        pair_id=pl.int_range(pl.len()),
        user_id=pl.col("user_id").cast(pl.String),
        prompt=pl.col("prompt").replace_strict(texts, prompt_ids),
        # Of a tie picture 0 stands as chosen.
        chosen=pl.when(second).then("item_1").otherwise("item_0"),
        rejected=pl.when(second).then("item_0").otherwise("item_1"),
        label=pl.when(pl.col("label") == 0.5).then(0.5).otherwise(1.0),
    )
    tables.write_table(out / tables.PAIRS, pairs)
    return {"prompts": len(texts), "images": len(images), "users": rows["user_id"].n_unique()}


def write_notes(out: Path, version: str, files: dict[str, Path], *more: str) -> None:
    """Write and print whether the files have the published numbers of rows, and what else must be said."""
    rows, published = {}, dict(zip(SPLITS, ROWS[version], strict=True))
    for split in dict.fromkeys(split_of(name) or "" for name in sorted(files, key=in_order)):
        rows[split] = count({name: path for name, path in files.items() if split_of(name) == split})
    other = [f"{split} {n:,} of {published[split]:,}" for split, n in rows.items() if n != published[split]]
    says = f"The published Pick-a-Pic {version} by the rows of {', '.join(rows)}."
    if other:
        says = f"Not the published Pick-a-Pic {version}: rows of {', '.join(other)}."
    write_json(out / paths.NOTES, [says, *more])
    print(says, *more, sep="\n")
