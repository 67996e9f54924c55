"""split: mark users seen or unseen, and their pairs train, adapt, val or test.

Everything later reads a pair's place from here. A pair is never in two places, no user is in both halves,
and what could not be placed is counted.
"""

import numpy as np
import polars as pl

from pal.files import new_folder
from pipeline import PipelineError, params, paths
from pipeline.datasets.base import SplitShares
from pipeline.storage import tables
from pipeline.storage.manifests import write_manifest
from pipeline.storage.tables import Coded

COLUMNS = ["pair_id", "user_id", "prompt", "chosen", "rejected", "users", "split"]


def main(dataset: str) -> None:
    """Split one dataset."""
    values = params.load()
    shares = values[dataset].split
    path, made_by = paths.recoloured(dataset) / tables.PAIRS, f"recolour@{dataset}"
    pairs = tables.read_coded(path, made_by, COLUMNS)
    if isinstance(shares, SplitShares):
        whole = tables.read_table(path, made_by, ["pair_id", "user_id", "prompt", "time"])
        placed = draw_places(whole, shares, values.split.seed)
    else:
        placed = declared_places(pairs, dataset)
    splits = mark_items(pairs, placed)
    check_places(splits, dataset)
    counts = {"read": len(pairs), "kept": len(splits), "dropped": len(pairs) - len(splits)}
    users = pairs["user_id"]
    kept = users[tables.rows_of(pairs["pair_id"], splits["pair_id"].to_numpy())]
    n_users, n_kept = (int(np.count_nonzero(np.bincount(codes))) for codes in (users, kept))
    counts["users_dropped"] = n_users - n_kept
    groups = splits.group_by("users", "split", "items").len().iter_rows()
    places = {".".join(place): count for *place, count in sorted(groups)}
    with new_folder(paths.splits(dataset)) as out:
        blocks = splits.iter_slices(tables.BLOCK_ROWS)
        tables.write_blocks(out / tables.SPLITS, blocks, tables.splits_schema())
        write_manifest(out, counts, out / tables.SPLITS, places=places, leakage=leakage(pairs, splits))
    said = ", ".join(f"{count:,} {place.replace('.', ' ')}" for place, count in places.items())
    print(f"split@{dataset}: {said}")
    if counts["dropped"]:
        print(
            f"split@{dataset}: {counts['dropped']:,} pairs of {counts['users_dropped']:,} users with too few "
            f"pairs were dropped ({dataset}.split.min_pairs)"
        )


def declared_places(pairs: Coded, dataset: str) -> pl.DataFrame:
    """Places as prepare or the user's own `split` column say.

    Raises:
        PipelineError: If a pair has none.
    """
    missing = int(((pairs["split"] < 0) | (pairs["users"] < 0)).sum())
    if missing:
        raise PipelineError(
            f"{dataset}.split is as_prepared, but {missing:,} of {len(pairs):,} pairs name no split; "
            "give the data a `split` column, or set own.split to shares"
        )
    places = {
        name: tables.words(pairs[name], pairs.names[name], known)
        for name, known in (("users", tables.USERS), ("split", tables.SPLIT_NAMES))
    }
    return pl.DataFrame({"pair_id": pairs["pair_id"], **places})


