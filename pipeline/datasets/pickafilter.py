"""Pick-a-Filter: two groups of Pick-a-Pic's people who differ in the colour that they like (PAL, appendix D).

People are chosen, put into groups, and called seen or unseen; then pictures get colour filters. A filter is a
property of an item, applied when its pixels are decoded; no pixel is stored twice.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field

from pal.config import Config, Number
from pal.files import write_json
from pipeline import PipelineError
from pipeline.datasets import base, drawn_scenes, pickapic

TITLE = "Pick-a-Filter"
ABOUT = (
    "Pick-a-Filter: comparisons of pictures for a prompt, some of which got a colour filter; users of "
    "one group like a cool one, users of the other a warm one."
)
ITEMS_APART = False
GROUPS = ("cool", "warm")
SPLITS = ("train", "val", "test")
SAMPLE = "sample: scenes drawn by this program, simulated people"
# Table 3 of the paper: train, val and test pairs.
PUBLISHED = {
    "cool": {"seen": (58_831, 628, 1_597), "unseen": (9_527, 79, 1_886), "total": (68_358, 707, 3_483)},
    "warm": {"seen": (57_200, 404, 2_096), "unseen": (9_402, 52, 1_812), "total": (66_602, 456, 3_908)},
}
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class Recolour(Config):
    """Which pairs of pictures get colour filters, and what a filter does to a picture (D20, D22)."""

    beta: Annotated[Number, Field(ge=0, le=1)]
    cool: Colour
    warm: Colour
    strength: Annotated[Number, Field(gt=0, le=1)]

    def of_group(self, group: str) -> str:
        """A group's filter as the text that items carry; a colour's upper and lower case are one filter."""
        text = f"mix {getattr(self, group).lower()} {self.strength:.6f}"
        return text.rstrip("0").rstrip(".")


class Prepare(Config):
    """Who takes part in Pick-a-Filter, and who of them is seen (PAL, appendix D)."""

    min_labels: base.Count
    seen_users_per_group: base.AtLeastOne
    recolour: Recolour


class Params(base.DatasetParams):
    """The section pickafilter of params.yaml."""

    prepare: Prepare


def find(params: "base.AllParams") -> base.Source:
    """The drawn sample, or whatever pickapic_v1.source names, or links to the files in a folder."""
    source = params.pickafilter.source
    if source == "sample":
        return base.Source(SAMPLE, make=lambda folder, _: drawn_scenes.write(folder))
    if source == "pickapic_v1":
        return pickapic.find(params)
    return pickapic.source_of(source, "pickafilter.source", None, "Pick-a-Pic's format,")


def prepare(params: "base.AllParams", files: dict[str, Path], out: Path) -> dict[str, int]:
    """Write items and pairs, and table3.json: how many pairs there are, in the shape of the paper's table."""
    options = params.pickafilter.prepare
    kept, images = pickapic.load(files, ties="drop")
    kept.keep(pl.col("split") != "test_unique", "test_unique")
    counted = {split: (pl.col("split") == split).sum().cast(pl.Int64) for split in ("train", "test")}
    people = kept.rows.group_by("user_id").agg(**counted)
    people = people.with_columns(labels=pl.col("train") + pl.col("test"))
    both = people.filter((pl.col("train") > 0) & (pl.col("test") > 0))
    kept.keep(pl.col("user_id").is_in(both["user_id"].implode()), "users_not_in_both")
    chosen = both.filter(pl.col("labels") > options.min_labels)
    kept.keep(pl.col("user_id").is_in(chosen["user_id"].implode()), "users_with_few_labels")
    groups = assign(chosen, options, params.prepare.seed)
    rows = kept.rows.join(groups, on="user_id", how="left", maintain_order="left")
    place = pl.col("split").cast(pl.String).replace_strict(pickapic.PLACES)
    # An unseen user's train rows are those to locate the user from (D21).
    located = (place == "train") & (pl.col("users") == "unseen")
    rows = rows.with_columns(split=pl.when(located).then(pl.lit("adapt")).otherwise(place))
    published = PUBLISHED if params.pickafilter.source == "pickapic_v1" else {}
    write_json(out / "table3.json", table3(rows, published))
    rows = put_filters(rows, options.recolour, params.prepare.seed)
    counts = {"users_in_both": len(both), "unfiltered": rows["filtered"].null_count()}
    counts |= {f"{word}_filtered": int((rows["filtered"] == word).sum()) for word in ("winner", "loser")}
    return kept.counts() | counts | pickapic.write(rows, images, out)


