"""The four published protocols on TL;DR: which comparisons take part, whose users are seen, who answered.

stiennon        PAL against Stiennon et al.: all comparisons; users in training are seen
li2024          PAL against Li et al.: supervised policies; the ten busiest workers are seen
iclr_simulated  the same rows as the PAL authors' code has them, answers simulated by the summaries' length
lore            LoRe: workers in both splits, half of them seen, few comparisons each

Each is a pure function of the frame (see `summarize.read`) and a seed. Their figures must never be mixed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from pipeline.datasets.base import Kept

BOTH_SPLITS = ("train", "validation")
SEEN_WORKERS = 10
# iclr_simulated: these of the ten busiest workers, counted from 0, prefer the shorter summary.
SHORTER_RANKS = (3, 4, 5)
# iclr_simulated: unseen workers have at least so many rows; 9 of the authors' 31 prefer the shorter summary.
UNSEEN_ROWS, SHORTER_OF, UNSEEN_USERS = 100, 9, 31
# lore: comparisons of a seen worker, of these kept for validation, and of an unseen worker.
LORE_TRAIN, LORE_VAL, LORE_ADAPT = 150, 15, 50
GROUPS = ("prefers longer (simulated)", "prefers shorter (simulated)")


# The published sizes of the real data, and of what the protocols leave of it.
FULL = {"train": 92_858, "validation": 86_086}
PUBLISHED: dict[str, dict[str, int]] = {
    "stiennon": {},
    "li2024": {
        "training rows of supervised policies": 38_487,
        "validation rows of supervised policies": 16_294,
        "train comparisons of seen users": 20_969,
        "val comparisons of seen users": 2_330,
        "test comparisons of seen users": 4_921,
        "test comparisons of unseen users": 11_373,
    },
    "iclr_simulated": {
        "train comparisons of seen users": 20_969,
        "val comparisons of seen users": 2_330,
        "test comparisons of seen users": 4_921,
        "unseen users": 31,
    },
    "lore": {},
}


@dataclass
class Placed(Kept):
    """What a protocol leaves of the comparisons: the frame's columns, and prompt, users, split and group.

    Args:
        sizes: Row counts besides those of the places, by the names that `PUBLISHED` has for them.
        notes: What a reader of the results must know.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def stiennon(frame: pl.DataFrame, seed: int) -> Placed:
    """Seen users: everybody in training; unseen: who is in validation alone, half adapt, half test."""
    rng, placed = np.random.default_rng(seed), Placed(frame)
    _keep_complete(placed, "post", "article")
    seen = placed.rows.filter(split="train")["worker"].unique().to_list()
    is_seen = pl.col("worker").is_in(seen)
    placed.rows = pl.concat(
        [place_seen(placed.rows.filter(is_seen), rng), halve(placed.rows.filter(~is_seen), rng)]
    )
    placed.notes.append(
        "Protocol stiennon: workers with training comparisons are seen, and one in ten of these comparisons "
        "chooses the epoch; workers in validation alone are unseen, half of their comparisons is for shots "
        "and the rest for tests (the paper gives no share)."
    )
    return placed


def li2024(frame: pl.DataFrame, seed: int) -> Placed:
    """Seen users: the ten busiest; unseen: every other validation worker, tested on all validation rows."""
    rng, placed = np.random.default_rng(seed), Placed(frame)
    top = _keep_supervised(placed, without_cnn=True)
    _keep_complete(placed, "post")
    is_seen, tested = pl.col("worker").is_in(top), pl.col("split") == "validation"
    placed.keep(is_seen | tested.any().over("worker"), "dropped_other_workers")
    place = pl.when(tested).then(pl.lit("test")).otherwise(pl.lit("adapt"))
    unseen = placed.rows.filter(~is_seen).with_columns(split=place, users=pl.lit("unseen"))
    placed.rows = pl.concat([place_seen(placed.rows.filter(is_seen), rng), unseen])
    placed.notes.append(
        "Protocol li2024: unseen users are tested on all their validation comparisons, as published "
        "(zero-shot); shots are their training comparisons, which the paper does not use, and users without "
        "any stay at zero shots."
    )
    return placed


