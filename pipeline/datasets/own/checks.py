"""Rules for the rows of users' comparisons, and all tables joined in the shape of chosen and rejected."""

import re
import unicodedata
from collections import defaultdict
from typing import TYPE_CHECKING

import polars as pl

from pal.encoders.registry import complaint
from pal.errors import PalError, shorten
from pal.table_files import row_place
from pipeline import PipelineError
from pipeline.datasets.base import SplitShares
from pipeline.datasets.own.tables import COLUMNS, PREFERENCE, RESPONSES, refuse
from pipeline.paths import PARAMS
from pipeline.storage.tables import SPLIT_NAMES

if TYPE_CHECKING:
    from pipeline.params import Params as AllParams

LONGEST_USER_ID = 512
WHOLE = re.compile(r"^(-?\d+)\.0+$")
# What programs write where nobody is named, as `normalised_id` gives it.
NOBODY = {"nan", "null", "none", "<na>", "n/a", "na", "nil", "undefined", "anonymous", "unknown"}
TIE = 0.5
SHAPE = ("file", "row", "line", "user_id", "prompt", *PREFERENCE, "winner", "label", "split", "timestamp")
WINNERS = {"a": "a", "response_a": "a", "b": "b", "response_b": "b", "tie": "tie"}


def check_rows(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Join tables as `read_table` returns them, and check every row.

    The result has the columns of SHAPE: prompt and split are null where there are none, label is 0.5 to 1,
    and winner is null where the tables themselves name chosen and rejected.
    """
    rows = _joined(frames)
    user, label = pl.col("user_id"), pl.col("label")
    refuse(rows, "user_id", user.fill_null("").str.strip_chars() == "", "must name the user, got {got}")
    most = f"must have at most {LONGEST_USER_ID} characters, got {{got}}"
    refuse(rows, "user_id", user.str.len_chars() > LONGEST_USER_ID, most, "is this the right column?")
    no_prompt = pl.col("prompt").fill_null("") == ""
    if not rows.select(no_prompt.all()).item():
        advice = "fill it in, or leave it empty in every row if there are no prompts"
        refuse(rows, "prompt", no_prompt, "is empty, while other rows have one", advice)
    duel = "winner" in rows.columns
    for column in RESPONSES if duel else PREFERENCE:
        refuse(rows, column, pl.col(column).fill_null("") == "", "must not be empty")
    if duel:
        rows = _with_preference(rows)
    else:
        allowed = "must be a number from 0.5 to 1, got {got}"
        refuse(rows, "label", ~label.is_finite().fill_null(False), allowed)
        refuse(rows, "label", label < TIE, allowed, "swap chosen and rejected, and write 1 minus that")
        refuse(rows, "label", label > 1, allowed)
        rows = rows.with_columns(winner=pl.lit(None, pl.String))
    if rows["split"].is_not_null().any():
        _check_splits(rows)
    return rows.select(SHAPE).with_columns(pl.col("prompt").replace("", None), label.cast(pl.Float32))


def _joined(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of all tables; a label that no table has is 1, a split or timestamp that none has is null."""
    first = frames[0]
    for frame in frames[1:]:
        for column in (each for each in COLUMNS if (each in first.columns) != (each in frame.columns)):
            has, lacks = (first, frame) if column in first.columns else (frame, first)
            raise PipelineError(
                f"{lacks['file'][0]} lacks the column {column}, which {has['file'][0]} has; all files must "
                "have the same columns",
                file=lacks["file"][0],
                column=column,
            )
    rows = pl.concat(frames)
    absent = {
        "label": pl.lit(1.0),
        "split": pl.lit(None, pl.String),
        "timestamp": pl.lit(None, pl.Datetime("us")),
    }
    rows = rows.with_columns(**{name: value for name, value in absent.items() if name not in rows.columns})
    return rows.with_columns(pl.col("split").replace("", None))


def _with_preference(rows: pl.DataFrame) -> pl.DataFrame:
    """Chosen, rejected and label from two responses and a winner."""
    winner = pl.col("winner").str.strip_chars().str.to_lowercase()
    allowed = "must be a, b or tie, got {got}"
    # 1 is the second response to some and the first to others.
    numbered = winner.is_in(["0", "1", "2"])
    refuse(rows, "winner", numbered, allowed, "write a for response_a, b for response_b")
    refuse(rows, "winner", ~winner.is_in(list(WINNERS)).fill_null(value=False), allowed)
    winner = winner.replace_strict(WINNERS)
    second = pl.when(winner == "b")
    return rows.with_columns(
        winner=winner,
        chosen=second.then("response_b").otherwise("response_a"),
        rejected=second.then("response_a").otherwise("response_b"),
        label=pl.when(winner == "tie").then(TIE).otherwise(1.0),
    )


def _check_splits(rows: pl.DataFrame) -> None:
    split = pl.col("split")
    advice = "fill it in, or leave it empty in every row to have the pipeline split"
    refuse(rows, "split", split.is_null(), "is empty, while other rows have one", advice)
    allowed = f"must be one of {', '.join(SPLIT_NAMES)}, got {{got}}"
    refuse(rows, "split", ~split.is_in(SPLIT_NAMES), allowed)
    both = ((split == "train").any() & (split == "adapt").any()).over("user_id")
    wrong = rows.filter(both)
    if len(wrong):
        of_user = wrong.filter(pl.col("user_id") == wrong["user_id"][0])
        train, adapt = (
            of_user.row(of_user["split"].index_of(name), named=True) for name in ("train", "adapt")
        )
        raise PipelineError(
            f"user {shorten(train['user_id'])}{_more_users(wrong)} must not have both train rows "
            f"({_place(train)}) and adapt rows ({_place(adapt)}); a user is either seen or unseen",
            file=adapt["file"],
            row=adapt["row"],
            column="split",
        )


def check_repeats(rows: pl.DataFrame) -> None:
    """Check that the column split puts a user's answers to one question (one `unit`) into one place."""
    wrong = rows.filter(pl.col("split").n_unique().over("unit") > 1)
    if len(wrong):
        first = wrong.row(0, named=True)
        same = wrong.filter(pl.col("unit") == first["unit"], pl.col("split") != first["split"])
        other = same.row(0, named=True)
        raise PipelineError(
            f"split in {_place(other)} must be {first['split']} as in {_place(first)}, where user "
            f"{shorten(first['user_id'])}{_more_users(wrong)} answers this question, got {other['split']}",
            file=other["file"],
            row=other["row"],
            column="split",
        )


def check_left(kept: pl.DataFrame, counts: dict[str, int]) -> None:
    """Check that enough rows to train, adapt and test are left when ties and equal responses are dropped."""
    n, tied, same = (counts[name] for name in ("read", "ties_dropped", "identical_dropped"))
    undecided = counts["undecided_dropped"]
    if tied == n:
        raise PipelineError(f"all {n:,} rows are ties (label 0.5); set own.prepare.ties to 'keep'")
    if kept.is_empty():
        raise PipelineError(
            f"none of {n:,} rows is left once ties ({tied + undecided:,}) and responses compared with "
            f"themselves ({same:,}) are dropped; add comparisons"
        )
    if kept["split"].is_null().all():
        return
    reasons = ["ties"] * bool(tied + undecided) + ["identical responses"] * bool(same)
    without = f" once {' and '.join(reasons)} are dropped" if reasons else ""
    names = sorted(kept["split"].unique())
    if not {"train", "adapt", "test"} <= set(names):
        raise PipelineError(
            f"split must have rows of train, adapt and test, got only {', '.join(names)}{without}; "
            "add them, or leave split out to have the pipeline split",
            column="split",
        )
    has_train, has_adapt = ((pl.col("split") == name).any().over("user_id") for name in ("train", "adapt"))
    lost = kept.filter(~has_train & ~has_adapt)
    if len(lost):
        first = lost.row(0, named=True)
        raise PipelineError(
            f"user {shorten(first['user_id'])} of {_place(first)}{_more_users(lost)} must have train rows or "
            f"adapt rows, got only {first['split']}{without}",
            file=first["file"],
            row=first["row"],
            column="split",
        )
    for half, name, member in (("seen", "train", ~has_adapt), ("unseen", "adapt", has_adapt)):
        if "test" not in kept.filter(member)["split"]:
            raise PipelineError(
                f"split must have test rows of {half} users (those with {name} rows), got none{without}",
                column="split",
            )


def check_texts(rows: pl.DataFrame, columns: list[str]) -> None:
    """Check that an encoder can read every text of columns."""
    for column in columns:
        faults: dict[str, list[str]] = {}
        for text in rows[column].drop_nulls().unique(maintain_order=True):
            if fault := complaint(text):
                faults.setdefault(fault, []).append(text)
        for fault, texts in faults.items():
            advice = "mend it, or set encode.on_bad_item to skip"
            refuse(rows, column, pl.col(column).is_in(texts), f"{fault}, got {{got}}", advice)


def check_times(rows: pl.DataFrame, shares: SplitShares) -> None:
    """Check that every row has a timestamp where pairs are to be split by time."""
    if shares.by == "time" and rows["split"].is_null().all():
        empty = rows["timestamp"].is_null()
        if empty.all():
            raise PipelineError(
                "own.split.by is time, which needs a column timestamp; add one, or set it to items",
                column="timestamp",
            )
        refuse(rows, "timestamp", empty, "is empty, which own.split.by: time does not allow", "fill it in")


def normalised_id(user: str) -> str:
    """A user's id without what differs between exports: Unicode's form, blanks around it, case, 7 and 7.0."""
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", user).strip().casefold())
    return WHOLE.sub(r"\1", plain) or user


def doubtful_ids(ids: pl.Series) -> list[str]:
    """Sentences on ids that may be one person's, and on ids that may name nobody; none where none occur."""
    counts, alike, said = dict(ids.value_counts().iter_rows()), defaultdict(list), []
    for user in sorted(counts):
        alike[normalised_id(user)].append(user)
    if several := [users for users in alike.values() if len(users) > 1]:
        example = " and ".join(map(shorten, several[0][:3]))
        said.append(
            f"warning: {sum(map(len, several)):,} user ids may be those of {len(several):,} people, as "
            f"{example}, which differ in case, blanks, Unicode's form or a .0 alone; if they are, set "
            "own.prepare.user_ids to normalised"
        )
    if nobody := [user for user in sorted(counts) if normalised_id(user) in NOBODY]:
        n, names = sum(counts[user] for user in nobody), ", ".join(map(shorten, nobody))
        said.append(
            f"warning: the user_id of {n:,} rows is {names}, which may name nobody; if it does, leave these "
            "rows out, since they count as one person"
        )
    return said


def check_model(rows: pl.DataFrame, params: "AllParams") -> list[str]:
    """Hold the model to the data's prompts and users, and say what was decided by the data.

    Raises:
        PipelineError: If the model reads prompts and there are none, there are fewer seen users than K, or
            too few users to keep some unseen.
    """
    declared, shares, said = rows["split"].is_not_null().any(), params.own.split, []
    n = rows.group_by("user_id").agg(pl.len(), train=(pl.col("split") == "train").any())
    if declared:
        said.append("the file's column split says who trains and who is tested; own.split is not used")
        n_seen = int(n["train"].sum())
    else:
        n_users = len(n.filter(pl.col("len") >= shares.min_pairs))
        n_seen = n_users - shares.n_unseen(n_users)
    K = params.model.K
    if K != "auto" and n_seen < K:
        raise PipelineError(
            f"model.K must be at most {n_seen}, the seen users of own, got {K}; lower it or add users"
        )
    if params.own.method is None and rows["prompt_id"].is_null().all():
        from pal.models.base import make_model

        head, _ = params.configs("own", prompts=False)
        try:
            make_model(head, prompt_dim=0, response_dim=1)
        except PalError as error:
            raise PipelineError(f"own.head.{error} (in {PARAMS})") from None
        if params.own.head.get("model") is None:
            said.append(
                f"there are no prompts, so that own.head.model is {head.model}, which reads responses alone"
            )
    return said


def _place(row: dict[str, object]) -> str:
    return row_place(row["file"], row["row"], row["line"])


def _more_users(rows: pl.DataFrame) -> str:
    others = rows["user_id"].n_unique() - 1
    return f" (and {others:,} more user{'s' if others > 1 else ''})" if others else ""
