"""A log's comparisons as numbers of items, one for each question that a person answered.

One person's answers to one question (a prompt and two responses, in either order) are one comparison, so that
no answer is trained on while another is tested on: its label is their mean, its weight their number, its time
the last one's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pal.conversations import joint_text
from pal.errors import PalError
from pal.files import sha256_of
from pal.logs.items import (
    SIDES,
    Items,
    find_pictures,
    modality_of,
    read_pictures,
    read_texts,
    read_vectors,
    read_vectors_of,
)
from pal.logs.read import FILE, ROW
from pal.logs.shapes import SAME, TIES_LEFT_OUT, Log

TIE = 0.5
UNDECIDED = "answered both ways equally often"
SPLITS = ("train", "adapt", "val", "test")
OF_PEOPLE = 0.95  # share of people with one value, from which on an attribute is theirs and not the items'


@dataclass(frozen=True)
class Answers:
    """What people preferred, one row for each question of a person.

    Args:
        pairs: user_id; prompt (-1: there are none), chosen and rejected, the rows of their items; label, from
            0.5 (a tie) to 1; weight, the answers behind it; contradicted, whether these differ; timestamp,
            split, and `at`, the row of `Log.pairs` that it comes from first.
        items: The items by modality: text, image, vector.
        modality: That of the prompts (None: there are none) and of the responses.
        rejected: The log's rows that are in no comparison: file, row, reason.
        counts: read = kept + dropped + merged, where dropped = ties_dropped + identical_dropped +
            undecided_dropped + unusable_dropped. merged are those that repeat another; of the comparisons
            with several answers contradicted were answered both ways, undecided_dropped so equally often.
    """

    pairs: pl.DataFrame
    items: dict[str, Items]
    modality: dict[str, str | None]
    rejected: pl.DataFrame
    counts: dict[str, int]

    def items_of(self, side: str) -> Items | None:
        """The items that a column of `pairs` numbers; None where there are none."""
        modality = self.modality["prompts" if side == "prompt" else "responses"]
        return None if modality is None else self.items[modality]

    def used(self, modality: str) -> np.ndarray:
        """The rows of a modality's items that `pairs` names, ascending."""
        named = np.zeros(len(self.items[modality]), bool)
        for side in SIDES:
            if self.items_of(side) is self.items[modality]:
                named[self.pairs[side].to_numpy()] = True
        return np.flatnonzero(named)


