"""split: mark users seen or unseen, and their pairs train, adapt, val or test.

Everything later reads a pair's place from here. A pair is never in two places, no user is in both halves,
and what could not be placed is counted, as are test pairs of which the user compared a response in training.
"""

import numpy as np
import polars as pl

from pal.evaluation.holding_out import Shares, hold_out, on_known_items
from pal.files import new_folder
from pipeline import PipelineError, params, paths
from pipeline.storage import tables
from pipeline.storage.tables import Coded, write_manifest

# Why pairs have no place where places are drawn.
REASONS = {
    "mixed": "{:,} pairs of a new response with a known one were dropped ({dataset}.split.new_items)",
    "across": "{:,} pairs of an item that a user trains on with one held out of that user were dropped "
    "({dataset}.split.by: items; pairs keeps them)",
    "few": "{:,} pairs of {users:,} users with too few pairs were dropped ({dataset}.split.min_pairs)",
}
COLUMNS = ["pair_id", "user_id", "prompt", "chosen", "rejected", "users", "split"]


def main(dataset: str) -> None:
    """Split one dataset."""
    values = params.load()
    shares = values[dataset].split
    path, made_by = paths.prepared(dataset) / tables.PAIRS, f"prepare@{dataset}"
    pairs = tables.read_coded(path, made_by, COLUMNS)
    counts, said = {"read": len(pairs)}, []
    if isinstance(shares, Shares) and (pairs["split"] < 0).all():
        times = tables.read_table(path, made_by, ["time"])["time"] if shares.by == "time" else None
        placed, dropped = draw_places(pairs, shares, values.split.seed, times, dataset)
        counts |= {f"{reason}_dropped": n for reason, n in dropped.items()}
    else:  # as prepare or the user's own `split` column say
        known, dropped = {"users": tables.USERS, "split": tables.SPLIT_NAMES}, {}
        places = {name: tables.words(pairs[name], pairs.names[name], words) for name, words in known.items()}
        placed = pl.DataFrame({"pair_id": pairs["pair_id"], **places})
        if isinstance(shares, Shares):
            said = [f"the file's column `split` says who is where; {dataset}.split is not used"]
    splits = mark_items(pairs, placed)
    check_places(splits, dataset)
    counts |= {"kept": len(splits), "dropped": len(pairs) - len(splits)}
    users = pairs["user_id"]
    kept = users[tables.rows_of(pairs["pair_id"], splits["pair_id"].to_numpy())]
    n_users, n_kept = (int(np.count_nonzero(np.bincount(codes))) for codes in (users, kept))
    lost = counts["users_dropped"] = n_users - n_kept
    said += [REASONS[why].format(n, dataset=dataset, users=lost) for why, n in dropped.items() if n]
    groups = splits.group_by("users", "split", "items").len().iter_rows()
    counted = {".".join(place): count for *place, count in sorted(groups)}
    notes, n_tests = [], int((splits["split"] == "test").sum())
    if sharing := tests_sharing_items(pairs, splits):
        advice = f"; {dataset}.split.by: items keeps them apart" if isinstance(shares, Shares) else ""
        notes = [
            f"In {sharing:,} of {n_tests:,} test pairs ({sharing / n_tests:.1%}) is a response, to the same "
            "prompt, that the same user compared in training: accuracy is higher there than on others"
            f"{advice}."
        ]
    with new_folder(paths.splits(dataset)) as out:
        tables.write_table(out / tables.SPLITS, splits.iter_slices(tables.BLOCK_ROWS))
        write_manifest(out, counts=counts, places=counted, tests_sharing_items=sharing, notes=notes)
    each = ", ".join(f"{count:,} {place.replace('.', ' ')}" for place, count in counted.items())
    for sentence in (each, *said, *notes):
        print(f"split@{dataset}: {sentence}")


def draw_places(
    pairs: Coded, shares: Shares, seed: int, times: pl.Series | None = None, dataset: str = "own"
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Places by shares, of the pairs that have one, and how many have none by the reasons of REASONS.

    A row of `pairs` is a user's question; `times` say when it was answered, if they are held out by time.
    """
    if times is not None and (without := times.null_count()):
        raise PipelineError(
            f"{dataset}.split.by is time, but {without:,} of {len(pairs):,} pairs have no timestamp; fill in "
            f"the column timestamp, or set {dataset}.split.by to items"
        )
    # By the order of ids, which is the same whatever the order of rows.
    rank = np.argsort(np.argsort(np.array(pairs.names["chosen"], dtype=object)))
    ends = rank[pairs["chosen"]], rank[pairs["rejected"]]
    columns = {"pair_id": pairs["pair_id"], "low": np.minimum(*ends), "high": np.maximum(*ends)}
    columns |= {"user": pairs["user_id"].astype(np.int64), "prompt": pairs["prompt"].astype(np.int64)}
    columns["time"] = np.zeros(len(pairs), np.int64) if times is None else times.cast(pl.Int64)
    users, prompts = pairs.names["user_id"], pairs.names["prompt"]
    return hold_out(pl.DataFrame(columns), shares, seed, users=users, prompts=prompts)


def mark_items(pairs: Coded, placed: pl.DataFrame) -> pl.DataFrame:
    """Say of each pair whether training knows its prompt or, where there are no prompts, both responses."""
    rows = tables.rows_of(pairs["pair_id"], placed["pair_id"].to_numpy())
    prompt, chosen, rejected = (pairs[name][rows] for name in ("prompt", "chosen", "rejected"))
    train = (placed["split"] == "train").to_numpy()
    marks = on_known_items(prompt, chosen, rejected, train)
    words = tables.words(np.where(marks, 0, 1), ["known", "new"])
    marked = placed.select("pair_id", "users", "split").with_columns(items=words)
    return marked if marked["pair_id"].is_sorted() else marked.sort("pair_id")


def check_places(splits: pl.DataFrame, dataset: str) -> None:
    """Refuse a split without pairs to train on, or to test on. Unseen users need no adapt pairs."""
    places = set(splits.select("users", "split").unique().iter_rows())
    for users, split in (("seen", "train"), ("seen", "test"), ("unseen", "test")):
        if (users, split) not in places:
            raise PipelineError(
                f"the split of {dataset} must have {split} pairs of {users} users, got none; "
                f"add data or change {dataset}.split in {paths.PARAMS}"
            )


def tests_sharing_items(pairs: Coded, splits: pl.DataFrame) -> int:
    """How many test pairs have a response, to the same prompt, that the user compared in train or adapt."""
    rows = tables.rows_of(pairs["pair_id"], splits["pair_id"].to_numpy())
    frame = pl.DataFrame({name: pairs[name][rows] for name in ("user_id", "prompt", *tables.SIDES)})
    frame = frame.with_columns(pl.col(tables.SIDES).cast(pl.Int32))  # each has as few bytes as it needs
    key = ["user_id", "prompt", "item"]
    test = frame.filter(splits["split"] == "test").with_row_index("row")
    fresh = pl.concat([test.select("row", "user_id", "prompt", item=side) for side in tables.SIDES])
    learned = frame.filter(splits["split"].is_in(["train", "adapt"]))
    # In blocks: training may have sixty million rows.
    for block in learned.iter_slices(tables.BLOCK_ROWS):
        for side in tables.SIDES:
            fresh = fresh.join(block.rename({side: "item"}).select(key), on=key, how="anti")
    return len(test) - int((fresh.group_by("row").len()["len"] == 2).sum())
