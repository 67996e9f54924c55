"""Your own comparisons: who preferred which answer to what, in CSV, JSONL or Parquet.

user_id   who compared: text, or a whole number
prompt    what the answers answer; empty in every row where there are no prompts
chosen    the preferred answer
rejected  the other one
label     optional: P(chosen is preferred), from 0.5 (a tie) to 1; without it every row is 1
split     optional: train, val, test or adapt. A user with adapt rows is unseen, every other user is seen

Other columns are ignored. Whatever is wrong stops the pipeline at the first row that shows it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline import layout, raw
from pipeline.datasets import Found
from pipeline.datasets.own_cells import COLUMNS, place
from pipeline.datasets.own_files import SUFFIXES, read_rows
from pipeline.errors import PipelineError, shorten
from pipeline.params import Params
from pipeline.tables import (
    ITEMS,
    PAIRS,
    SPLIT_NAMES,
    items_schema,
    pairs_schema,
    text_items,
    write_table,
)

if TYPE_CHECKING:
    import polars as pl

LONGEST_USER_ID = 512
TIE = 0.5


def find(params: Params) -> Found:
    """The user's files.

    Raises:
        PipelineError: If `source.own` names none.
    """
    if params.source.own is None:
        raise PipelineError(
            f"source.own in {layout.PARAMS} must name a file or folder of {', '.join(SUFFIXES)}, got null; "
            "set it, or take own out of datasets"
        )
    found = raw.find_files(params.source.own, f"source.own in {layout.PARAMS}", SUFFIXES)
    paths = {path.name: path for path in found}

    def check() -> None:
        read(list(paths.items()), ties=params.prepare.own.ties)

    return Found(f"own: {params.source.own}", paths, check=check)


def prepare(params: Params, files: dict[str, Path], out: Path) -> dict[str, int]:
    """Read all files, check every row, and write items and pairs."""
    frame, counts = read(list(files.items()), ties=params.prepare.own.ties)
    write(frame, out)
    return {**counts, "dropped": counts["ties_dropped"]}


def read(
    files: list[tuple[str, Path]], *, ties: Literal["drop", "keep"]
) -> tuple["pl.DataFrame", dict[str, int]]:
    """Read and check all files, which must have the same columns.

    Args:
        files: Each file's name, as the user knows it, and where its bytes lie.
        ties: Whether comparisons labelled 0.5 are left out.

    Returns:
        Columns user_id, prompt (null where there are none), chosen, rejected, label and split (null where not
        given), in the order of files and rows; and counts: read = kept + ties_dropped, ties among those read,
        duplicates among those kept (rows that repeat an earlier one, whatever their split).

    Raises:
        PipelineError: Naming the first row and column of whatever is wrong.
    """
    import polars as pl

    rows = _concatenate([read_rows(name, path) for name, path in files])
    rows = rows.with_columns(pl.col("split").replace("", None))
    given = rows["split"].is_not_null().any()
    _check_texts(rows)
    _check_labels(rows)
    if given:
        _check_split_cells(rows)
    rows = rows.with_columns(pl.col("prompt").replace("", None), pl.col("label").cast(pl.Float32))
    tied = rows["label"] == TIE
    kept = rows.filter(~tied) if ties == "drop" else rows
    if kept.is_empty():
        raise PipelineError(f"all {len(rows):,} rows are ties (label 0.5); set prepare.own.ties to 'keep'")
    if given:
        _check_halves(kept, any_dropped=len(kept) < len(rows))
    frame = kept.select(COLUMNS)
    distinct = frame.select(pl.exclude("split")).n_unique()
    return frame, {
        "read": len(rows),
        "ties": int(tied.sum()),
        "ties_dropped": len(rows) - len(kept),
        "kept": len(kept),
        "duplicates": len(kept) - distinct,
    }


def _concatenate(frames: list["pl.DataFrame"]) -> "pl.DataFrame":
    """All files' rows; a label that no file has is 1, a split that none has is null."""
    import polars as pl

    for frame in frames[1:]:
        for column in COLUMNS:
            having = [each for each in (frames[0], frame) if column in each.columns]
            if len(having) == 1:
                lacking = frame if having[0] is frames[0] else frames[0]
                raise PipelineError(
                    f"{lacking['file'][0]} lacks the column {column}, which {having[0]['file'][0]} has; "
                    "all files must have the same columns"
                )
    absent = {"label": pl.lit(1.0), "split": pl.lit(None, pl.String)}
    rows = pl.concat(frames)
    return rows.with_columns(**{name: value for name, value in absent.items() if name not in rows.columns})


def _refuse(rows: "pl.DataFrame", column: str, wrong: "pl.Expr", rule: str, advice: str = "") -> None:
    """Raise at the first row where `wrong` holds; {got} in the rule is the cell's value."""
    bad = rows.filter(wrong)
    if len(bad):
        first = bad.row(0, named=True)
        got = "nothing" if first[column] is None else shorten(first[column])
        where = place(first["file"], first["row"], first["line"], len(bad) - 1)
        raise PipelineError(f"{column} in {where} {rule.replace('{got}', got)}{advice and '; '}{advice}")


