"""Your own comparisons: who preferred which response to what, in CSV, JSONL or Parquet.

Each file has one of two shapes, and all files of a folder the same columns:

user_id     who compared: text, or a whole number
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

split       train, val, test or adapt. A user with adapt rows is unseen, every other user is seen
timestamp   when the user answered: ISO 8601 text (UTC where it names no zone), seconds since 1970, or
            Parquet's dates and times. Empty where it is not known; `own.split.by: time` needs it in every row

`own.prepare.prompts` and `.responses` say what prompts and responses are:

text        the text itself
image       the path of a .jpg, .jpeg, .png or .webp file, relative to the table and inside its folder; other
            places are refused, whether written so or reached by a link. The files are read where they lie
vector      an id in the file that `own.vectors` names, whose formats stand in `vectors.py`

Other columns are ignored. A row is left out, and counted, if it is a tie (where `own.prepare.ties` says so)
or compares a response with itself, which says nothing of anyone. Whatever else is wrong stops the pipeline at
the first row that shows it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pal.config import Config
from pipeline import paths as layout
from pipeline.datasets.base import DatasetParams, Source, Split, Text
from pipeline.datasets.own import images as own_images
from pipeline.datasets.own import rows as own_rows
from pipeline.datasets.own import vectors as own_vectors
from pipeline.datasets.own.files import SUFFIXES, read_rows
from pipeline.datasets.own.items import Content, Given, Images, Texts, write
from pipeline.errors import PipelineError
from pipeline.storage import raw, tables

if TYPE_CHECKING:
    import polars as pl

    from pipeline.params import Params as AllParams

TITLE = "Your own comparisons"
ABOUT = "Comparisons that you supplied: which of two responses a user preferred."
ITEMS_APART = True
RESPONSES = ("chosen", "rejected")
ROLES = ("prompt", *RESPONSES)


class Prepare(Config):
    """How one's own comparisons are read."""

    ties: Literal["drop", "keep"]
    prompts: Literal["text", "image", "vector"]
    responses: Literal["text", "image", "vector"]


class Params(DatasetParams):
    """The section own of params.yaml."""

    source: Text | None
    vectors: Text | None
    prepare: Prepare
    split: Split


def find(params: "AllParams") -> Source:
    """The user's files: tables, and the images or the vectors that they name.

    Raises:
        PipelineError: If `own.source` names none, or a row names an image that is not there.
    """
    if params.own.source is None:
        raise PipelineError(
            f"own.source in {layout.PARAMS} must name a file or folder of {', '.join(SUFFIXES)}, got null; "
            "set it, or take own out of datasets"
        )
    knobs = params.own.prepare
    vectors = own_vectors.find(params.own.vectors) if _columns(knobs, "vector") else {}
    paths = _tables(params.own.source, set(vectors.values()))
    images: dict[str, Path] = {}
    if columns := _columns(knobs, "image"):
        images = own_images.find(read(paths, knobs), columns, next(iter(paths.values())).parent)

    def check() -> None:
        rows = read(paths, knobs)
        frame, _ = keep(rows, _contents(knobs, rows, {**images, **vectors}), knobs)
        own_rows.check_times(frame, params.own.split)

    return Source(f"own: {params.own.source}", paths, {**images, **vectors}, check=check)


def _tables(source: str, others: set[Path]) -> dict[str, Path]:
    """The tables by name; a file of vectors that lies among them is none."""
    found = raw.find_files(source, f"own.source in {layout.PARAMS}", SUFFIXES)
    lying = {path.resolve() for path in others}
    paths = {path.name: path for path in found if path.resolve() not in lying}
    if not paths:
        raise PipelineError(
            f"own.source in {layout.PARAMS} must hold a table besides the vectors, got {source!r}; "
            "comparisons and vectors are files apart"
        )
    return paths


def prepare(params: "AllParams", files: dict[str, Path], out: Path) -> dict[str, int]:
    """Read all files, check every row, and write items and pairs."""
    knobs = params.own.prepare
    paths = {name: path for name, path in files.items() if "/" not in name and name.endswith(SUFFIXES)}
    rows = read(paths, knobs)
    contents = _contents(knobs, rows, {n: path for n, path in files.items() if n not in paths})
    frame, counts = keep(rows, contents, knobs)
    write_tables(frame, contents, out)
    return counts


