"""Pick-a-Filter on real photographs, in Pick-a-Pic's format: simulated users, photographs held out.

Looked for in ../shared/data/dog_morphs. A photograph is compared with a spoilt copy of itself, and the colour
filters are those of the shipped parameters: can whose taste is whose be told in photographs never trained on?
The 55 are seven dogs and their mixtures, so that a held-out one has relatives in training.
"""

import io
import json
from pathlib import Path
from random import Random

import polars as pl
import pytest
import torch
from PIL import Image

from pal.fit import margins
from pal.model import RewardModel
from pipeline import encode, evaluate, layout, prepare, recolour, split, study, train
from pipeline.datasets import drawings, scenes

PHOTOGRAPHS = Path(__file__).parents[2] / "../shared/data/dog_morphs/images.parquet"
pytestmark = pytest.mark.skipif(
    not PHOTOGRAPHS.is_file(), reason="the photographs are not here (../shared/data/dog_morphs)"
)
DEFECTS = ("blurred", "noisy", "faded", "blocky")
CROWD = scenes.Crowd(60, (60, 80), 6, 20)


def photographs(random):
    """Photographs to train on, to choose the epoch by, and to test on: none is in two of them."""
    jpgs = pl.read_parquet(PHOTOGRAPHS, columns=["jpg"])["jpg"].to_list()
    random.shuffle(jpgs)
    return {"train": jpgs[:35], "validation": jpgs[35:41], "test": jpgs[41:]}


def pairs_of(jpgs, random):
    """Each photograph beside a copy with each defect."""
    found = []
    for n, jpg in enumerate(jpgs):
        with Image.open(io.BytesIO(jpg)) as picture:
            neat = picture.convert("RGB")
        for defect in DEFECTS:
            spoilt = scenes.jpeg(drawings.spoil(neat, random, defect))
            uids = (scenes.uid(random), scenes.uid(random))
            found.append(scenes.Drawn(f"a dog, photograph {n}", uids, (jpg, spoilt)))
    return found


@pytest.fixture
def filtered(project):
    """Runs all stages at some beta; returns accuracy on test pairs by model and filter, and the metrics."""
    random = Random(0)
    drawn = {name: pairs_of(jpgs, random) for name, jpgs in photographs(random).items()}
    (project.root / "photographs").mkdir()
    scenes.write_answers(project.root / "photographs", drawn, (CROWD,), random)
    project.set({"source.pickafilter": "photographs", "prepare.pickafilter.seen_users_per_group": 20})
    project.set({"model.K": 2, "evaluate.resamples": 100})

    def run(beta):
        from pipeline import download

        project.set({"recolour.pickafilter.beta": beta})
        for stage in (download, prepare, recolour, split, encode, train, evaluate):
            stage.main("pickafilter")
        return (
            {name: accuracy(name, None) for name in ("model", "k1")},
            {name: accuracy(name, "untouched") for name in ("model", "k1")},
            json.loads(layout.metrics("pickafilter").read_text()),
        )

    return run


def accuracy(name, which):
    data = study.load("pickafilter")
    model = RewardModel.load(layout.models("pickafilter") / name)
    pairs = data.select("seen", "test", **({"filtered": None} if which else {}))
    with torch.inference_mode():
        margin = margins(model.head, model.weights, data.embeddings, pairs)
    return float((margin > 0).float().mean()) if len(margin) else None


def test_two_prototypes_serve_two_tastes_in_photographs_never_trained_on(filtered):
    whole, _, metrics = filtered(1.0)
    print("beta 1", whole, metrics["unseen"])
    assert 0.6 <= whole["k1"] <= 0.9
    assert whole["model"] >= 0.97
    assert metrics["unseen"]["few_shot"]["10"]["accuracy"] >= 0.95


def test_untouched_pairs_are_judged_as_well_as_by_one_reward_for_all(filtered):
    whole, untouched, metrics = filtered(0.5)
    print("beta 0.5", whole, untouched, metrics["unseen"])
    assert untouched["model"] >= untouched["k1"] - 0.01
