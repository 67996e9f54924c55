"""A real log of 84,445 judgements by crowd workers, where it is at hand: read, prepared and split."""

import json

import polars as pl
import pytest

from benchmarks import ukpconvarg
from pipeline import params, paths
from pipeline.datasets import own
from pipeline.datasets.own.items import TextItems
from pipeline.stages import download, prepare, recolour, split

COUNTS = {
    "read": 84_445,
    "ties": 19_105,
    "ties_dropped": 19_105,
    "identical_dropped": 5,
    "kept": 65_335,
    "duplicates": 101,
    "dropped": 19_110,
}


@pytest.fixture(scope="module")
def judgements():
    """Which of two arguments convinces more, as two responses and a winner."""
    folder = ukpconvarg.find()
    if folder is None:
        pytest.skip("the judgements of UKPConvArg1 are not on this machine (../shared/data/ukpconvarg)")
    return ukpconvarg.comparisons(folder)


def test_the_judgements_read_the_same_in_every_format(judgements, tmp_path):
    """Of 84,445 judgements 19,105 are ties; 5 of the others prefer one of two arguments with the same text.

    The longer argument wins in two thirds; 131 of the 65,335 have equal lengths, which count half.
    """
    judgements.write_parquet(tmp_path / "a.parquet")
    judgements.write_csv(tmp_path / "a.csv")
    judgements.with_columns(pl.col("timestamp").dt.epoch("s")).write_ndjson(tmp_path / "a.jsonl")
    options = own.Prepare(ties="drop", prompts="text", responses="text")
    frames = []
    for path in sorted(tmp_path.iterdir()):
        frame, counts = own.keep(own.read({path.name: path}, options), {"text": TextItems()}, options)
        assert counts == COUNTS
        frames.append(frame.drop("file", "row", "line"))
    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])
    chosen, rejected = (frame[name].str.len_chars().cast(pl.Int64) for name in ("chosen", "rejected"))
    assert (chosen == rejected).sum() == 131
    longer = ((chosen > rejected).mean() or 0) + ((chosen == rejected).mean() or 0) / 2
    assert longer == pytest.approx(0.6848, abs=1e-4)


def test_the_judgements_are_prepared_and_split_by_time(judgements, project):
    """1,052 arguments are 1,038 texts, on 32 topics; 181 judgements are of workers with no other one."""
    judgements.write_parquet(project.root / "judgements.parquet")
    project.set({"datasets": ["own"], "own.source": "judgements.parquet", "own.split.by": "time"})
    own.find(params.load()).check()
    for stage in (download, prepare, recolour, split):
        stage.main("own")
    assert len(pl.read_parquet(paths.prepared("own") / "items.parquet")) == 1_038 + 32
    assert json.loads((paths.prepared("own") / "manifest.json").read_text())["counts"] == COUNTS
    counts = json.loads((paths.splits("own") / "manifest.json").read_text())["counts"]
    assert (counts["read"], counts["dropped"]) == (65_335, 181)
    pairs = pl.read_parquet(paths.prepared("own") / "pairs.parquet", columns=["pair_id", "user_id", "time"])
    places = pl.read_parquet(paths.splits("own") / "splits.parquet").join(pairs, on="pair_id")
    assert places["user_id"].n_unique() == pairs["user_id"].n_unique() - 165
    known = places.filter(pl.col("items").cast(pl.String) == "known")
    learned, tested = (
        known.filter(pl.col("split").cast(pl.String).is_in(names)).group_by("user_id").agg(pl.col("time"))
        for names in (["train", "adapt"], ["test"])
    )
    both = learned.join(tested, on="user_id")
    in_order = both.select(pl.col("time").list.max() <= pl.col("time_right").list.min()).to_series()
    assert in_order.all()
