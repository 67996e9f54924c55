"""evaluate: seen and unseen accuracy, from no shots and from more, held against what needs no model."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import polars as pl
import pytest
import torch

from pal.serving.reward_model import RewardModel
from pipeline import paths as layout
from pipeline import study
from pipeline.evaluation.scores import METRICS
from pipeline.stages import evaluate, report, train
from pipeline.storage import tables

DATASETS = ["simulated", "own"]


def metrics(dataset):
    return json.loads(layout.metrics(dataset).read_text())


def evaluated(dataset):
    return json.loads((layout.evaluated(dataset) / "evaluated.json").read_text())


def details(dataset):
    with layout.plot("details", dataset).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("dataset", DATASETS)
def test_headline_numbers_stand_in_the_details_too(small, dataset):
    rows = {(r["users"], r["items"], r["shots"], r["model"]): r for r in details(dataset)}
    items = "all" if dataset == "simulated" else "known"
    found = metrics(dataset)
    model = rows["seen", items, "", "model"]
    assert found["seen"]["accuracy"] == float(model["accuracy"])
    assert float(model["low"]) <= float(model["accuracy"]) <= float(model["high"])
    # The two unseen users of own have six comparisons each to be located from.
    most = {"simulated": "20", "own": "5"}[dataset]
    assert list(found["unseen"]["few_shot"])[-1] == most
    shot = rows["unseen", items, most, "model"]
    assert found["unseen"]["few_shot"][most]["accuracy"] == float(shot["accuracy"])
    assert found["unseen"]["zero_shot"]["accuracy"] == float(rows["unseen", items, "0", "model"]["accuracy"])
    others = {"oracle", "bound"} if dataset == "simulated" else {"similarity"}
    assert {row[3] for row in rows} == {"model", "k1", "shared", "majority", "asked", *others}


def test_calibration_is_of_the_items_and_the_test_set_that_the_headline_is_about():
    """Sure and right on known items, sure and wrong on new ones of another set: half of all is off by 1."""
    columns = {"users": "seen", "model": "model", "sign": 1.0}
    predictions = pl.DataFrame({"pair": [0, 1, 2, 3], "margin": [20.0, 20.0, -20.0, -20.0]})
    predictions = predictions.with_columns(**{name: pl.lit(value) for name, value in columns.items()})
    places = {"items": ["known", "known", "new", "new"], "test": ["no_leakage"] * 2 + ["leakage"] * 2}
    data = SimpleNamespace(places=pl.DataFrame(places))
    for about, error in (((), 0.5), (("known",), 0), (("new",), 1), (("all", "no_leakage"), 0)):
        assert evaluate._calibration(predictions, data, *about)["ece"] == pytest.approx(error, abs=1e-6)


def test_evaluating_twice_gives_the_same_bytes(small):
    dataset = "simulated"
    paths = [layout.metrics(dataset), layout.plot("details", dataset), layout.plot("calibration", dataset)]
    paths.append(layout.evaluated(dataset) / "evaluated.json")
    before = [path.read_bytes() for path in paths]
    evaluate.main(dataset)
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize("n_prototypes", [1, 3])
def test_what_evaluate_writes_renders_with_a_metric_that_is_added(small, monkeypatch, n_prototypes):
    monkeypatch.setitem(METRICS, "n_right", lambda predictions: float(predictions["right"].sum()))
    small.set({"model.K": n_prototypes, "simulated.train.epochs": 4, "own.train.epochs": 4})
    for dataset in DATASETS:
        train.main(dataset)
        evaluate.main(dataset)
    found = [evaluated(dataset) for dataset in DATASETS]
    pages = [report.render(each) for each in found]
    assert all(">n right<" in page.lower() for page in pages)
    assert "n_right" in details("own")[0]
    assert "n_right" in metrics("own")["seen"]
    assert pages[0].startswith("<!doctype html>")
    weights = {len(one["weights"] or [1]) for each in found for one in each["portrait"]["people"]}
    assert weights == {n_prototypes}
    if n_prototypes == 1:  # one reward for everyone, from any number of shots
        seen, rows = metrics("simulated")["seen"], details("simulated")
        unseen = {(r["model"], r["accuracy"]) for r in rows if r["users"] == "unseen"}
        assert seen["accuracy"] == seen["k1"]["accuracy"]
        assert len({value for name, value in unseen if name in ("model", "k1")}) == 1


def test_what_must_be_said_is_in_the_metrics_and_without_adapt_pairs_are_no_shots(small, monkeypatch):
    """Notes of prepare and an encoder without training, of a study without the unseen users' adapt pairs."""
    data = study.load("own")
    kept = (data.places["split"] != "adapt").arg_true().to_numpy().astype("int64")
    by = replace(data.embedders["responses"], encoder="untrained-vit-h-14")
    bare = replace(data, places=data.places[kept], comparisons=data.comparisons[torch.from_numpy(kept)])
    bare = replace(bare, embedders={"prompts": by, "responses": by})
    monkeypatch.setattr(evaluate.study, "load", lambda _: bare)
    note = "Answers were simulated by length."
    (layout.prepared("own") / "notes.json").write_text(json.dumps([note]))
    tables.write_manifest(layout.prepared("own"), source="a file")
    evaluate.main("own")
    few = "Few-shot numbers are of the unseen users with so many comparisons: 0 of 2 at 1, 0 of 2 at 5, 0 of 2 at 20."
    assert metrics("own")["notes"] == f"{note} {few}"
    assert evaluated("own")["notes"] == [note, few]
    assert "notes" not in metrics("simulated")
    assert metrics("own")["encoder"] == "untrained-vit-h-14"
    assert set(metrics("own")["unseen"]) == {"zero_shot", "k1"}
    curve = layout.plot("few_shot", "own").read_text().splitlines()
    assert [line.split(",")[0] for line in curve] == ["shots", "0"]
    folk = evaluated("own")["portrait"]["people"]
    unseen = [one["weights"] for one in folk if one["users"] == "unseen"]
    model = RewardModel.load(layout.models("own") / "model")
    assert unseen == [pytest.approx(model.states.mean(0).tolist(), abs=1e-3)] * 2
    page = report.render(evaluated("own"))
    assert "untrained weights" in page
    assert "own-curve" not in page


def test_evaluating_without_models_is_one_sentence(small):
    from pal.errors import PalError

    for path in (layout.models("own") / "model").iterdir():
        path.unlink()
    before = layout.metrics("own").read_bytes()
    with pytest.raises(PalError, match=r"data/models/own/model/config\.json cannot be read \(No such file"):
        evaluate.main("own")
    assert layout.metrics("own").read_bytes() == before


def test_every_stage_says_what_it_read_kept_and_dropped_and_why(project):
    assert evaluate.data_flow_counts("own") == []
    counts = {"read": 10, "kept": 7, "dropped": 3, "ties_dropped": 3}
    tables.write_manifest(layout.prepared("own"), source="s", counts=counts)
    reasons = {"it is no picture": 1, "it has 300 megapixels": 2}
    counts = {"read": 9, "kept": 6, "dropped": 3}
    tables.write_manifest(layout.embeddings("own"), counts=counts, reasons=reasons)
    assert evaluate.data_flow_counts("own") == [
        {"stage": "prepare", "read": 10, "kept": 7, "dropped": 3, "details": {"ties_dropped": 3}, "reasons": {}},
        {
            "stage": "encode", "read": 9, "kept": 6, "dropped": 3, "details": {},
            "reasons": {"it has 300 megapixels": 2, "it is no picture": 1},
        },
    ]  # fmt: skip
