"""Your own comparisons: who preferred which response to what, in CSV, JSONL or Parquet.

Each file has one of two shapes, and all files of a folder the same columns:

user_id     who compared: text, or a whole number (7.0 is 7 in JSONL and Parquet). `own.prepare.user_ids` says
            whether ids that differ in case, blanks or Unicode's form alone are one person
prompt      what the responses answer; empty in every row where there are no prompts
chosen      the preferred response
rejected    the other one
label       optional: P(chosen is preferred), from 0.5 (a tie) to 1; without it every row is 1

user_id, prompt
response_a  a response
response_b  another one
winner      a, b or tie (in capitals too, or response_a and response_b); numbers are refused, since 1 means
            the first response to some and the second to others

In both, two more columns are optional:

split       train, val, test or adapt, obeyed where it is there; `own.split` draws places otherwise. A user
            with adapt rows is unseen, every other user is seen
timestamp   when the user answered: ISO 8601 text (UTC where it names no zone), seconds since 1970, or
            Parquet's dates and times. Empty where it is not known; `own.split.by: time` needs it in every row

`own.prepare.prompts` and `.responses` say what prompts and responses are:

text        the text itself
image       the path of a .jpg, .jpeg, .png or .webp file, relative to the table and inside its folder; other
            places are refused, whether written so or reached by a link. The files are read where they lie
vector      an id in the file that `own.vectors` names, whose formats stand in `vectors.py`

Other columns are ignored. A row is left out, and counted, if it is a tie (where `own.prepare.ties` says so)
or compares a response with itself, which says nothing of anyone. One user's answers to one question (a prompt
and two responses, in either order) become one comparison, so that no answer is trained on while another is
tested on: its label is their mean, its weight their number, its time the last one's. Whatever else is wrong
stops the pipeline at the first row that shows it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl
import pyarrow as pa

from pal import encoders
from pal.config import Config
from pipeline import PipelineError
from pipeline.datasets.base import DatasetParams, EncoderByModality, Source, SplitShares, Text
from pipeline.datasets.own.checks import (
    TIE,
    check_left,
    check_model,
    check_repeats,
    check_rows,
    check_texts,
    check_times,
    doubtful_ids,
    normalised_id,
)
from pipeline.datasets.own.items import (
    IMAGE_SUFFIXES,
    ImageItems,
    Items,
    TextItems,
    VectorItems,
    find_images,
)
from pipeline.datasets.own.tables import PREFERENCE, SUFFIXES, read_table
from pipeline.datasets.own.vectors import find_vectors, read_vectors
from pipeline.paths import PARAMS
from pipeline.storage import raw_files
from pipeline.storage.tables import ITEMS, PAIRS, items_schema, pairs_schema, write_table

if TYPE_CHECKING:
    from pipeline.params import Params as AllParams

TITLE = "Your own comparisons"
ABOUT = "Comparisons that you supplied: which of two responses a user preferred."
ITEMS_APART = True
ROLES = ("prompt", *PREFERENCE)


class Prepare(Config):
    """How one's own comparisons are read."""

    user_ids: Literal["as_given", "normalised"]
    ties: Literal["drop", "keep"]
    prompts: Literal["text", "image", "vector"]
    responses: Literal["text", "image", "vector"]


class Params(DatasetParams):
    """The section own of params.yaml."""

    source: Text | None
    vectors: Text | None
    prepare: Prepare
    split: SplitShares


