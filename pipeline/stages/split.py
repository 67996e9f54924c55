"""split: mark users seen or unseen, and their pairs train, adapt, val or test.

Everything later reads a pair's place from here. A pair is never in two places, no user is in both halves,
and what could not be placed is counted, as are test pairs of which the user compared a response in training.
"""

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pal.files import new_folder
from pipeline import PipelineError, params, paths
from pipeline.datasets.base import SplitShares
from pipeline.storage import tables
from pipeline.storage.manifests import write_manifest
from pipeline.storage.tables import Coded

# Why pairs have no place where places are drawn.
REASONS = {
    "mixed": "{:,} pairs of a new response with a known one were dropped (own.split.new_items)",
    "across": "{:,} pairs of an item that a user trains on with one held out of that user were dropped "
    "(own.split.by: items; pairs keeps them)",
    "few": "{:,} pairs of {:,} users with too few pairs were dropped (own.split.min_pairs)",
}
COLUMNS = ["pair_id", "user_id", "prompt", "chosen", "rejected", "users", "split"]


def main(dataset: str) -> None:
    """Split one dataset."""
    values = params.load()
    shares = values[dataset].split
    path, made_by = paths.recoloured(dataset) / tables.PAIRS, f"recolour@{dataset}"
    pairs = tables.read_coded(path, made_by, COLUMNS)
    counts, said = {"read": len(pairs)}, []
    if isinstance(shares, SplitShares) and (pairs["split"] < 0).all():
        times = tables.read_table(path, made_by, ["time"])["time"] if shares.by == "time" else None
        placed, dropped = draw_places(pairs, shares, values.split.seed, times)
        counts |= {f"{reason}_dropped": n for reason, n in dropped.items()}
    else:
        placed, dropped = declared_places(pairs, dataset), {}
        if isinstance(shares, SplitShares):
            said = ["the file's column `split` says who is where; own.split is not used"]
    splits = mark_items(pairs, placed)
    check_places(splits, dataset)
    counts |= {"kept": len(splits), "dropped": len(pairs) - len(splits)}
    users = pairs["user_id"]
    kept = users[tables.rows_of(pairs["pair_id"], splits["pair_id"].to_numpy())]
    n_users, n_kept = (int(np.count_nonzero(np.bincount(codes))) for codes in (users, kept))
    counts["users_dropped"] = n_users - n_kept
    said += [REASONS[reason].format(n, n_users - n_kept) for reason, n in dropped.items() if n]
    groups = splits.group_by("users", "split", "items").len().iter_rows()
    places = {".".join(place): count for *place, count in sorted(groups)}
    leaks = leakage(pairs, splits)
    if dataset == "own" and (repeats := leaks["answers_in_train_and_test"]):
        raise PipelineError(
            f"no question of a user of own may be trained and tested on, got {repeats:,}; run `dvc repro -f "
            "prepare@own`, which makes one comparison of a user's answers to one question"
        )
    notes = sharing_note(leaks["tests_sharing_items"], int((splits["split"] == "test").sum()), dataset)
    with new_folder(paths.splits(dataset)) as out:
        blocks = splits.iter_slices(tables.BLOCK_ROWS)
        tables.write_blocks(out / tables.SPLITS, blocks, tables.splits_schema())
        write_manifest(out, counts, out / tables.SPLITS, places=places, leakage=leaks, notes=notes)
    each = ", ".join(f"{count:,} {place.replace('.', ' ')}" for place, count in places.items())
    for sentence in (each, *said, *notes):
        print(f"split@{dataset}: {sentence}")


def sharing_note(sharing: int, tests: int, dataset: str) -> list[str]:
    """A sentence on test pairs of which their user has compared a response in training, if there are any."""
    if not sharing:
        return []
    advice = "; own.split.by: items keeps them apart" if dataset == "own" else ""
    return [
        f"In {sharing:,} of {tests:,} test pairs ({sharing / tests:.1%}) is a response, to the same prompt, "
        f"that the same user compared in training: accuracy is higher there than on others{advice}."
    ]