def read_answers(
    log: Log,
    *,
    prompts: str | None = None,
    responses: str | None = None,
    vectors: Mapping[str, Path] | None = None,
    pictures: Mapping[str, Path] | None = None,
    sha256: Callable[[Path], str] = sha256_of,
    ties: str = "drop",
    template: str | None = None,
) -> Answers:
    """Read a log's items, and make one comparison of a person's answers to one question.

    Args:
        log: The log.
        prompts: What prompts are: text, image or vector; None: as `modality_of` tells.
        responses: The same of responses.
        vectors: The files of `find_vectors`.
        pictures: Files by the paths in cells; None: those in the log's folder.
        sha256: The sha256 of such a file.
        ties: drop, or keep as labels of 0.5.
        template: Makes one text of prompt and response, which is the item in the response's place; see
            `pal.conversations.template_of`.

    Raises:
        PalError: If a cell stands for nothing, or no comparison is left.
    """
    log = log if template is None else joined(log, template)
    modality, by_side, items = {}, {}, {}
    named, ids, values = "", [], np.empty((0, 0), np.float32)
    if vectors:
        wanted = {cell for side in SIDES for cell in log.pairs[side].drop_nulls().unique()}
        named, ids, values = read_vectors(dict(vectors), wanted)
    for half, sides, stated in (("prompts", SIDES[:1], prompts), ("responses", SIDES[1:], responses)):
        modality[half] = modality_of([log.pairs[side] for side in sides], stated, set(ids))
    if "vector" in modality.values() and not vectors:
        raise PalError(
            "vectors must be in a file that is named, got none; name it, or give texts or pictures"
        )
    of_sides = {side: modality["prompts" if side == "prompt" else "responses"] for side in SIDES}
    for kind in dict.fromkeys(filter(None, of_sides.values())):
        sides = [side for side, of_side in of_sides.items() if of_side == kind]
        if kind == "text":
            items[kind], rows = read_texts(log, sides)
        elif kind == "image":
            found = find_pictures(log, sides) if pictures is None else pictures
            items[kind], rows = read_pictures(log, sides, found, sha256)
        else:
            items[kind], rows = read_vectors_of(log, sides, named, ids, values)
        by_side |= rows
    if "prompt" not in by_side:
        by_side["prompt"] = np.full(len(log.pairs), -1, np.int32)
    frame = log.pairs.select("user_id", "label", "timestamp", "split").with_columns(
        at=pl.int_range(pl.len(), dtype=pl.UInt32), **{side: pl.Series(by_side[side]) for side in SIDES}
    )
    if (split := log.pairs["split"]).is_not_null().any():
        advice = "fill it in, or leave it empty in every row to have places drawn"
        log.refuse("split", split.is_null(), "is empty, while other rows have one", advice)
        advice = "say `split=` among the columns where it means something else"
        log.refuse("split", ~split.is_in(SPLITS), f"must be one of {', '.join(SPLITS)}, got {{got}}", advice)
    same = frame.filter(pl.col("chosen") == pl.col("rejected"))["at"]
    merged = merge_repeats(frame.filter(pl.col("chosen") != pl.col("rejected")), log)
    undecided = merged.filter((pl.col("label") == TIE) & (ties == "drop"))
    kept = merged.filter((pl.col("label") != TIE) | (ties != "drop"))
    ends = {"low": pl.min_horizontal("chosen", "rejected"), "high": pl.max_horizontal("chosen", "rejected")}
    key = ["user_id", "prompt", "low", "high"]
    of_users = frame.filter(pl.col("user_id").is_in(undecided["user_id"].implode()))
    lost = of_users.with_columns(**ends).join(undecided.with_columns(**ends), on=key, how="semi")["at"]
    rejected = pl.concat([log.rejected, _rejected(log, same, SAME), _rejected(log, lost, UNDECIDED)])
    why = dict(log.rejected["reason"].value_counts().iter_rows())
    tied = why.get(TIES_LEFT_OUT, 0)
    counts = {
        "read": len(log.pairs) + len(log.rejected),
        "ties": tied + int((log.pairs["label"] == TIE).sum()),
        "ties_dropped": tied,
        "identical_dropped": why.get(SAME, 0) + len(same),
        "unusable_dropped": sum(n for reason, n in why.items() if reason not in (SAME, TIES_LEFT_OUT)),
        "merged": len(frame) - len(same) - len(merged),
        "contradicted": int(merged["contradicted"].sum()),
        "undecided_dropped": len(undecided),
        "kept": len(kept),
    }
    dropped = ("ties", "identical", "unusable", "undecided")
    counts["dropped"] = sum(counts[f"{reason}_dropped"] for reason in dropped)
    if not counts["unusable_dropped"]:
        del counts["unusable_dropped"]
    if kept.is_empty():
        tied, same = counts["ties_dropped"] + counts["undecided_dropped"], counts["identical_dropped"]
        raise PalError(
            f"none of {counts['read']:,} comparisons in {log.table.source} is left once ties ({tied:,}) and "
            f"responses compared with themselves ({same:,}) are dropped; add comparisons"
        )
    check_splits(kept, log)
    return Answers(kept, items, modality, rejected, counts)


def joined(log: Log, template: str) -> Log:
    """The log with each response in one text with its prompt."""
    if log.pairs["prompt"].dtype != pl.String or log.pairs["chosen"].dtype != pl.String:
        raise PalError("prompts and responses must be texts to be joint, got pictures; let them be separate")
    if log.pairs["prompt"].is_null().any():
        raise PalError("prompts must be given to be joint with responses, got none; let them be separate")
    cells = {
        side: pl.Series(
            [joint_text(template, *both) for both in log.pairs.select("prompt", side).iter_rows()]
        )
        for side in SIDES[1:]
    }
    return replace(log, pairs=log.pairs.with_columns(**cells))


def _rejected(log: Log, rows: pl.Series, reason: str) -> pl.DataFrame:
    place = {"file": pl.col(FILE).cast(pl.String), "row": pl.col(ROW).cast(pl.Int64)}
    return log.pairs.select(FILE, ROW)[rows].select(**place, reason=pl.lit(reason))


