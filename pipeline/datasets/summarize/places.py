"""Places of a user's comparisons: train, val and test of seen users, adapt and test of unseen ones."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


def place_seen(rows: "pl.DataFrame", rng: "np.random.Generator") -> "pl.DataFrame":
    """Validation rows are test; of the training rows one in ten, rounded up over all, is val."""
    import polars as pl

    train = rows.filter(split="train")
    train = train.join(one_in_ten(train["worker"]), on="worker", maintain_order="left")
    train = train.with_columns(place=place_in_user(train, rng))
    val = pl.when(pl.col("place") < pl.col("n_val")).then(pl.lit("val")).otherwise(pl.lit("train"))
    test = rows.filter(split="validation").with_columns(split=pl.lit("test"))
    return pl.concat([train.with_columns(split=val).drop("n_val", "place"), test]).with_columns(
        users=pl.lit("seen")
    )


def one_in_ten(workers: "pl.Series") -> "pl.DataFrame":
    """How many rows of each worker make up a tenth of all, rounded up: worker, n_val.

    Tenths are cut off; what is then missing comes one by one from the workers who lost most by that. Nobody
    gives his only row.
    """
    import polars as pl

    n_val = (len(workers) + 9) // 10
    counts = workers.value_counts().with_columns(n_val=pl.col("count") // 10, rest=pl.col("count") % 10)
    missing = n_val - int(counts["n_val"].sum())
    only = pl.col("count") == 1
    order = counts.sort(only, pl.col("rest"), "worker", descending=[False, True, False])
    gives = (pl.int_range(pl.len()) < missing) & ~only
    return order.select("worker", pl.col("n_val") + gives.cast(pl.Int64))


def halve(rows: "pl.DataFrame", rng: "np.random.Generator") -> "pl.DataFrame":
    """Half of each unseen user's rows, rounded down, is adapt, so that a single row is a test."""
    import polars as pl

    half = pl.len().over("worker") // 2
    split = pl.when(pl.lit(place_in_user(rows, rng)) < half).then(pl.lit("adapt")).otherwise(pl.lit("test"))
    return rows.with_columns(split=split, users=pl.lit("unseen"))


def place_in_user(rows: "pl.DataFrame", rng: "np.random.Generator") -> "pl.Series":
    """Each row's place, from 0, in a random order of its worker's rows in the same split."""
    import polars as pl

    drawn = rows.select("worker", "split", draw=pl.Series(rng.permutation(len(rows)), dtype=pl.Int64))
    place = pl.col("draw").rank("ordinal").over("worker", "split").cast(pl.Int64) - 1
    return drawn.select(place=place)["place"]