def declared_places(pairs: Coded, dataset: str) -> pl.DataFrame:
    """Places as prepare or the user's own `split` column say.

    Raises:
        PipelineError: If a pair has none.
    """
    missing = int(((pairs["split"] < 0) | (pairs["users"] < 0)).sum())
    if missing:
        raise PipelineError(
            f"every pair of {dataset} must name its split, got none in {missing:,} of {len(pairs):,} pairs; "
            f"run `dvc repro -f prepare@{dataset}`"
        )
    places = {
        name: tables.words(pairs[name], pairs.names[name], known)
        for name, known in (("users", tables.USERS), ("split", tables.SPLIT_NAMES))
    }
    return pl.DataFrame({"pair_id": pairs["pair_id"], **places})


def draw_places(
    pairs: Coded, shares: SplitShares, seed: int, times: pl.Series | None = None
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Places by shares: whole users are kept unseen, some items are kept new, the rest is held out per user.

    By `items` a user is tested on responses that the user has compared with nothing in training (`_place`).
    By `time` a seen user trains on the earliest pairs, then come val and test; an unseen user adapts from the
    earliest and is tested on later ones. Pairs on new items are tested on whenever they were. Among pairs of
    the same time the draw decides, as it does among all otherwise.

    Args:
        pairs: COLUMNS, a user's question in one row.
        shares: How much goes where.
        seed: The same seed gives the same places.
        times: When each pair was answered, where pairs are held out by time.

    Returns:
        The places of the pairs that have one, and how many have none, by the reasons of REASONS.

    Raises:
        PipelineError: If too few users are left to keep some unseen, or a pair that is to be held out by time
            has none.
    """
    rng = np.random.default_rng(seed)
    if times is not None and (without := times.null_count()):
        raise PipelineError(
            f"own.split.by is time, but {without:,} of {len(pairs):,} pairs have no timestamp; fill in "
            "the column timestamp, or set own.split.by to items"
        )
    ends = pairs["chosen"].astype(np.int64), pairs["rejected"].astype(np.int64)
    frame = pl.DataFrame(
        {
            "pair_id": pairs["pair_id"],
            "user": pairs["user_id"].astype(np.int64),
            "prompt": pairs["prompt"].astype(np.int64),
            "low": np.minimum(*ends),
            "high": np.maximum(*ends),
            "time": np.zeros(len(pairs), np.int64) if times is None else times.cast(pl.Int64),
        }
    )
    kept, mixed = _mark_new(frame, pairs.names["prompt"], shares.new_items, rng)
    counts = kept.group_by("user").len().filter(pl.col("len") >= shares.min_pairs)
    users = sorted(counts["user"], key=pairs.names["user_id"].__getitem__)
    unseen = rng.permutation(users)[: shares.n_unseen(len(users))].tolist()
    kept = kept.filter(pl.col("user").is_in(users))
    kept = kept.with_columns(
        unseen=pl.col("user").is_in(unseen),
        draw=pl.Series(rng.permutation(len(kept))),
        block=pl.Series(_blocks(kept) if shares.by == "items" else np.arange(len(kept))),
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


def _blocks(frame: pl.DataFrame) -> np.ndarray:
    """Each pair's block: pairs of one user that share a response to one prompt, and pairs that link these."""
    sides = [frame.select("user", "prompt", pl.col(side).alias("item")) for side in ("low", "high")]
    items = pl.concat(sides).with_row_index("row")
    low, high = (
        items.select(pl.col("row").first().over("user", "prompt", "item"))["row"].to_numpy().reshape(2, -1)
    )
    graph = coo_array((np.ones(len(low), bool), (low, high)), shape=(len(items), len(items)))
    return connected_components(graph, directed=False)[1][low]


def _place(frame: pl.DataFrame, shares: SplitShares) -> pl.DataFrame:
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
    blocks = (
        rest.filter(~pl.col("big"))
        .group_by(key)
        .agg(pl.col("new").any(), pl.col("time").max(), pl.col("draw").min(), n=pl.len())
    )
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


def _sizes(shares: SplitShares, at_least: pl.Expr | int) -> tuple[pl.Expr, pl.Expr]:
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


def mark_items(pairs: Coded, placed: pl.DataFrame) -> pl.DataFrame:
    """Say of each pair whether training knows its prompt or, where there are no prompts, both responses."""
    rows = tables.rows_of(pairs["pair_id"], placed["pair_id"].to_numpy())
    prompt, chosen, rejected = (pairs[name][rows] for name in ("prompt", "chosen", "rejected"))
    train = (placed["split"] == "train").to_numpy()
    if (prompt >= 0).any():
        # The last place is that of pairs without a prompt: where others have one, nothing knows theirs.
        known = np.zeros(len(pairs.names["prompt"]) + 1, dtype=bool)
        known[prompt[train]] = True
        known[-1] = False
        marks = known[prompt]
    else:
        known = np.zeros(len(pairs.names["chosen"]), dtype=bool)
        known[chosen[train]] = known[rejected[train]] = True
        marks = known[chosen] & known[rejected]
    words = tables.words(np.where(marks, 0, 1), ["known", "new"])
    marked = placed.select("pair_id", "users", "split").with_columns(items=words)
    return marked if marked["pair_id"].is_sorted() else marked.sort("pair_id")


def check_places(splits: pl.DataFrame, dataset: str) -> None:
    """Hold the split to what training and evaluation need.

    Raises:
        PipelineError: If there is nothing to train on, to test on, or no unseen user. Unseen users need no
            adapt pairs: without any they are given the mean weights.
    """
    places = set(splits.select("users", "split").unique().iter_rows())
    for users, split in (("seen", "train"), ("seen", "test"), ("unseen", "test")):
        if (users, split) not in places:
            raise PipelineError(
                f"the split of {dataset} must have {split} pairs of {users} users, got none; "
                f"add data or change {dataset}.split in {paths.PARAMS}"
            )


def leakage(pairs: Coded, splits: pl.DataFrame) -> dict[str, int]:
    """What test shares with train: the same answer of one user, the same question, prompts, items, users.

    tests_sharing_items counts the test pairs of which the user has compared a response, to the same prompt,
    in training, or for unseen users among the adapt pairs: A > B and B > C tell A > C.
    """
    rows = tables.rows_of(pairs["pair_id"], splits["pair_id"].to_numpy())
    first, second = pairs["chosen"][rows], pairs["rejected"][rows]
    frame = pl.DataFrame(
        {
            "user": pairs["user_id"][rows],
            "prompt": pairs["prompt"][rows],
            "low": np.minimum(first, second),
            "high": np.maximum(first, second),
        }
    )
    train, adapt, test = (frame.filter(splits["split"] == half) for half in ("train", "adapt", "test"))
    responses = [pl.concat([half["low"], half["high"]]).unique().to_frame() for half in (train, test)]
    return {
        "answers_in_train_and_test": _shared(train, test, "user", "prompt", "low", "high"),
        "questions_in_train_and_test": _shared(train, test, "prompt", "low", "high"),
        "prompts_in_train_and_test": _shared(train, test.filter(pl.col("prompt") >= 0), "prompt"),
        "responses_in_train_and_test": _shared(*responses, "low"),
        "users_in_train_and_test": _shared(train, test, "user"),
        "tests_sharing_items": _sharing_items([train, adapt], test),
    }


def _sharing_items(learned: list[pl.DataFrame], test: pl.DataFrame) -> int:
    """How many test pairs have an item (a response to a prompt) that learned pairs of the same user have."""
    key, rows = ["user", "prompt", "item"], test.with_row_index("row")
    fresh = pl.concat(
        [rows.select("row", "user", "prompt", pl.col(side).alias("item")) for side in ("low", "high")]
    )
    for half in learned:
        for block in half.iter_slices(tables.BLOCK_ROWS):
            for side in ("low", "high"):
                fresh = fresh.join(block.rename({side: "item"}).select(key), on=key, how="anti")
    return len(test) - int((fresh.group_by("row").len()["len"] == 2).sum())


def _shared(train: pl.DataFrame, test: pl.DataFrame, *columns: str) -> int:
    """How many distinct rows of the test, by these columns, training holds too."""
    distinct = rest = test.select(columns).unique()
    # In blocks: training may have sixty million rows.
    for block in train.select(columns).iter_slices(tables.BLOCK_ROWS):
        rest = rest.join(block, on=columns, how="anti")
    return len(distinct) - len(rest)