def merge_repeats(rows: pl.DataFrame, log: Log) -> pl.DataFrame:
    """One row for each user, prompt and unordered pair of responses, in the order of their first rows.

    Its label is the mean of P(chosen is preferred), its chosen response the one that is preferred on the
    whole; weight is the number of rows, and contradicted says whether they prefer now one, now the other.

    Raises:
        PalError: If the column `split` puts such rows into different places.
    """
    low_is_chosen = pl.col("chosen") < pl.col("rejected")
    first = pl.when(low_is_chosen).then("label").otherwise(1 - pl.col("label"))
    rows = rows.with_columns(
        low=pl.min_horizontal("chosen", "rejected"), high=pl.max_horizontal("chosen", "rejected"),
        first=first.cast(pl.Float64), low_is_chosen=low_is_chosen,
    )  # fmt: skip
    key = ["user_id", "prompt", "low", "high"]
    columns = [*key, "first", "weight", "timestamp", "contradicted", "low_is_chosen", "at", "split", "places"]
    # Most rows repeat none, and grouping a million costs as much memory as the log: two of one hash may.
    hashes = rows.select(pl.struct(key).hash()).to_series()
    ordered = hashes.sort()
    again = hashes.is_in(ordered.filter(ordered == ordered.shift()).implode())
    several = rows.filter(again).group_by(key, maintain_order=True).agg(
        pl.col("first").mean().round(6), weight=pl.len(), timestamp=pl.col("timestamp").max(),
        contradicted=(pl.col("first").max() > TIE) & (pl.col("first").min() < TIE),
        low_is_chosen=pl.col("low_is_chosen").first(), at=pl.col("at").first(),
        split=pl.col("split").first(), places=pl.col("split").n_unique(),
    )  # fmt: skip
    alone = rows.filter(~again).with_columns(
        pl.col("first").round(6), weight=pl.lit(1, pl.get_index_type()), contradicted=pl.lit(value=False),
        places=pl.lit(1, pl.get_index_type()),
    )  # fmt: skip
    merged = pl.concat([alone.select(columns), several.select(columns)]).sort("at")
    if (merged["places"] > 1).any():
        apart = rows.join(merged.filter(pl.col("places") > 1), on=key, how="semi")
        apart = apart.filter(pl.col("split").ne_missing(pl.col("split").first().over(key)))
        _refuse(apart, "must be the same wherever a user answers one question, got {got}", log)
    low = (pl.col("first") > TIE) | ((pl.col("first") == TIE) & pl.col("low_is_chosen"))
    return merged.select(
        "user_id", "prompt",
        pl.when(low).then("low").otherwise("high").alias("chosen"),
        pl.when(low).then("high").otherwise("low").alias("rejected"),
        pl.max_horizontal("first", 1 - pl.col("first")).cast(pl.Float32).alias("label"),
        "weight", "contradicted", "timestamp", "split", "at",
    )  # fmt: skip


def check_splits(kept: pl.DataFrame, log: Log) -> None:
    """Hold the column split, where there is one, to what training and measuring need.

    A user with adapt rows is unseen, every other user is seen.

    Raises:
        PalError: If a user is in both halves or in neither, or a place is missing.
    """
    if kept["split"].is_null().all():
        return
    has_train, has_adapt = ((pl.col("split") == name).any().over("user_id") for name in ("train", "adapt"))
    both = kept.filter(has_train & has_adapt & (pl.col("split") == "adapt"))
    _refuse(both, "must not be {got} where the user has train rows too; a user is either seen or unseen", log)
    names = sorted(kept["split"].unique())
    if not {"train", "adapt", "test"} <= set(names):
        raise PalError(
            f"split must have rows of train, adapt and test, got only {', '.join(names)}; "
            "add them, or leave split out to have places drawn", column="split",
        )  # fmt: skip
    lost = kept.filter(~has_train & ~has_adapt)
    _refuse(lost, "must not be {got} alone; a user needs train rows or adapt rows", log)
    for half, name, member in (("seen", "train", ~has_adapt), ("unseen", "adapt", has_adapt)):
        if "test" not in kept.filter(member)["split"]:
            raise PalError(
                f"split must have test rows of {half} users (those with {name} rows), got none",
                column="split",
            )


def _refuse(rows: pl.DataFrame, rule: str, log: Log) -> None:
    """Raise at the first of these rows, if there is one: what its column split must be."""
    log.refuse("split", pl.int_range(len(log.pairs), eager=True).is_in(rows["at"].to_list()), rule)


def attributes_of_people(attributes: pl.DataFrame, user_id: pl.Series) -> dict[str, dict[str, Any]]:
    """The attributes of each person, of those columns that hardly ever differ between a person's rows.

    Args:
        attributes: Row for row of `user_id`; other columns are of items.
        user_id: Who answered.
    """
    told: dict[str, dict[str, Any]] = {}
    for name in attributes.columns:
        cells = pl.DataFrame({"user_id": user_id, "cell": attributes[name]}).drop_nulls("cell")
        people = cells.group_by("user_id", maintain_order=True).agg(
            pl.col("cell").mode(maintain_order=True).first(), n=pl.col("cell").n_unique()
        )
        if len(people) and (people["n"] == 1).mean() >= OF_PEOPLE:
            for user, cell, _ in people.iter_rows():
                told.setdefault(user, {})[name] = cell
    return told