def find(params: "AllParams") -> Source:
    """The user's files: tables, and the images or the vectors that they name."""
    own, key = params.own, f"own.source in {PARAMS}"
    if own.source is None:
        raise PipelineError(
            f"{key} must name a file or folder of {', '.join(SUFFIXES)}, got null; set it, or take own out "
            "of datasets"
        )
    vectors = find_vectors(own.vectors) if _columns(own.prepare, "vector") else {}
    not_tables = {path.resolve() for path in vectors.values()}  # a file of vectors may lie among the tables
    files = raw_files.find_files(own.source, key, SUFFIXES)
    tables = {path.name: path for path in files if path.resolve() not in not_tables}
    if not tables:
        raise PipelineError(
            f"{key} must hold a table besides the vectors, got {own.source!r}; comparisons and vectors are "
            "files apart"
        )
    images: dict[str, Path] = {}
    if columns := _columns(own.prepare, "image"):
        images = find_images(read(tables, own.prepare), columns, next(iter(tables.values())).parent)

    def check() -> list[str]:
        rows = read(tables, own.prepare)
        kept, _ = keep(rows, _items(own.prepare, rows, {**images, **vectors}), own.prepare)
        check_times(kept, own.split)
        if params.encode.on_bad_item == "fail":
            check_texts(rows, _columns(own.prepare, "text"))
        for role in ROLES:
            if rows[role].is_not_null().any():
                _check_encoder(own, role)
        return [*doubtful_ids(rows["user_id"]), *check_model(kept, params)]

    return Source(f"own: {own.source}", tables, {**images, **vectors}, check=check)


def prepare(params: "AllParams", files: dict[str, Path], out: Path) -> dict[str, int]:
    """Read all files, check every row, and write items and pairs."""
    tables = {name: path for name, path in files.items() if "/" not in name and name.endswith(SUFFIXES)}
    rows = read(tables, params.own.prepare)
    items = _items(params.own.prepare, rows, {n: path for n, path in files.items() if n not in tables})
    kept, counts = keep(rows, items, params.own.prepare)
    write_tables(kept, items, out)
    return counts


def read(tables: dict[str, Path], options: Prepare) -> pl.DataFrame:
    """Read and check all tables; the columns are those of `check_rows`."""
    ids = _columns(options, "vector")
    ids += ["response_a", "response_b"] if "chosen" in ids else []
    rows = check_rows([read_table(name, path, ids) for name, path in tables.items()])
    if options.user_ids == "normalised":
        same = {user: normalised_id(user) for user in rows["user_id"].unique()}
        rows = rows.with_columns(pl.col("user_id").replace(same))
    return rows


def _columns(options: Prepare, modality: str) -> list[str]:
    """The columns whose cells stand for a modality."""
    return [role for role in ROLES if _modality(options, role) == modality]


def _modality(options: Prepare, role: str) -> str:
    return options.prompts if role == "prompt" else options.responses


def _check_encoder(own: Params, role: str) -> None:
    """Check that the encoder reads what a role's cells stand for, where it is known what it reads."""
    modality = _modality(own.prepare, role)
    encoder = own.encoder
    name = getattr(encoder, modality, "none") if isinstance(encoder, EncoderByModality) else encoder
    reads = encoders.modalities(name)
    if modality != "vector" and reads and modality not in reads:
        key = f"own.prepare.{'prompts' if role == 'prompt' else 'responses'}: {modality}"
        raise PipelineError(
            f"own.encoder in {PARAMS} must read what {role} holds ({key}), got {name!r}, which reads "
            f"{' and '.join(reads)}; name another, or one per modality"
        )


def _items(options: Prepare, rows: pl.DataFrame, files: dict[str, Path]) -> dict[str, Items]:
    """What the cells of each modality stand for; a file in the store is named by its sha256."""
    items: dict[str, Items] = {"text": TextItems()}
    images = {name: path for name, path in files.items() if name.lower().endswith(IMAGE_SUFFIXES)}
    if _columns(options, "image"):
        items["image"] = ImageItems(images)
    if columns := _columns(options, "vector"):
        wanted = {cell for column in columns for cell in rows[column].drop_nulls().unique()}
        others = {name: path for name, path in files.items() if name not in images}
        items["vector"] = VectorItems(*read_vectors(others, wanted))
    return items