def iclr_simulated(frame: pl.DataFrame, seed: int) -> Placed:
    """Li et al.'s workers, but the longer summary wins, for some users the shorter; ties: the second one."""
    rng, placed = np.random.default_rng(seed), Placed(frame)
    top = _keep_supervised(placed, without_cnn=False)
    counts = placed.rows.filter(~pl.col("worker").is_in(top), split="validation")["worker"].value_counts()
    unseen = sorted(counts.filter(pl.col("count") >= UNSEEN_ROWS)["worker"].drop_nulls().to_list())
    _keep_complete(placed, "post")
    is_seen = pl.col("worker").is_in(top)
    is_unseen = pl.col("worker").is_in(unseen) & (pl.col("split") == "validation")
    placed.keep(is_seen | is_unseen, "dropped_other_workers")
    drawn = rng.permutation(np.array(unseen, dtype=object))[: round(len(unseen) * SHORTER_OF / UNSEEN_USERS)]
    shorter = [top[rank] for rank in SHORTER_RANKS if rank < len(top)] + list(drawn)
    prefers_shorter = pl.col("worker").is_in(shorter)
    first, second = pl.col("text_0").str.len_chars(), pl.col("text_1").str.len_chars()
    first_wins = pl.when(prefers_shorter).then(first < second).otherwise(first > second)
    rows = placed.rows.with_columns(
        choice=pl.when(first_wins).then(0).otherwise(1).cast(pl.Int8),
        group=pl.when(prefers_shorter).then(pl.lit(GROUPS[1])).otherwise(pl.lit(GROUPS[0])),
    )
    placed.rows = pl.concat([place_seen(rows.filter(is_seen), rng), halve(rows.filter(~is_seen), rng)])
    placed.sizes["unseen users"] = placed.rows.filter(users="unseen")["worker"].n_unique()
    placed.notes += [
        "Answers are simulated by length, nobody gave them: some users prefer the longer summary and the "
        "others the shorter one, and where both are equally long the second one wins.",
        "Protocol iclr_simulated: which unseen users prefer the shorter summary is drawn at random here, "
        f"{SHORTER_OF} of {UNSEEN_USERS} as in the authors' code; half of an unseen user's comparisons is "
        "for shots, the rest for tests.",
    ]
    return placed


