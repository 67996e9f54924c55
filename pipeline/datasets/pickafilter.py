"""Pick-a-Filter: two groups of Pick-a-Pic's people who differ in the colour that they like (PAL, appendix D).

Here people are chosen, put into groups, and called seen or unseen; `recolour` puts the filters on.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline.datasets import Found, drawn_scenes, pickapic, pickapic_files, pickapic_v1
from pipeline.errors import PipelineError
from pipeline.knobs import PreparePickafilter
from pipeline.params import Params
from pipeline.storage.files import write_json

GROUPS = ("cool", "warm")
SAMPLE = "sample: scenes drawn by this program, simulated people"
# Table 3 of the paper: train, val and test pairs.
PUBLISHED = {
    "cool": {"seen": (58_831, 628, 1_597), "unseen": (9_527, 79, 1_886), "total": (68_358, 707, 3_483)},
    "warm": {"seen": (57_200, 404, 2_096), "unseen": (9_402, 52, 1_812), "total": (66_602, 456, 3_908)},
}


def find(params: Params) -> Found:
    """The drawn sample, or whatever source.pickapic_v1 names, or links to the files in a folder."""
    source = params.source.pickafilter
    if source == "sample":
        return Found(SAMPLE, make=drawn_scenes.write)
    if source == "pickapic_v1":
        return pickapic_v1.find(params)
    links = pickapic_files.from_folder(source, "source.pickafilter")
    return Found(
        f"Pick-a-Pic's format, from {source}",
        links=links,
        check=lambda: pickapic_files.check(links, pixels=True),
    )


def prepare(params: Params, files: dict[str, Path], out: Path) -> dict[str, int]:
    """Write items and pairs, and table3.json: how many pairs there are, in the shape of the paper's table."""
    knobs = params.prepare.pickafilter
    kept = pickapic.load(files, ties="drop")
    kept = kept.without("test_unique", kept.rows["split"] == "test_unique")
    people = count_labels(kept.rows)
    both = people.filter((pl.col("train") > 0) & (pl.col("test") > 0))
    kept = kept.without("users_not_in_both", ~kept.rows["user_id"].is_in(both["user_id"].implode()))
    chosen = both.filter(pl.col("labels") > knobs.min_labels)
    kept = kept.without("users_with_few_labels", ~kept.rows["user_id"].is_in(chosen["user_id"].implode()))
    rows = _place(kept.rows, assign(chosen, knobs, params.prepare.seed))
    table: dict[str, Any] = {"pairs": table3(rows)}
    if params.source.pickafilter == "pickapic_v1":
        table["published"] = PUBLISHED
    write_json(out / "table3.json", table)
    users = {"users_in_both": len(both)}
    return kept.counts() | users | pickapic.write(rows, kept.images, out)


def count_labels(rows: pl.DataFrame) -> pl.DataFrame:
    """Each user's rows in train, in test, and labels, which are both together."""
    counted = rows.group_by("user_id").agg(
        *[(pl.col("split") == split).sum().cast(pl.Int64).alias(split) for split in ("train", "test")]
    )
    return counted.with_columns(labels=pl.col("train") + pl.col("test"))


def assign(people: pl.DataFrame, knobs: PreparePickafilter, seed: int) -> pl.DataFrame:
    """Put users into two groups with like totals, and call the busiest of each seen.

    Users come in the order of their labels, most first. Of each four the outer two go to one group and the
    inner two to the other, and a coin says which: random, and yet the totals match as published (D19).

    Returns:
        user_id, group and users.

    Raises:
        PipelineError: If a group has no user left to be unseen.
    """
    ordered = people.sort(["labels", "user_id"], descending=[True, False])
    group = snake(len(ordered), np.random.default_rng(seed))
    place = np.zeros(len(ordered), dtype=int)
    for one in (0, 1):
        place[group == one] = np.arange((group == one).sum())
    smaller = len(ordered) // 2
    if smaller <= knobs.seen_users_per_group:
        raise PipelineError(
            "prepare.pickafilter.seen_users_per_group must leave unseen users in both groups, got "
            f"{knobs.seen_users_per_group} of groups of {smaller} and {len(ordered) - smaller} users with "
            f"train and test comparisons and more than {knobs.min_labels} labels; lower it or min_labels"
        )
    return ordered.select(
        "user_id",
        group=pl.Series(np.array(GROUPS)[group]),
        users=pl.Series(np.where(place < knobs.seen_users_per_group, "seen", "unseen")),
    )


def snake(count: int, rng: np.random.Generator) -> np.ndarray:
    """Groups 0 and 1 of users in order: 0 1 1 0 or 1 0 0 1, by a coin for each four."""
    coins = rng.integers(2, size=count // 4 + 1)
    return (np.array([0, 1, 1, 0])[None] ^ coins[:, None]).ravel()[:count]


def _place(rows: pl.DataFrame, groups: pl.DataFrame) -> pl.DataFrame:
    """An unseen user's train rows are those to locate the user from (D21)."""
    rows = rows.join(groups, on="user_id", how="left", maintain_order="left")
    place = pl.col("split").cast(pl.String).replace_strict(pickapic.PLACES)
    located = (place == "train") & (pl.col("users") == "unseen")
    return rows.with_columns(split=pl.when(located).then(pl.lit("adapt")).otherwise(place))


def table3(rows: pl.DataFrame) -> dict[str, dict[str, list[int]]]:
    """Train (of unseen users: adapt), val and test pairs of each group: seen, unseen and both."""
    counts = {key: count for *key_, count in rows.group_by("group", "users", "split").len().iter_rows()
              for key in [tuple(key_)]}  # fmt: skip
    table: dict[str, dict[str, list[int]]] = {}
    for group in GROUPS:
        seen = [counts.get((group, "seen", split), 0) for split in ("train", "val", "test")]
        unseen = [counts.get((group, "unseen", split), 0) for split in ("adapt", "val", "test")]
        table[group] = {
            "seen": seen,
            "unseen": unseen,
            "total": [a + b for a, b in zip(seen, unseen, strict=True)],
        }
    return table
