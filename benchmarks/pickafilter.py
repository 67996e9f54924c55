"""Pick-a-Filter: the drawn sample, and the same filters over real photographs; simulated people throughout.

The photographs are seven dogs and their mixtures, each beside spoilt copies of itself; one held out has
relatives in training. Every stage runs as `dvc repro` runs it; K=1 is the control that each run fits beside
its model. About 10 minutes on two quiet cores.
"""

import io
import tempfile
from pathlib import Path
from random import Random

import polars as pl
import torch
from PIL import Image

from benchmarks.studies import ALL_STAGES, SEEDS, by_seed, changed, needed_data, real_data, staged, values
from benchmarks.table import Section, mean_row
from pal.evaluation.accuracy import rightness
from pal.models.base import margins
from pal.serving.reward_model import RewardModel
from pipeline import paths, study
from pipeline.datasets import drawn_scenes
from pipeline.params import Params
from pipeline.storage.tables import read_json

DEFECTS = ("blurred", "noisy", "faded", "blocky")
PEOPLE = drawn_scenes.Crowd(60, (60, 80), 6, 20)
TRAIN, VALIDATION = 35, 6  # photographs; the other 14 are tested on
K = 2
Figures = dict[str, float]


def pickafilter() -> Section:
    """All figures."""
    kinds = ["drawn", "photographs"] if real_data("photographs") else ["drawn"]
    results = by_seed(run, [(kind, beta) for kind in kinds for beta in (1.0, 0.5)])
    rows = []
    for kind in kinds:
        for what, beta, figure, least, most in (
            ("beta 1, K=1", 1.0, "seen.k1", 60, 90),
            ("beta 1, K=2", 1.0, "seen.model", 97, None),
            ("beta 1, unseen users at 10 shots", 1.0, "unseen.10", 95, None),
            ("beta 0.5, untouched pairs, K=2 less K=1", 0.5, "untouched.gain", -1, None),
            ("beta 0.5, untouched pairs, K=1", 0.5, "untouched.k1", None, None),
            ("beta 0.5, filtered pairs, K=2", 0.5, "filtered.model", None, None),
            ("beta 0.5, filtered pairs, K=1", 0.5, "filtered.k1", None, None),
            ("beta 0.5, unseen users at 10 shots", 0.5, "unseen.10", None, None),
        ):
            each = [figures[figure] for figures in results[kind, beta]]
            rows.append(mean_row(f"{kind}, {what}", each, at_least=least, at_most=most))
    about = {"seeds": list(SEEDS), "K": K, "encoder": "classical", "pictures": " and ".join(kinds)}
    return Section("Pick-a-Filter: two tastes in colour", about, rows)


def filters(pictures: str, seed: int, beta: float) -> Params:
    """The parameters of a study of pictures in a folder; two of a pair differ by a filter as `beta` says."""
    changes = {"pickafilter.prepare.recolour.beta": beta, "split.seed": seed, "evaluate.seed": seed}
    return changed(values("pickafilter", seed, source=pictures), changes)


def photographs() -> list[bytes]:
    """Real photographs, as JPEG."""
    return pl.read_parquet(needed_data("photographs") / "images.parquet", columns=["jpg"])["jpg"].to_list()


def run(kind: str, beta: float, seed: int) -> Figures:
    """Run all stages in a folder of their own; accuracies in per cent."""
    with tempfile.TemporaryDirectory() as pictures:
        (drawn_scenes.write if kind == "drawn" else write_photographs)(Path(pictures), seed)
        given = changed(filters(pictures, seed, beta), {"model.K": K})
        if kind == "photographs":
            given = changed(given, {"pickafilter.prepare.seen_users_per_group": 20})
        with staged("pickafilter", given, ALL_STAGES):
            data = study.load("pickafilter")
            figures: Figures = {}
            test = data.places.filter(users="seen", split="test")
            touched = test["filtered"].is_not_null().to_numpy()
            for name in ("model", "k1"):
                model = RewardModel.load(paths.models("pickafilter") / name)
                with torch.inference_mode():
                    margin = margins(model.head, model.states, data.embeddings, data.select("seen", "test"))
                right = rightness(margin)
                pairs = {"seen": right, "filtered": right[touched], "untouched": right[~touched]}
                for pairs_of, some in pairs.items():
                    figures[f"{pairs_of}.{name}"] = 100 * float(some.mean()) if len(some) else float("nan")
            metrics = read_json(paths.metrics("pickafilter"), "evaluate@pickafilter")
            figures["untouched.gain"] = figures["untouched.model"] - figures["untouched.k1"]
            return figures | {"unseen.10": 100 * metrics["unseen"]["few_shot"]["10"]["accuracy"]}


def write_photographs(folder: Path, seed: int) -> None:
    """Photographs beside spoilt copies, in Pick-a-Pic's format; none that is tested on is trained on."""
    random = Random(seed)
    jpgs = photographs()
    random.shuffle(jpgs)
    rest = jpgs[TRAIN:]
    splits = {"train": jpgs[:TRAIN], "validation": rest[:VALIDATION], "test": rest[VALIDATION:]}
    drawn: dict[str, list[drawn_scenes.Drawn]] = {name: [] for name in splits}
    for name, some in splits.items():
        for number, jpg in enumerate(some):
            with Image.open(io.BytesIO(jpg)) as picture:
                neat = picture.convert("RGB")
            for defect in DEFECTS:
                spoilt = drawn_scenes.jpeg(drawn_scenes.spoil(neat, random, defect))
                uids = (drawn_scenes.uid(random), drawn_scenes.uid(random))
                prompt = f"a dog, photograph {number}"
                drawn[name].append(drawn_scenes.Drawn(prompt, uids, (jpg, spoilt)))
    drawn_scenes.write_answers(folder, drawn, (PEOPLE,), random)