def draw_places(pairs: pl.DataFrame, shares: SplitShares, seed: int) -> pl.DataFrame:
    """Places by shares: whole users are kept unseen, whole prompts are kept new, the rest per user.

    Where pairs are held out by time, a seen user trains on the earliest, then come val and test; an unseen
    user adapts from the earliest and is tested on later ones. Pairs on new prompts are tested on whenever
    they were. Among pairs of the same time the draw decides, as it does among all otherwise.

    Raises:
        PipelineError: If too few users are left to keep some unseen, or a pair that is to be held out by time
            has none.
    """
    rng = np.random.default_rng(seed)
    counts = pairs.group_by("user_id").len().filter(pl.col("len") >= shares.min_pairs)
    users = counts["user_id"].cast(pl.String).sort().to_numpy()
    n_unseen = round(shares.unseen_users * len(users))
    if not 1 <= n_unseen < len(users):
        raise PipelineError(
            "own.split.unseen_users must leave at least one user seen and one unseen, "
            f"got {shares.unseen_users} of {len(users)} users with at least {shares.min_pairs} pairs; "
            "add users or change the share"
        )
    unseen = set(rng.permutation(users)[:n_unseen])
    prompts = pairs["prompt"].cast(pl.String).drop_nulls().unique().sort().to_numpy()
    new = set(rng.permutation(prompts)[: round(shares.new_prompts * len(prompts))])
    time = pl.lit(0)
    if shares.by == "time":
        if without := pairs["time"].null_count():
            raise PipelineError(
                f"own.split.by is time, but {without:,} of {len(pairs):,} pairs have no timestamp; fill in "
                "the column timestamp, or set own.split.by to random"
            )
        time = pl.col("time").cast(pl.Int64)
    frame = pairs.select("pair_id", pl.col("user_id", "prompt").cast(pl.String), time.alias("time")).filter(
        pl.col("user_id").is_in(users.tolist())
    )
    frame = frame.with_columns(
        draw=pl.Series(rng.permutation(len(frame))),
        users=pl.when(pl.col("user_id").is_in(list(unseen))).then(pl.lit("unseen")).otherwise(pl.lit("seen")),
        new=pl.col("prompt").is_in(list(new)).fill_null(value=False),
    )
    return _place(frame, shares)


def _place(frame: pl.DataFrame, shares: SplitShares) -> pl.DataFrame:
    """Each pair's split, from its user's half, whether its prompt is new, its time and its draw.

    Of a seen user's pairs those on new prompts are tested on; of the others test takes the latest, then val;
    training has the rest, and a user left without any is dropped. Of an unseen user's pairs a share is to
    adapt from, the earliest, one at least; the rest is tested on.
    """
    seen = frame.filter(pl.col("users") == "seen").with_columns(
        place=pl.struct(-pl.col("time"), "draw").rank("ordinal").over("user_id", "new") - 1,
        n=pl.len().over("user_id", "new"),
    )
    n_test = pl.max_horizontal((pl.col("n") * shares.test).round(), (pl.col("n") > 1).cast(pl.Int64))
    n_val = pl.min_horizontal((pl.col("n") * shares.val).round(), pl.col("n") - n_test - 1)
    split = (
        pl.when(pl.col("new") | (pl.col("place") < n_test))
        .then(pl.lit("test"))
        .when(pl.col("place") < n_test + n_val)
        .then(pl.lit("val"))
        .otherwise(pl.lit("train"))
    )
    seen = seen.with_columns(split=split).filter((pl.col("split") == "train").any().over("user_id"))
    unseen = frame.filter(pl.col("users") == "unseen").with_columns(
        # Pairs on new prompts come last, so that they are tested on.
        place=pl.struct("new", "time", "draw").rank("ordinal").over("user_id") - 1,
        n=pl.len().over("user_id"),
    )
    n_adapt = (pl.col("n") * shares.adapt).round().clip(1, pl.col("n") - 1)
    split = pl.when(pl.col("place") < n_adapt).then(pl.lit("adapt")).otherwise(pl.lit("test"))
    columns = ["pair_id", "users", "split"]
    return pl.concat([seen.select(columns), unseen.with_columns(split=split).select(columns)]).sort("pair_id")


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
    """What test shares with train: the same answer of one user, the same question, prompts, items, users."""
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
    train, test = (frame.filter(splits["split"] == half) for half in ("train", "test"))
    responses = [pl.concat([half["low"], half["high"]]).unique().to_frame() for half in (train, test)]
    return {
        "answers_in_train_and_test": _shared(train, test, "user", "prompt", "low", "high"),
        "questions_in_train_and_test": _shared(train, test, "prompt", "low", "high"),
        "prompts_in_train_and_test": _shared(train, test.filter(pl.col("prompt") >= 0), "prompt"),
        "responses_in_train_and_test": _shared(*responses, "low"),
        "users_in_train_and_test": _shared(train, test, "user"),
    }


def _shared(train: pl.DataFrame, test: pl.DataFrame, *columns: str) -> int:
    """How many distinct rows of the test, by these columns, training holds too."""
    distinct = rest = test.select(columns).unique()
    # In blocks: training may have sixty million rows.
    for block in train.select(columns).iter_slices(tables.BLOCK_ROWS):
        rest = rest.join(block, on=columns, how="anti")
    return len(distinct) - len(rest)
