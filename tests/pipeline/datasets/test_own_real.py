"""A real log of 84,445 judgements by crowd workers, where it is at hand: read, prepared and split."""

import json

import polars as pl
import pytest

from benchmarks import real_people
from benchmarks.studies import shared_data
from pipeline import params, paths
from pipeline.datasets import own
from pipeline.stages import download, prepare, recolour, split

COUNTS = {"read": 84_445, "ties": 19_105, "ties_dropped": 19_105, "identical_dropped": 5}
COUNTS |= {"merged": 113, "contradicted": 12, "undecided_dropped": 12, "kept": 65_210, "dropped": 19_122}


def test_the_judgements_are_prepared_and_split_by_time(project):
    """Of 84,445 judgements 19,105 are ties; 5 of the others prefer one of two arguments with the same text.

    113 judgements repeat one of the same worker; of 12 that workers made both ways none is left. 1,052 arguments
    are 1,038 texts, on 32 topics; 168 judgements have no place: those of workers with one, and of
    seen workers who judged new topics alone.
    """
    if (folder := shared_data("PAL_UKPCONVARG", "ukpconvarg", "judgements.parquet")) is None:
        pytest.skip("the judgements of UKPConvArg1 are not on this machine (../shared/data/ukpconvarg)")
    real_people.judgements(folder).write_parquet(project.root / "judgements.parquet")
    project.set({"datasets": ["own"], "own.source": "judgements.parquet", "own.split.by": "time"})
    own.find(params.load()).check()
    for stage in (download, prepare, recolour, split):
        stage.main("own")
    assert len(pl.read_parquet(paths.prepared("own") / "items.parquet")) == 1_038 + 32
    assert json.loads((paths.prepared("own") / "manifest.json").read_text())["counts"] == COUNTS
    counts = json.loads((paths.splits("own") / "manifest.json").read_text())["counts"]
    assert (counts["read"], counts["dropped"]) == (65_210, 168)
    pairs = pl.read_parquet(paths.prepared("own") / "pairs.parquet", columns=["pair_id", "user_id", "time"])
    places = pl.read_parquet(paths.splits("own") / "splits.parquet").join(pairs, on="pair_id")
    assert places["user_id"].n_unique() == pairs["user_id"].n_unique() - 159
    known = places.filter(pl.col("items").cast(pl.String) == "known")
    learned, tested = (
        known.filter(pl.col("split").cast(pl.String).is_in(names)).group_by("user_id").agg(pl.col("time"))
        for names in (["train", "adapt"], ["test"])
    )
    both = learned.join(tested, on="user_id")
    in_order = both.select(pl.col("time").list.max() <= pl.col("time_right").list.min()).to_series()
    assert in_order.all()