def keep(
    rows: pl.DataFrame, items: dict[str, Items], options: Prepare
) -> tuple[pl.DataFrame, dict[str, int]]:
    """One row for each question of a user, with item ids as prompt_id, chosen_id and rejected_id, and weight.

    The counts: read = kept + dropped + merged, where dropped = ties_dropped + identical_dropped +
    undecided_dropped. merged are rows that repeat another one; of the comparisons with several answers
    contradicted were answered both ways, and undecided_dropped were so equally often, and thus are ties.
    """
    for role in ROLES:
        ids = items[_modality(options, role)].ids(rows, role)
        item = pl.col(role).replace_strict(list(ids), list(ids.values()), return_dtype=pl.String)
        rows = rows.with_columns(item.alias(f"{role}_id"))
    tied = rows["label"] == TIE
    untied = rows.filter(~tied) if options.ties == "drop" else rows
    differing = untied.filter(pl.col("chosen_id") != pl.col("rejected_id"))
    merged = merge_repeats(differing)
    kept = merged.filter(pl.col("label") != TIE) if options.ties == "drop" else merged
    counts = {
        "read": len(rows),
        "ties": int(tied.sum()),
        "ties_dropped": len(rows) - len(untied),
        "identical_dropped": len(untied) - len(differing),
        "merged": len(differing) - len(merged),
        "contradicted": int(merged["contradicted"].sum()),
        "undecided_dropped": len(merged) - len(kept),
        "kept": len(kept),
    }
    counts["dropped"] = sum(counts[f"{reason}_dropped"] for reason in ("ties", "identical", "undecided"))
    check_left(kept, counts)
    return kept, counts


def merge_repeats(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for each user, prompt and unordered pair of responses, in the order of their first rows.

    Its label is the mean of P(chosen is preferred), its chosen response the one that is preferred on the
    whole; weight is the number of rows, and contradicted says whether they prefer now one, now the other.

    Raises:
        PipelineError: If the column `split` puts such rows into different places.
    """
    both, order = (pl.col("chosen_id"), pl.col("rejected_id")), pl.col("chosen_id") < pl.col("rejected_id")
    unit = ("user_id", "prompt_id", pl.min_horizontal(*both), pl.max_horizontal(*both))
    rows = rows.with_row_index("unit").with_columns(pl.col("unit").first().over(unit))
    check_repeats(rows)
    first = pl.when(order).then("label").otherwise(1 - pl.col("label"))  # P(the lesser id is preferred)
    rows = rows.with_columns(
        first=first.cast(pl.Float64).mean().over("unit").round(6),
        weight=pl.len().over("unit"),
        contradicted=((first.max() > TIE) & (first.min() < TIE)).over("unit"),
        timestamp=pl.col("timestamp").max().over("unit"),
    ).unique("unit", keep="first", maintain_order=True)
    swap = pl.when(order != (pl.col("first") > TIE), pl.col("first") != TIE)
    turned = {
        f"{role}{suffix}": swap.then(pl.col(f"{other}{suffix}")).otherwise(pl.col(f"{role}{suffix}"))
        for role, other in (PREFERENCE, PREFERENCE[::-1])
        for suffix in ("", "_id")
    }
    label = pl.max_horizontal("first", 1 - pl.col("first")).cast(pl.Float32)
    return rows.with_columns(**turned, label=label).drop("unit", "first")


def write_tables(rows: pl.DataFrame, items: dict[str, Items], folder: Path) -> None:
    """Write the rows that `keep` returns as the tables of items and pairs.

    A user is unseen exactly if one of its rows is an adapt row; without a split the stage split decides.
    """
    wanted = {item for role in ROLES for item in rows[f"{role}_id"].drop_nulls().unique()}
    tables = [table for table in (each.table(wanted) for each in items.values()) if len(table)]
    write_table(folder / ITEMS, pa.concat_tables(tables, promote_options="default"), items_schema())
    unseen = (pl.col("split") == "adapt").any().over("user_id")
    users = pl.when(unseen).then(pl.lit("unseen")).otherwise(pl.lit("seen"))
    pairs = rows.select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("pair_id"),
        "user_id",
        *(pl.col(f"{role}_id").alias(role) for role in ROLES),
        "label",
        pl.when(pl.col("split").is_not_null()).then(users).alias("users"),
        "split",
        # Null stands for 1.
        pl.when(pl.col("weight") > 1).then(pl.col("weight")).cast(pl.Float32).alias("weight"),
        pl.col("timestamp").alias("time"),
    )
    write_table(folder / PAIRS, pairs, pairs_schema())
