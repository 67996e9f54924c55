"""What is added from outside, a class or a module and a line of a registry, goes through the whole pipeline."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from pal import RewardModel
from pal.config import Config
from pal.encoders import ENCODERS, Described
from pal.fitting import OBJECTIVES
from pal.fitting.objectives import PerComparison
from pal.models import MODELS
from pal.models.base import PreferenceModel
from pal.users import POPULATIONS
from pal.users.points import Points
from pipeline import paths
from pipeline.datasets import DATASETS
from pipeline.datasets.base import DatasetParams, Source
from pipeline.evaluation.scores import METRICS
from pipeline.stages import report
from pipeline.storage import tables
from tests.pipeline.conftest import build, project  # noqa: F401 - a fixture


class MixedEffects(PreferenceModel):
    """A reward that is linear in the response: what all users share, and each one's deviation from it."""

    def __init__(self, config, *, prompt_dim, response_dim):
        super().__init__()
        self.config, self.shared = config, nn.Parameter(torch.zeros(response_dim))

    state_dim = property(lambda self: len(self.shared))

    def question_features(self, embeddings, questions):
        return embeddings.responses[questions.first] - embeddings.responses[questions.second]

    def margin(self, features, states):
        return (features * (self.shared + states)).sum(1)

    def margins_at(self, features, states):
        return features @ (self.shared + states).T

    def reward(self, prompts, responses, states):
        return (responses * (self.shared + states)).sum(1)


class SmallDeviations(PerComparison):
    """The paper's loss, with a penalty on states that lie far from the others'."""

    def loss(self, model, batch, done):
        return super().loss(model, batch, done) + 0.01 * self.free.square().mean()


class FewPoints(Points):
    """A prior of at most three points."""

    name = "few points"

    @classmethod
    def from_states(cls, states, *, max_points=3):
        return super().from_states(states, max_points=max_points)


class FirstLetters:
    """One number for each letter of the alphabet: whether the text starts with it."""

    def lengths(self, texts):
        return [1] * len(texts)

    def encode(self, texts):
        return np.array([[text[0] == chr(97 + k) for k in range(26)] for text in texts], np.float32)


FIRST_LETTERS = SimpleNamespace(
    NAMES=("first-letters",),
    PREFIXES=(),
    describe=lambda name, weights, **_: Described(name, 26, "", "", "the first letter", None, "letters"),
    load=lambda described, device: FirstLetters(),
)


class DrinkParams(DatasetParams):
    class Prepare(Config):
        users: int

    prepare: Prepare


def drinks(params, files, out):
    """Half of the users like tea, half coffee; the last two are unseen."""
    n = params.drinks.prepare.users
    rows = []
    for user in range(n):
        for k in range(12):
            sides = [tables.text_id(f"tea {k}"), tables.text_id(f"coffee {k}")][:: 1 if user % 2 else -1]
            users, first = ("seen", "train") if user < n - 2 else ("unseen", "adapt")
            rows.append(["u" + str(user), None, *sides, users, first if k % 2 else "test"])
    names = ["user_id", "prompt", "chosen", "rejected", "users", "split"]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    frame = frame.with_columns(pair_id=pl.int_range(pl.len()), label=pl.lit(1.0))
    items = tables.text_items([f"{drink} {k}" for drink in ("tea", "coffee") for k in range(12)])
    tables.write_table(out / tables.ITEMS, items)
    tables.write_table(out / tables.PAIRS, frame)
    return {"read": len(frame), "kept": len(frame), "dropped": 0}


DRINKS = SimpleNamespace(
    Params=DrinkParams,
    TITLE="Drinks",
    ABOUT="Tea or coffee.",
    ITEMS_APART=False,
    find=lambda params: Source("sample: drinks"),
    prepare=drinks,
)


@pytest.fixture
def extended(project, monkeypatch):  # noqa: F811
    """A project whose one dataset is a new one, encoded, fitted and judged by what is new."""
    monkeypatch.setitem(MODELS, "mixed-effects", MixedEffects)
    monkeypatch.setitem(OBJECTIVES, "small-deviations", SmallDeviations)
    monkeypatch.setitem(POPULATIONS, "few points", FewPoints)
    monkeypatch.setitem(METRICS, "n_right", lambda predictions: float(predictions["right"].sum()))
    monkeypatch.setitem(sys.modules, "letters", FIRST_LETTERS)
    monkeypatch.setitem(ENCODERS, "letters", "letters")
    monkeypatch.setitem(DATASETS, "drinks", DRINKS)
    train = {"objective": "small-deviations", "population": "few points", "epochs": 80, "validate_every": 80}
    project.values["drinks"] = {
        "source": "sample",
        "prepare": {"users": 8},
        "encoder": "first-letters",
        "head": {"model": "mixed-effects"},
        "train": {**train, "learning_rate": 0.05},
    }
    project.set({"datasets": ["drinks"], "encode.device": "cpu", "train.device": "cpu", "model.K": 2,
                 "train.more_seeds": 0, "evaluate.shots": [1, 2, 5],
                 "evaluate.headline_shots": 5})  # fmt: skip
    return project


def test_additions_go_through_the_whole_pipeline(extended):
    build(extended.root, "drinks")
    report.main()
    metrics = json.loads(paths.metrics("drinks").read_text())
    assert metrics["seen"]["accuracy"] == 1
    assert metrics["unseen"]["few_shot"]["5"]["accuracy"] > 0.9
    assert "n_right" in pl.read_csv(paths.plot("details", "drinks")).columns
    model = RewardModel.load(paths.models("drinks") / "model")
    assert isinstance(model.head, MixedEffects)
    assert isinstance(model.population, FewPoints)
    assert model.encoder["responses"]["encoder"] == "first-letters"
    assert model.fit_config.objective == "small-deviations"
    assert "Drinks" in paths.REPORT.read_text()