def read(paths: dict[str, Path], knobs: Prepare) -> "pl.DataFrame":
    """Read and check all tables, as `own_rows.join` has them."""
    ids = _columns(knobs, "vector")
    duel = ["response_a", "response_b"] if "chosen" in ids else []
    return own_rows.join([read_rows(name, path, [*ids, *duel]) for name, path in paths.items()])


def _columns(knobs: Prepare, modality: str) -> list[str]:
    """The columns whose cells stand for a modality."""
    return [role for role in ROLES if _modality(knobs, role) == modality]


def _modality(knobs: Prepare, role: str) -> str:
    return knobs.prompts if role == "prompt" else knobs.responses


def _contents(knobs: Prepare, rows: "pl.DataFrame", files: dict[str, Path]) -> dict[str, Content]:
    """What the cells of each modality stand for; where a file lies in the store, its name is its sha256."""
    contents: dict[str, Content] = {"text": Texts()}
    images = {name: path for name, path in files.items() if name.lower().endswith(own_images.SUFFIXES)}
    if _columns(knobs, "image"):
        contents["image"] = Images(images)
    if columns := _columns(knobs, "vector"):
        wanted = {cell for column in columns for cell in rows[column].drop_nulls().unique()}
        others = {name: path for name, path in files.items() if name not in images}
        contents["vector"] = Given(own_vectors.read(others, wanted))
    return contents


def keep(
    rows: "pl.DataFrame", contents: dict[str, Content], knobs: Prepare
) -> tuple["pl.DataFrame", dict[str, int]]:
    """Bring cells to items, and leave out what is not to be learned from.

    Args:
        rows: What `read` gave.
        contents: What cells stand for, by modality.
        knobs: Which modalities there are, and whether ties are left out.

    Returns:
        The rows that are kept, with item ids as prompt_id, chosen_id and rejected_id; and counts:
        read = kept + dropped, dropped = ties_dropped + identical_dropped, ties among those read, duplicates
        among those kept (rows that repeat an earlier one, whatever their split).

    Raises:
        PipelineError: If a cell stands for nothing, or too little is left.
    """
    import polars as pl

    for role in ROLES:
        ids = contents[_modality(knobs, role)].ids(rows, role)
        known = pl.col(role).replace_strict(list(ids), list(ids.values()), return_dtype=pl.String)
        rows = rows.with_columns(known.alias(f"{role}_id"))
    tied = rows["label"] == own_rows.TIE
    untied = rows.filter(~tied) if knobs.ties == "drop" else rows
    kept = untied.filter(pl.col("chosen_id") != pl.col("rejected_id"))
    counts = {
        "read": len(rows),
        "ties": int(tied.sum()),
        "ties_dropped": len(rows) - len(untied),
        "identical_dropped": len(untied) - len(kept),
        "kept": len(kept),
        "duplicates": len(kept)
        - kept.select("user_id", "prompt_id", "chosen_id", "rejected_id", "label").n_unique(),
        "dropped": len(rows) - len(kept),
    }
    own_rows.check_left(kept, counts)
    return kept, counts


def write_tables(frame: "pl.DataFrame", contents: dict[str, Content], folder: Path) -> None:
    """Write what `keep` returned as the tables of items and pairs.

    A user is unseen exactly if one of its rows is an adapt row; without a split the stage split decides.
    """
    import polars as pl

    wanted = {id_ for role in ROLES for id_ in frame[f"{role}_id"].drop_nulls().unique()}
    write(folder / tables.ITEMS, list(contents.values()), wanted)
    unseen = (pl.col("split") == "adapt").any().over("user_id")
    users = pl.when(unseen).then(pl.lit("unseen")).otherwise(pl.lit("seen"))
    pairs = frame.select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("pair_id"),
        "user_id",
        *(pl.col(f"{role}_id").alias(role) for role in ROLES),
        "label",
        pl.when(pl.col("split").is_not_null()).then(users).alias("users"),
        "split",
        pl.col("timestamp").alias("time"),
    )
    tables.write_table(folder / tables.PAIRS, pairs, tables.pairs_schema())