def lore(frame: pl.DataFrame, seed: int) -> Placed:
    """Workers in both splits, half of them seen; training rows beyond a limit are left out.

    LoRe's code also leaves out the two workers with the fewest rows, and has no validation set: here it
    comes from the rows beyond the limit, so that training has what LoRe's has.
    """
    rng, placed = np.random.default_rng(seed), Placed(frame)
    _keep_complete(placed, "post", "article")
    train, test = pl.col("split") == "train", pl.col("split") == "validation"
    placed.keep(train.any().over("worker") & test.any().over("worker"), "dropped_workers_in_one_split")
    workers = rng.permutation(placed.rows["worker"].unique().sort().to_numpy())
    is_seen = pl.col("worker").is_in(list(workers[: len(workers) // 2]))
    place = pl.lit(place_in_user(placed.rows, rng))
    placed.rows = placed.rows.with_columns(
        users=pl.when(is_seen).then(pl.lit("seen")).otherwise(pl.lit("unseen")),
        split=pl.when(test)
        .then(pl.lit("test"))
        .when(is_seen & (place < LORE_TRAIN))
        .then(pl.lit("train"))
        .when(is_seen & (place < LORE_TRAIN + LORE_VAL))
        .then(pl.lit("val"))
        .when(~is_seen & (place < LORE_ADAPT))
        .then(pl.lit("adapt")),
    )
    placed.keep(pl.col("split").is_not_null(), "dropped_beyond_limit")
    placed.notes.append(
        f"Protocol lore: workers in both splits, a random half of them seen with at most {LORE_TRAIN} "
        f"training comparisons, the others unseen with at most {LORE_ADAPT} for shots; up to {LORE_VAL} "
        "comparisons beyond the limit choose the epoch, where LoRe has no such set."
    )
    return placed


PROTOCOLS: dict[str, Callable[[pl.DataFrame, int], Placed]] = {
    "stiennon": stiennon,
    "li2024": li2024,
    "iclr_simulated": iclr_simulated,
    "lore": lore,
}


def apply(protocol: str, frame: pl.DataFrame, seed: int) -> Placed:
    """Place the comparisons as a protocol does, and compare its row counts with the published ones.

    Equal counts are the one sign that others read the same rows.
    """
    placed = PROTOCOLS[protocol](frame, seed)
    if "group" not in placed.rows.columns:
        placed.rows = placed.rows.with_columns(group=pl.lit(None, pl.String))
    places = placed.rows.group_by("users", "split").len().iter_rows()
    placed.sizes |= {f"{split} comparisons of {users} users": n for users, split, n in places}
    got = {name: int((frame["split"] == name).sum()) for name in FULL}
    published = PUBLISHED[protocol]
    wrong = {name: n for name, n in published.items() if placed.sizes.get(name, 0) != n}
    if got != FULL:
        expected, given = (f"{n['train']:,} training and {n['validation']:,} validation" for n in (FULL, got))
        notes = [f"These are not the full published comparisons ({expected} rows), but {given} rows."]
    elif wrong:
        notes = [
            f"Protocol {protocol} should give {n:,} {name}, as published, but gives "
            f"{placed.sizes.get(name, 0):,}."
            for name, n in wrong.items()
        ]
    elif published:
        notes = [f"All {len(published)} row counts of protocol {protocol} are the published ones."]
    else:
        full = "These are the full published comparisons"
        notes = [f"{full}; no row counts of protocol {protocol} are published."]
    placed.notes += notes
    return placed


def _keep_complete(placed: Placed, *prompts: str) -> None:
    """Keep rows in the two splits with a worker, both summaries and what they summarise; blank is missing."""
    texts = ("worker", "text_0", "text_1", "post", "article")
    filled = {text: pl.col(text).str.strip_chars() != "" for text in texts}
    placed.keep(pl.col("split").is_in(BOTH_SPLITS), "dropped_other_split")
    placed.keep(filled["worker"], "dropped_without_worker")
    placed.keep(filled["text_0"] & filled["text_1"], "dropped_without_summary")
    given = [pl.when(filled[text]).then(pl.col(text)) for text in prompts]
    placed.rows = placed.rows.with_columns(prompt=pl.coalesce(given))
    placed.keep(pl.col("prompt").is_not_null(), "dropped_without_post")


def _keep_supervised(placed: Placed, *, without_cnn: bool) -> list[str]:
    """Keep comparisons of two supervised policies; return the busiest workers of training, busiest first."""
    both = []
    for policy in ("policy_0", "policy_1"):
        has = {word: pl.col(policy).str.contains(word, literal=True) for word in ("sup", "ppo", "cnn")}
        both.append(has["sup"] & ~has["ppo"] & ~(has["cnn"] & pl.lit(value=without_cnn)))
    placed.keep(pl.all_horizontal(both), "dropped_other_policies")
    rows = {name: placed.rows.filter(split=name) for name in BOTH_SPLITS}
    for name, words in (("train", "training"), ("validation", "validation")):
        placed.sizes[f"{words} rows of supervised policies"] = len(rows[name])
    counts = rows["train"]["worker"].drop_nulls().value_counts()
    return counts.sort("count", "worker", descending=[True, False])["worker"].head(SEEN_WORKERS).to_list()


def place_seen(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Validation rows are test; of the training rows one in ten, rounded up over all, is val."""
    train = rows.filter(split="train")
    train = train.join(one_in_ten(train["worker"]), on="worker", maintain_order="left")
    train = train.with_columns(place=place_in_user(train, rng))
    val = pl.when(pl.col("place") < pl.col("n_val")).then(pl.lit("val")).otherwise(pl.lit("train"))
    test = rows.filter(split="validation").with_columns(split=pl.lit("test"))
    return pl.concat([train.with_columns(split=val).drop("n_val", "place"), test]).with_columns(
        users=pl.lit("seen")
    )


def one_in_ten(workers: pl.Series) -> pl.DataFrame:
    """How many rows of each worker make up a tenth of all, rounded up: worker, n_val.

    Tenths are cut off; what is then missing comes one by one from the workers who lost most by that. Nobody
    gives his only row.
    """
    n_val = (len(workers) + 9) // 10
    counts = workers.value_counts().with_columns(n_val=pl.col("count") // 10, rest=pl.col("count") % 10)
    missing = n_val - int(counts["n_val"].sum())
    only = pl.col("count") == 1
    order = counts.sort(only, pl.col("rest"), "worker", descending=[False, True, False])
    gives = (pl.int_range(pl.len()) < missing) & ~only
    return order.select("worker", pl.col("n_val") + gives.cast(pl.Int64))


def halve(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Half of each unseen user's rows, rounded down, is adapt, so that a single row is a test.

    It is less where a worker answers one question again: all of these rows are tests if any is.
    """
    sides = (pl.col("text_0"), pl.col("text_1"))
    question = ("worker", "prompt", pl.min_horizontal(*sides), pl.max_horizontal(*sides))
    placed = rows.with_columns(place=place_in_user(rows, rng))
    placed = placed.with_columns(pl.col("place").max().over(question))
    is_adapt = pl.col("place") < pl.len().over("worker") // 2
    split = pl.when(is_adapt).then(pl.lit("adapt")).otherwise(pl.lit("test"))
    return placed.with_columns(split=split, users=pl.lit("unseen")).drop("place")


def place_in_user(rows: pl.DataFrame, rng: np.random.Generator) -> pl.Series:
    """Each row's place, from 0, in a random order of its worker's rows in the same split."""
    drawn = rows.select("worker", "split", draw=pl.Series(rng.permutation(len(rows)), dtype=pl.Int64))
    place = pl.col("draw").rank("ordinal").over("worker", "split").cast(pl.Int64) - 1
    return drawn.select(place=place)["place"]
