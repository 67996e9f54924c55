"""Which comparisons are learned from and which are held out, of which people.

People and items are held out whole, so that nothing that is tested on gives itself away in training.
"""

from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from pal.config import Config, Number, Share


class Shares(Config):
    """Shares by which is drawn who is unseen, and which items and pairs are held out."""

    unseen_users: Share = 0.2
    new_items: Share = 0.1
    val: Share = 0.1
    test: Annotated[Number, Field(gt=0, lt=1)] = 0.2
    adapt: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    min_pairs: Annotated[int, Field(ge=2)] = 2
    by: Literal["items", "pairs", "time"] = "items"

    @model_validator(mode="after")
    def _leaves_some_to_train_on(self) -> "Shares":
        if self.val + self.test >= 1:
            raise ValueError(
                f"val + test must be below 1, got {self.val} + {self.test}; the rest is trained on"
            )
        return self

    def n_unseen(self, n_users: int) -> int:
        """How many of the users with enough pairs are kept unseen; one at least is seen."""
        return min(round(self.unseen_users * n_users), max(0, n_users - 1))


def hold_out(
    frame: pl.DataFrame, shares: Shares, seed: int, *, users: list[str], prompts: list[str]
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Places by shares: whole users are kept unseen, some items are kept new, the rest is held out per user.

    By `items` a user is tested on responses that the user has compared with nothing in training (`_place`).
    By `time` a seen user trains on the earliest pairs, then come val and test; an unseen user adapts from the
    earliest and is tested on later ones. Pairs on new items are tested on whenever they were. Among pairs of
    the same time the draw decides, as it does among all otherwise.

    A row of the frame is a user's question: pair_id, the numbers user, prompt (-1: none), low and high of its
    responses, and time. `users` and `prompts` are names by number, whose order decides what is drawn. Of
    pairs with a place pair_id, users (seen, unseen) and split (train, val, test, adapt) are returned, and how
    many have none: mixed joins a new item with a known one, across two parts, few had too few pairs.
    """
    rng = np.random.default_rng(seed)
    kept, mixed = _mark_new(frame, prompts, shares.new_items, rng)
    counts = kept.group_by("user").len().filter(pl.col("len") >= shares.min_pairs)
    many = sorted(counts["user"], key=users.__getitem__)
    unseen = rng.permutation(many)[: shares.n_unseen(len(many))].tolist()
    kept = kept.filter(pl.col("user").is_in(many))
    kept = kept.with_columns(
        unseen=pl.col("user").is_in(unseen),
        draw=pl.Series(rng.permutation(len(kept))),
        block=pl.Series(linked_pairs(kept) if shares.by == "items" else np.arange(len(kept))),
    )
    placed = _place(kept, shares)
    n_across = placed["part"].null_count()
    placed = placed.drop_nulls("part").filter((pl.col("part") == "learn").any().over("user"))
    learn = pl.when("unseen").then(pl.lit("adapt")).otherwise(pl.lit("train"))
    placed = placed.select(
        "pair_id",
        users=pl.when("unseen").then(pl.lit("unseen")).otherwise(pl.lit("seen")),
        split=pl.when(pl.col("part") == "learn").then(learn).otherwise("part"),
    ).sort("pair_id")
    few = len(frame) - len(placed) - mixed - n_across
    return placed, {"mixed": mixed, "across": n_across, "few": few}


def on_known_items(prompt: np.ndarray, low: np.ndarray, high: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Whether training knows each pair's prompt or, where there are no prompts, both of its responses.

    Prompts (-1: none) and responses are given by number; `train` marks the pairs that are trained on.
    """
    if (prompt >= 0).any():
        # The last place is that of pairs without a prompt: where others have one, nothing knows theirs.
        known = np.zeros(int(prompt.max()) + 2, dtype=bool)
        known[prompt[train]] = True
        known[-1] = False
        return known[prompt]
    known = np.zeros(max(low.max(initial=0), high.max(initial=0)) + 1, dtype=bool)
    known[low[train]] = known[high[train]] = True
    return known[low] & known[high]


def _mark_new(
    frame: pl.DataFrame, prompts: list[str], share: float, rng: np.random.Generator
) -> tuple[pl.DataFrame, int]:
    """Say of each pair whether it is on a new item, and count what was left out as neither new nor known.

    New is a share of the prompts or, where there are none, of the responses; then a pair of a new response
    with a known one is left out.
    """
    if (frame["prompt"] >= 0).any():
        order = rng.permutation(sorted(range(len(prompts)), key=prompts.__getitem__))
        new = order[: round(share * len(order))].tolist()
        return frame.with_columns(new=pl.col("prompt").is_in(new)), 0
    questions = frame.select(pl.lit(0).alias("block"), "low", "high").unique(maintain_order=True)
    items = _items_as_drawn(questions.with_columns(draw=pl.Series(rng.permutation(len(questions)))))
    new = items.filter(pl.col("place") < (share * pl.col("n")).round())["item"].to_list()
    low, high = (pl.col(side).is_in(new) for side in ("low", "high"))
    kept = frame.filter(low == high).with_columns(new=low)
    return kept, len(frame) - len(kept)


def _items_as_drawn(pairs: pl.DataFrame) -> pl.DataFrame:
    """The n items of each block, and each one's place as pairs of the block are drawn that name them."""
    sides = [pairs.select("block", pl.col(side).alias("item"), "draw") for side in ("low", "high")]
    items = pl.concat(sides).group_by("block", "item").agg(pl.col("draw").min()).sort("draw", "item")
    return items.with_columns(place=pl.int_range(pl.len()).over("block"), n=pl.len().over("block"))


def linked_pairs(frame: pl.DataFrame) -> np.ndarray:
    """Each pair's block: pairs of one user that share a response to one prompt, and pairs that link these.

    The frame has the numbers user, prompt (-1: none), low and high of each pair.
    """
    from scipy.sparse import coo_array  # takes a third of what every stage's start takes
    from scipy.sparse.csgraph import connected_components

    sides = [frame.select("user", "prompt", pl.col(side).alias("item")) for side in ("low", "high")]
    items = pl.concat(sides).with_row_index("row")
    first = items.select(pl.col("row").first().over("user", "prompt", "item"))
    low, high = first["row"].to_numpy().reshape(2, -1)
    graph = coo_array((np.ones(len(low), bool), (low, high)), shape=(len(items), len(items)))
    return connected_components(graph, directed=False)[1][low]


def _place(frame: pl.DataFrame, shares: Shares) -> pl.DataFrame:
    """Each pair's part, which is learn, val or test, or null where a pair joins items of two parts.

    Of a seen user's pairs those on new items are tested on. Of the others whole blocks are dealt: test takes
    the latest, then val; learn has the rest, one block at least. Of an unseen user's blocks those on new
    items come first. Of a block of more than half of a user's pairs the items are dealt.
    """
    fixed = frame.filter("new", ~pl.col("unseen")).with_columns(part=pl.lit("test"))
    rest = frame.filter(~pl.col("new") | pl.col("unseen"))
    rest = rest.with_columns(big=2 * pl.len().over("block") > pl.len().over("user"))
    rest = rest.with_columns(has_big=pl.col("big").any().over("user"))
    key = ["user", "unseen", "block", "has_big"]
    blocks = rest.filter(~pl.col("big")).group_by(key)
    blocks = blocks.agg(pl.col("new").any(), pl.col("time").max(), pl.col("draw").min(), n=pl.len())
    blocks = blocks.sort("new", "time", "draw", descending=[True, True, False])
    blocks = blocks.with_columns(
        before=(pl.col("n").cum_sum() - pl.col("n")).over("user"),
        last=pl.col("block") == pl.col("block").last().over("user"),
        n=pl.col("n").sum().over("user"),
    )
    n_test, n_val = _sizes(shares, at_least=pl.min_horizontal(1, pl.col("n") - 1))
    part = _part(pl.col("before"), n_test, n_val)
    # Beside a big block there is enough to learn from, so that new items need not be.
    new = pl.when(pl.col("new") & pl.col("has_big")).then(pl.lit("test"))
    blocks = blocks.with_columns(part=new.when("last").then(pl.lit("learn")).otherwise(part))
    whole = rest.filter(~pl.col("big")).join(blocks.select("block", "part"), on="block")
    # Two items at least, which a pair joins, since items come as pairs are drawn.
    big = rest.filter("big")
    n_test, n_val = _sizes(shares, at_least=2)
    items = _items_as_drawn(big).join(big.select("block", "unseen").unique(), on="block")
    items = items.select("block", "item", part=_part(pl.col("place"), n_test, n_val))
    for side in ("low", "high"):
        big = big.join(items.rename({"item": side, "part": f"{side}_part"}), on=["block", side])
    both = pl.when(pl.col("low_part") == pl.col("high_part")).then("low_part")
    big = big.with_columns(part=both)
    # As where one response is compared with each of the others: there is nothing to test apart.
    dealt = (pl.col("part") == "learn").any().over("block")
    big = big.with_columns(part=pl.when(dealt).then("part").otherwise(pl.lit("learn")))
    columns = ["pair_id", "user", "unseen", "part"]
    return pl.concat([part.select(columns) for part in (fixed, whole, big)])


def _sizes(shares: Shares, at_least: pl.Expr | int) -> tuple[pl.Expr, pl.Expr]:
    """How many of n are tested on, and how many validate, by the user's half; something is left to learn."""
    n = pl.col("n").cast(pl.Int64)
    n_test = pl.max_horizontal((n * shares.test).round().cast(pl.Int64), at_least)
    n_adapt = pl.max_horizontal((n * shares.adapt).round().cast(pl.Int64), 1)
    n_test = pl.when("unseen").then(pl.max_horizontal(n - n_adapt, at_least)).otherwise(n_test)
    n_val = pl.min_horizontal((n * shares.val).round().cast(pl.Int64), n - n_test - 1)
    return n_test, pl.when(pl.col("unseen") | (n_val < at_least)).then(0).otherwise(n_val)


def _part(place: pl.Expr, n_test: pl.Expr, n_val: pl.Expr) -> pl.Expr:
    """test, val or learn, by the place among those to be dealt."""
    held = pl.when(place < n_test).then(pl.lit("test")).when(place < n_test + n_val).then(pl.lit("val"))
    return held.otherwise(pl.lit("learn"))