def _check_texts(rows: "pl.DataFrame") -> None:
    import polars as pl

    users = pl.col("user_id")
    blank = users.fill_null("").str.strip_chars() == ""
    _refuse(rows, "user_id", blank, "must name the user, got {got}")
    long = users.str.len_chars() > LONGEST_USER_ID
    most = f"must have at most {LONGEST_USER_ID} characters, got {{got}}"
    _refuse(rows, "user_id", long, most, "is this the right column?")
    empty = {column: pl.col(column).fill_null("") == "" for column in ("prompt", "chosen", "rejected")}
    if not rows.select(empty["prompt"].all()).item():
        everywhere = "or leave it empty in every row if there are no prompts"
        _refuse(
            rows,
            "prompt",
            empty["prompt"],
            "is empty, while other rows have one",
            f"fill it in, {everywhere}",
        )
    for column in ("chosen", "rejected"):
        _refuse(rows, column, empty[column], "must not be empty")


def _check_labels(rows: "pl.DataFrame") -> None:
    import polars as pl

    label = pl.col("label")
    allowed = "must be a number from 0.5 to 1, got {got}"
    _refuse(rows, "label", ~label.is_finite().fill_null(False), allowed)
    _refuse(rows, "label", label < TIE, allowed, "swap chosen and rejected, and write 1 minus that")
    _refuse(rows, "label", label > 1, allowed)
    same = (pl.col("chosen") == pl.col("rejected")) & (label.cast(pl.Float32) != TIE)
    tie = "remove the row, or set its label to 0.5"
    _refuse(rows, "chosen", same, "is identical to rejected, got {got}", tie)


def _check_split_cells(rows: "pl.DataFrame") -> None:
    import polars as pl

    split = pl.col("split")
    _refuse(
        rows,
        "split",
        split.is_null(),
        "is empty, while other rows have one",
        "fill it in, or leave it empty in every row to have the pipeline split",
    )
    allowed = f"must be one of {', '.join(SPLIT_NAMES)}, got {{got}}"
    _refuse(rows, "split", ~split.is_in(SPLIT_NAMES), allowed)
    both = ((split == "train").any() & (split == "adapt").any()).over("user_id")
    wrong = rows.filter(both)
    if len(wrong):
        user = wrong["user_id"][0]
        rows_of = [
            wrong.filter(pl.col("user_id") == user, split == name).row(0, named=True)
            for name in ("train", "adapt")
        ]
        train, adapt = (place(row["file"], row["row"], row["line"]) for row in rows_of)
        raise PipelineError(
            f"user {shorten(user)}{_more_users(wrong)} must not have both train rows ({train}) and "
            f"adapt rows ({adapt}); a user is either seen or unseen"
        )


def _check_halves(rows: "pl.DataFrame", *, any_dropped: bool) -> None:
    """Every half must be there to be trained, adapted and tested, and every user in one."""
    import polars as pl

    split = pl.col("split")
    without = " once ties are dropped" if any_dropped else ""
    for name in ("train", "adapt", "test"):
        if name not in rows["split"]:
            has = ", ".join(sorted(rows["split"].unique()))
            again = "add them, or leave split out to have the pipeline split"
            raise PipelineError(
                f"split must have rows of train, adapt and test, got only {has}{without}; {again}"
            )
    has_train, has_adapt = ((split == name).any().over("user_id") for name in ("train", "adapt"))
    lost = rows.filter(~has_train & ~has_adapt)
    if len(lost):
        first = lost.row(0, named=True)
        where = place(first["file"], first["row"], first["line"])
        user = f"user {shorten(first['user_id'])} of {where}{_more_users(lost)}"
        raise PipelineError(f"{user} must have train rows or adapt rows, got only {first['split']}{without}")
    for half, name, member in (("seen", "train", ~has_adapt), ("unseen", "adapt", has_adapt)):
        if "test" not in rows.filter(member)["split"]:
            raise PipelineError(
                f"split must have test rows of {half} users (those with {name} rows), got none{without}"
            )


def _more_users(rows: "pl.DataFrame") -> str:
    others = rows["user_id"].n_unique() - 1
    return f" (and {others:,} more user{'s' if others > 1 else ''})" if others else ""


def write(frame: "pl.DataFrame", folder: Path) -> None:
    """Write what `read` returned as the tables of items and pairs.

    A user is unseen exactly if one of its rows is an adapt row; without a split the stage split decides.
    """
    import polars as pl

    columns = ["prompt", "chosen", "rejected"]
    texts = pl.concat([frame[column].unique() for column in columns]).drop_nulls().unique()
    items = text_items(texts.to_list())
    write_table(folder / ITEMS, items, items_schema())
    ids = [
        pl.col(column).replace_strict(items["text"], items["item_id"], return_dtype=pl.String)
        for column in columns
    ]
    unseen = (pl.col("split") == "adapt").any().over("user_id")
    users = pl.when(unseen).then(pl.lit("unseen")).otherwise(pl.lit("seen"))
    pairs = frame.select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("pair_id"),
        "user_id",
        *ids,
        "label",
        pl.when(pl.col("split").is_not_null()).then(users).alias("users"),
        "split",
    )
    write_table(folder / PAIRS, pairs, pairs_schema())
