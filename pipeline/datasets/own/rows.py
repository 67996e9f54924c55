"""The rows of all your files together, every cell held to what it may say, in the one shape of `chosen`."""

from typing import TYPE_CHECKING

from pal.errors import shorten
from pipeline.datasets.base import SplitShares
from pipeline.datasets.own.cells import place, refuse
from pipeline.datasets.own.columns import COLUMNS, PREFERENCE, RESPONSES
from pipeline.errors import PipelineError
from pipeline.storage.tables import SPLIT_NAMES

if TYPE_CHECKING:
    import polars as pl

LONGEST_USER_ID = 512
TIE = 0.5
SHAPE = ("file", "row", "line", "user_id", "prompt", *PREFERENCE, "winner", "label", "split", "timestamp")
WINNERS = {"a": "a", "response_a": "a", "b": "b", "response_b": "b", "tie": "tie"}


def join(frames: list["pl.DataFrame"]) -> "pl.DataFrame":
    """Rows of all files, in order, checked one by one.

    Args:
        frames: What `own_files.read_rows` gave for each file.

    Returns:
        The columns of SHAPE: prompt and split null where there are none, label from 0.5 to 1, and winner null
        where the files themselves name chosen and rejected.

    Raises:
        PipelineError: Naming the first row and column of whatever is wrong.
    """
    import polars as pl

    rows = _concatenate(frames).with_columns(pl.col("split").replace("", None))
    duel = "winner" in rows.columns
    _check_texts(rows, RESPONSES if duel else PREFERENCE)
    _check_winners(rows) if duel else _check_labels(rows)
    if rows["split"].is_not_null().any():
        _check_splits(rows)
    rows = _decided(rows) if duel else rows.with_columns(winner=pl.lit(None, pl.String))
    return rows.select(SHAPE).with_columns(
        pl.col("prompt").replace("", None), pl.col("label").cast(pl.Float32)
    )


def _concatenate(frames: list["pl.DataFrame"]) -> "pl.DataFrame":
    """All files' rows; a label that no file has is 1, a split or timestamp that none has is null."""
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
    absent = {
        "label": pl.lit(1.0),
        "split": pl.lit(None, pl.String),
        "timestamp": pl.lit(None, pl.Datetime("us")),
    }
    rows = pl.concat(frames)
    return rows.with_columns(**{name: value for name, value in absent.items() if name not in rows.columns})


def _check_texts(rows: "pl.DataFrame", responses: tuple[str, ...]) -> None:
    import polars as pl

    users = pl.col("user_id")
    blank = users.fill_null("").str.strip_chars() == ""
    refuse(rows, "user_id", blank, "must name the user, got {got}")
    long = users.str.len_chars() > LONGEST_USER_ID
    most = f"must have at most {LONGEST_USER_ID} characters, got {{got}}"
    refuse(rows, "user_id", long, most, "is this the right column?")
    empty = {column: pl.col(column).fill_null("") == "" for column in ("prompt", *responses)}
    if not rows.select(empty["prompt"].all()).item():
        everywhere = "or leave it empty in every row if there are no prompts"
        refuse(
            rows,
            "prompt",
            empty["prompt"],
            "is empty, while other rows have one",
            f"fill it in, {everywhere}",
        )
    for column in responses:
        refuse(rows, column, empty[column], "must not be empty")


def _check_labels(rows: "pl.DataFrame") -> None:
    import polars as pl

    label = pl.col("label")
    allowed = "must be a number from 0.5 to 1, got {got}"
    refuse(rows, "label", ~label.is_finite().fill_null(False), allowed)
    refuse(rows, "label", label < TIE, allowed, "swap chosen and rejected, and write 1 minus that")
    refuse(rows, "label", label > 1, allowed)


def _check_winners(rows: "pl.DataFrame") -> None:
    import polars as pl

    winner = pl.col("winner").str.strip_chars()
    allowed = "must be a, b or tie, got {got}"
    # 1 is the second response to some and the first to others.
    refuse(rows, "winner", winner.is_in(["0", "1", "2"]), allowed, "write a for response_a, b for response_b")
    known = winner.str.to_lowercase().is_in(list(WINNERS)).fill_null(value=False)
    refuse(rows, "winner", ~known, allowed)


def _decided(rows: "pl.DataFrame") -> "pl.DataFrame":
    """Chosen, rejected and label in place of two responses and a winner."""
    import polars as pl

    winner = pl.col("winner").str.strip_chars().str.to_lowercase().replace_strict(WINNERS)
    second = pl.when(winner == "b")
    return rows.with_columns(
        winner=winner,
        chosen=second.then("response_b").otherwise("response_a"),
        rejected=second.then("response_a").otherwise("response_b"),
        label=pl.when(winner == "tie").then(TIE).otherwise(1.0),
    )


def _check_splits(rows: "pl.DataFrame") -> None:
    import polars as pl

    split = pl.col("split")
    refuse(
        rows,
        "split",
        split.is_null(),
        "is empty, while other rows have one",
        "fill it in, or leave it empty in every row to have the pipeline split",
    )
    allowed = f"must be one of {', '.join(SPLIT_NAMES)}, got {{got}}"
    refuse(rows, "split", ~split.is_in(SPLIT_NAMES), allowed)
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


def check_left(kept: "pl.DataFrame", counts: dict[str, int]) -> None:
    """Hold what is left, once ties and the like are dropped, to what is needed.

    Args:
        kept: The rows that are kept.
        counts: How many were read, and how many dropped for which reason.

    Raises:
        PipelineError: If nothing is left, or a split is not whole.
    """
    n, tied, same = (counts[name] for name in ("read", "ties_dropped", "identical_dropped"))
    if tied == n:
        raise PipelineError(f"all {n:,} rows are ties (label 0.5); set own.prepare.ties to 'keep'")
    if kept.is_empty():
        raise PipelineError(
            f"none of {n:,} rows is left once ties ({tied:,}) and responses compared with themselves "
            f"({same:,}) are dropped; add comparisons"
        )
    if kept["split"].is_not_null().any():
        reasons = ["ties"] * bool(tied) + ["identical responses"] * bool(same)
        _check_halves(kept, f" once {' and '.join(reasons)} are dropped" if reasons else "")


def check_times(rows: "pl.DataFrame", shares: SplitShares | str) -> None:
    """Hold every row to a timestamp where pairs are to be split by time.

    Raises:
        PipelineError: Naming the first row without.
    """
    if isinstance(shares, SplitShares) and shares.by == "time":
        empty = rows["timestamp"].is_null()
        if empty.all():
            raise PipelineError(
                "own.split.by is time, which needs a column timestamp; add one, or set own.split.by to random"
            )
        refuse(rows, "timestamp", empty, "is empty, which own.split.by: time does not allow", "fill it in")


def _check_halves(rows: "pl.DataFrame", without: str) -> None:
    """Every half must be there to be trained, adapted and tested, and every user in one."""
    import polars as pl

    split = pl.col("split")
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