def assign(people: pl.DataFrame, options: Prepare, seed: int) -> pl.DataFrame:
    """Put users into two groups with like totals, and call the busiest of each seen: user_id, group, users.

    By labels, most first, of each four users the outer two go to one group and the inner two to the other,
    and a coin says which: random, and yet the totals match as published (D19).
    """
    ordered = people.sort(["labels", "user_id"], descending=[True, False])
    coins = np.random.default_rng(seed).integers(2, size=len(ordered) // 4 + 1)
    group = (np.array([0, 1, 1, 0])[None] ^ coins[:, None]).ravel()[: len(ordered)]
    place = np.where(group == 0, np.cumsum(group == 0), np.cumsum(group == 1))  # from 1, within the group
    smaller = len(ordered) // 2
    if smaller <= options.seen_users_per_group:
        raise PipelineError(
            "pickafilter.prepare.seen_users_per_group must leave unseen users in both groups, got "
            f"{options.seen_users_per_group} of groups of {smaller} and {len(ordered) - smaller} users with "
            f"train and test comparisons and more than {options.min_labels} labels; lower it or min_labels"
        )
    return ordered.select(
        "user_id",
        group=pl.Series(np.array(GROUPS)[group]),
        users=pl.Series(np.where(place <= options.seen_users_per_group, "seen", "unseen")),
    )


def put_filters(rows: pl.DataFrame, options: Recolour, seed: int) -> pl.DataFrame:
    """Filter a share beta of each user's pairs, one half on the winner, the other on the loser, by the seed.

    The share is rounded to whole pairs, and a coin decides whom an odd one is for. A winner gets its group's
    colour, a loser the other. Adds `filtered` (winner, loser or null), `filter_0` and `filter_1`.
    """
    words = np.full(len(rows), None, dtype=object)
    for (user,), of_user in rows.select("user_id").with_row_index("row").group_by(["user_id"]):
        rng = np.random.default_rng(int(hashlib.sha256(f"{seed}|{user}".encode()).hexdigest(), 16))
        order = of_user["row"].to_numpy()[rng.permutation(len(of_user))]
        n_filtered = int(options.beta * len(of_user) + 0.5)
        n_winners = (n_filtered + int(rng.integers(2))) // 2
        words[order[:n_winners]] = "winner"
        words[order[n_winners:n_filtered]] = "loser"
    rows = rows.with_columns(filtered=pl.Series(words.tolist(), dtype=pl.String))
    colours = [options.of_group(group) for group in GROUPS]
    own, other = (pl.col("group").replace_strict(GROUPS, each) for each in (colours, colours[::-1]))
    for side in (0, 1):
        wins = pl.col("label") == 1 - side
        filtered = pl.when(wins & (pl.col("filtered") == "winner")).then(own)
        filtered = filtered.when(~wins & (pl.col("filtered") == "loser")).then(other)
        rows = rows.with_columns(filtered.otherwise(None).alias(f"filter_{side}"))
    return rows


def table3(rows: pl.DataFrame, published: dict[str, dict[str, tuple[int, ...]]]) -> list[dict[str, Any]]:
    """Numbers of train (or adapt), val and test pairs as in the paper's Table 3, beside its own if given."""
    places = rows.group_by("group", "users", "split").len().iter_rows()
    counts = {tuple(place): count for *place, count in places}
    table = []
    for group in GROUPS:
        seen = [counts.get((group, "seen", split), 0) for split in SPLITS]
        unseen = [counts.get((group, "unseen", split), 0) for split in ("adapt", *SPLITS[1:])]
        total = [a + b for a, b in zip(seen, unseen, strict=True)]
        for users, numbers in (("seen", seen), ("unseen", unseen), ("total", total)):
            paper = published.get(group, {}).get(users, ())
            row = {"group": f"{group}, {users}", **dict(zip(SPLITS, numbers, strict=True))}
            table.append({**row, **{f"{s}_published": n for s, n in zip(SPLITS, paper, strict=False)}})
    return table
