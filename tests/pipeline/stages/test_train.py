"""train: the head and its baselines, from seen users' training pairs alone."""

import polars as pl
import pytest

from pal.serving.reward_model import RewardModel
from pipeline import PipelineError, paths, study
from pipeline.stages import train
from pipeline.storage import tables


def models(dataset):
    """Every byte of a dataset's models."""
    return {path.as_posix(): path.read_bytes() for path in paths.models(dataset).rglob("*") if path.is_file()}


def turn(dataset, split_names, users="seen"):
    """Swap chosen and rejected in the pairs of some splits, where prepare wrote them."""
    path = paths.prepared(dataset) / tables.PAIRS
    places = tables.read_table(paths.splits(dataset) / tables.SPLITS, "").filter(
        pl.col("split").is_in(split_names), pl.col("users") == users
    )
    frame = tables.read_table(path, "").with_columns(pl.col(pl.Categorical).cast(pl.String))
    here = pl.col("pair_id").is_in(places["pair_id"].to_list())
    turned = frame.with_columns(
        chosen=pl.when(here).then("rejected").otherwise("chosen"),
        rejected=pl.when(here).then("chosen").otherwise("rejected"),
    )
    assert not turned.equals(frame)
    tables.write_table(path, turned)
    tables.write_manifest(path.parent)


def test_baselines_stand_beside_the_model_the_oracle_where_groups_are_known(small):
    found = {
        name: {path.name for path in paths.models(name).iterdir() if path.is_dir()}
        for name in ("simulated", "own")
    }
    assert found == {"simulated": {"model", "k1", "oracle", "again-1"}, "own": {"model", "k1", "again-1"}}


@pytest.mark.parametrize("dataset", ["simulated", "own"])
@pytest.mark.parametrize("name", ["model", "k1"])
def test_no_unseen_user_is_in_a_model(small, dataset, name):
    data = study.load(dataset)
    model = RewardModel.load(paths.models(dataset) / name)
    assert list(model.user_ids) == data.user_ids["seen"]
    assert {"model": 2, "k1": 1}[name] == model.config.K


@pytest.mark.parametrize("dataset", ["simulated", "own"])
def test_test_answers_and_unseen_users_answers_change_no_byte_of_a_model(small, dataset):
    before = models(dataset)
    turn(dataset, ["test"])
    turn(dataset, ["adapt", "val", "test"], users="unseen")
    train.main(dataset)
    assert models(dataset) == before


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.K", 7, r"model\.K in params\.yaml must be at most 6, the seen users of own, got 7"),
        ("train.device", "cuda", r"train\.device is cuda, but torch sees no GPU here"),
    ],
)
def test_what_cannot_be_fitted_is_told_and_the_old_models_stay(small, monkeypatch, key, value, message):
    before = models("own")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    small.set({key: value})
    with pytest.raises(PipelineError, match=message):
        train.main("own")
    assert models("own") == before
