"""recolour: give images their colour filters; text and vectors pass as they are.

A filter is a property of an item, applied when its pixels are decoded; no pixel is stored twice.
"""

import hashlib
import os

import numpy as np
import polars as pl

from pal.files import copy_file, new_folder
from pipeline import params, paths
from pipeline.datasets.base import ColourFilters
from pipeline.encoding.images import colour_filter
from pipeline.storage import tables
from pipeline.storage.manifests import write_manifest

OTHER = {"cool": "warm", "warm": "cool"}


def main(dataset: str) -> None:
    """Write one dataset's items and pairs with their filters."""
    values = params.load()
    filters = values[dataset].recolour
    with new_folder(paths.recoloured(dataset)) as out:
        if not isinstance(filters, ColourFilters):
            for name in (tables.ITEMS, tables.PAIRS):
                tables.read_table(paths.prepared(dataset) / name, f"prepare@{dataset}", columns=[])
                source = paths.prepared(dataset) / name
                try:  # a second name for the file's bytes
                    os.link(source.resolve(), out / name)  # DVC may have put a link into its cache there
                except OSError:  # a disk without hard links
                    copy_file(source, out / name)
            write_manifest(out)
            return
        items, pairs = (
            tables.read_table(paths.prepared(dataset) / name, f"prepare@{dataset}")
            for name in (tables.ITEMS, tables.PAIRS)
        )
        coloured = put_filters(choose(pairs, filters.beta, values.recolour.seed), filters)
        named, counts = name_items(items, coloured)
        tables.write_table(out / tables.ITEMS, named)
        tables.write_table(out / tables.PAIRS, point(coloured, named))
        words = coloured["filtered"]
        n = {word: int((words == word).sum()) for word in ("winner", "loser")}
        kept = {"read": len(pairs), "kept": len(coloured), "dropped": len(pairs) - len(coloured)}
        kept |= {f"{word}_filtered": count for word, count in n.items()}
        kept["unfiltered"] = words.null_count()
        write_manifest(out, kept, items=counts)
    print(f"recolour@{dataset}: {sum(n.values()):,} of {len(pairs):,} pairs filtered, {len(named):,} items")


def choose(pairs: pl.DataFrame, beta: float, seed: int) -> pl.DataFrame:
    """Choose a share beta of each user's pairs, and of those one half for the winner, one for the loser.

    The share is rounded to whole pairs, and a coin decides whom an odd one is for. What is chosen depends on
    the seed, the user and the user's pairs alone, not on the order of rows.

    Returns:
        The pairs with `filtered` filled: winner, loser or null.
    """
    marked = []
    ordered = pairs.select(pl.col("user_id").cast(pl.String), "pair_id").sort("pair_id")
    for (user,), own in ordered.group_by("user_id", maintain_order=True):
        rng = np.random.default_rng(int(hashlib.sha256(f"{seed}|{user}".encode()).hexdigest(), 16))
        order = rng.permutation(len(own))
        n_filtered = int(beta * len(own) + 0.5)
        n_winners = (n_filtered + int(rng.integers(2))) // 2
        words = np.full(len(own), None, dtype=object)
        words[order[:n_winners]] = "winner"
        words[order[n_winners:n_filtered]] = "loser"
        marked.append(own.select("pair_id", filtered=pl.Series(words.tolist(), dtype=pl.String)))
    return pairs.drop("filtered").join(pl.concat(marked), on="pair_id", how="left", maintain_order="left")


def put_filters(pairs: pl.DataFrame, filters: ColourFilters) -> pl.DataFrame:
    """Say which filter each response of a pair gets: a winner its group's colour, a loser the other.

    Returns:
        The pairs, ids as text, with `chosen_filter` and `rejected_filter`, null where there is none.
    """
    pairs = pairs.with_columns(pl.col("user_id", "prompt", "chosen", "rejected", "group").cast(pl.String))
    specs = {name: colour_filter(filters.blend, getattr(filters, name), filters.strength) for name in OTHER}
    own = pl.col("group").replace_strict(specs, default=None)
    other = pl.col("group").replace_strict({name: specs[OTHER[name]] for name in OTHER}, default=None)
    return pairs.with_columns(
        chosen_filter=pl.when(pl.col("filtered") == "winner").then(own),
        rejected_filter=pl.when(pl.col("filtered") == "loser").then(other),
    )


def name_items(items: pl.DataFrame, pairs: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """The items that pairs name now: filtered pictures under ids of their own, in the files that they lie in.

    Pictures that no pair shows unfiltered any more are left out, so that nothing is encoded for nobody.

    Returns:
        The items with `source`, the id before the filter, and counts: read + copies = kept + dropped.
    """
    sides = [
        pairs.select(pl.col(side).alias("source"), pl.col(f"{side}_filter").alias("filter"))
        for side in ("chosen", "rejected")
    ]
    shown = pl.concat(sides).unique()
    names = pl.col("item_id", "modality", "file", "column").cast(pl.String)
    items = items.with_columns(names).drop("filter").rename({"item_id": "source"})
    copies = items.join(shown.drop_nulls("filter"), on="source")
    plain = shown.filter(pl.col("filter").is_null())["source"].unique()
    left = items.filter((pl.col("modality") != "image") | pl.col("source").is_in(plain.implode()))
    places = copies.select("file", "row_group", "row", "column", "filter").iter_rows()
    copies = copies.with_columns(
        item_id=pl.Series([tables.image_id(*place) for place in places], dtype=pl.String)
    )
    named = pl.concat([left.with_columns(item_id=pl.col("source")), copies], how="diagonal").sort("item_id")
    dropped = len(items) - len(left)
    return named, {"read": len(items), "copies": len(copies), "kept": len(named), "dropped": dropped}


def point(pairs: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """Have pairs name the filtered items."""
    for side in ("chosen", "rejected"):
        ids = named.select(
            pl.col("source").alias(side),
            pl.col("filter").alias(f"{side}_filter"),
            pl.col("item_id").alias("now"),
        )
        pairs = pairs.join(
            ids, on=[side, f"{side}_filter"], how="left", nulls_equal=True, maintain_order="left"
        )
        pairs = pairs.with_columns(pl.col("now").alias(side)).drop("now")
    return pairs
