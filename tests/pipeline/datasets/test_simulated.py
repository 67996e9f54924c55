"""The simulation: answers follow the nearer item, the truth is kept, and the seed decides everything."""

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from pipeline import PipelineError
from pipeline.datasets import simulated
from pipeline.datasets.simulated import Prepare
from pipeline.storage import tables

KNOBS = {
    "setting": "mixture", "groups": 2, "dim": 3, "seen_users": 3, "unseen_users": 2, "train_pairs": 4,
    "adapt_pairs": 5, "val_pairs": 1, "test_pairs": 2, "min_distance": 0.1, "concentration": 1.0,
}  # fmt: skip


def study(out, seed=0, **changes):
    """Prepare a small study in `out`; returns items, pairs and truth."""
    out.mkdir(exist_ok=True)
    knobs = Prepare(**{**KNOBS, **changes})
    values = SimpleNamespace(prepare=SimpleNamespace(seed=seed), simulated=SimpleNamespace(prepare=knobs))
    counts = simulated.prepare(values, {}, out)
    items, pairs = (tables.read_table(out / name, "") for name in (tables.ITEMS, tables.PAIRS))
    assert counts == {"read": len(pairs), "kept": len(pairs), "dropped": 0}
    return items, pairs.with_columns(pl.col(pl.Categorical).cast(pl.String)), json.loads(
        (out / "truth.json").read_text()
    )  # fmt: skip


def test_every_answer_of_a_study_follows_its_truth(tmp_path):
    items, pairs, truth = study(tmp_path)
    vector = dict(zip(items["item_id"], items["vector"].to_list(), strict=True))
    weights = np.array(truth["weights"])
    assert weights.min() >= 0
    assert weights.sum(1) == pytest.approx(1)
    assert pairs["group"].null_count() == len(pairs)
    matrix = np.array(truth["matrix"])
    ideal = weights @ np.array(truth["prototypes"])
    place = dict(zip(truth["user_ids"], ideal, strict=True))
    for row in pairs.iter_rows(named=True):
        near, far = (
            np.linalg.norm(matrix @ (np.array(vector[row[name]]) - place[row["user_id"]]))
            for name in ("chosen", "rejected")
        )
        assert near < far


def test_partition_puts_users_at_prototypes_in_turn_and_names_their_group(tmp_path):
    _, pairs, truth = study(tmp_path, setting="partition")
    assert truth["weights"] == [[1, 0], [0, 1], [1, 0], [0, 1], [1, 0]]
    groups = dict(pairs.select("user_id", "group").unique().iter_rows())
    assert groups["seen-00002"] == groups["unseen-00001"] == "prototype 1"
    assert groups["seen-00001"] == groups["unseen-00000"] == "prototype 2"


def test_an_impossible_distance_is_one_sentence():
    knobs = Prepare(**{**KNOBS, "groups": 6, "dim": 1, "min_distance": 10})
    message = r"min_distance must leave room for 6 prototypes in 1 dimensions, got 10.*; lower it"
    with pytest.raises(PipelineError, match=message):
        simulated.draw_prototypes(np.random.default_rng(0), knobs)
