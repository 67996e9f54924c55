"""Pick-a-Filter: the drawn sample, and the same filters over real photographs; simulated people throughout.

drawn         the embedded sample, drawn anew for each seed
photographs   ../shared/data/dog_morphs: each photograph beside spoilt copies of itself, photographs held out.
              The 55 are seven dogs and their mixtures, so that a held-out one has relatives in training.

Every stage runs as `dvc repro` runs it. K=1 is the control that each run fits beside its model. About 10
minutes on two quiet cores.
"""

import io
import os
import tempfile
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from random import Random
from statistics import fmean

import torch
import yaml

from benchmarks.studies import ROOT, SEEDS, in_parallel, values
from benchmarks.table import Row, Section, show
from pal.fitting.fit import margins
from pal.serving.reward_model import RewardModel
from pipeline import paths, study
from pipeline.datasets.drawn import drawings, scenes
from pipeline.stages import download, encode, evaluate, prepare, recolour, split, train
from pipeline.storage.manifests import read_json

DEFECTS = ("blurred", "noisy", "faded", "blocky")
PEOPLE = scenes.Crowd(60, (60, 80), 6, 20)
TRAIN, VALIDATION = 35, 6  # photographs; the other 14 are tested on
K = 2
Figures = dict[str, float]


def photographs() -> Path | None:
    """The photographs: PAL_PHOTOGRAPHS, or `../shared/data/dog_morphs` beside the repository."""
    folder = Path(os.environ.get("PAL_PHOTOGRAPHS") or ROOT.parent / "shared/data/dog_morphs").resolve()
    return folder / "images.parquet" if (folder / "images.parquet").is_file() else None


def measure() -> Section:
    """All figures."""
    kinds = ["drawn", *(["photographs"] if photographs() else [])]
    jobs = [(kind, beta, seed) for kind in kinds for beta in (1.0, 0.5) for seed in SEEDS]
    found = dict(zip(jobs, in_parallel(run, jobs), strict=True))
    rows = []
    for kind in kinds:
        whole, half = ([found[kind, beta, seed] for seed in SEEDS] for beta in (1.0, 0.5))
        rows += _rows(kind, whole, half)
    about = {"seeds": list(SEEDS), "K": K, "encoder": "classical"}
    if "photographs" not in kinds:
        about["photographs"] = "not measured: they were not found"
    return Section("Pick-a-Filter: two tastes in colour", about, rows)


def _rows(kind: str, whole: list[Figures], half: list[Figures]) -> list[Row]:
    def row(what: str, each: list[float], at_least: float | None = None, at_most: float | None = None) -> Row:
        return Row(f"{kind}, {what}", fmean(each), at_least=at_least, at_most=at_most, each=each)

    gain = [one["untouched.model"] - one["untouched.k1"] for one in half]
    return [
        row("beta 1, K=1", [one["seen.k1"] for one in whole], 60, 90),
        row("beta 1, K=2", [one["seen.model"] for one in whole], 97),
        row("beta 1, unseen users at 10 shots", [one["unseen.10"] for one in whole], 95),
        row("beta 0.5, untouched pairs, K=2 less K=1", gain, -1),
        row("beta 0.5, untouched pairs, K=1", [one["untouched.k1"] for one in half]),
        row("beta 0.5, filtered pairs, K=2", [one["filtered.model"] for one in half]),
        row("beta 0.5, filtered pairs, K=1", [one["filtered.k1"] for one in half]),
        row("beta 0.5, unseen users at 10 shots", [one["unseen.10"] for one in half]),
    ]


def run(kind: str, beta: float, seed: int) -> Figures:
    """Run all stages in a folder of their own; accuracies in per cent."""
    given = values("pickafilter", seed, source="pictures").model_dump(mode="json")
    given["model"]["K"] = K
    given["pickafilter"]["recolour"]["beta"] = beta
    given["recolour"]["seed"] = given["split"]["seed"] = given["evaluate"]["seed"] = seed
    if kind == "photographs":
        given["pickafilter"]["prepare"]["seen_users_per_group"] = 20
    with tempfile.TemporaryDirectory() as folder, chdir(folder), redirect_stdout(StringIO()):
        Path("pictures").mkdir()
        (scenes.write if kind == "drawn" else _write_photographs)(Path("pictures"), seed)
        paths.PARAMS.write_text(yaml.safe_dump(given), encoding="utf-8")
        for stage in (download, prepare, recolour, split, encode, train, evaluate):
            stage.main("pickafilter")
        return _figures()


def _figures() -> Figures:
    data = study.load("pickafilter")
    found: Figures = {}
    for name in ("model", "k1"):
        model = RewardModel.load(paths.models("pickafilter") / name)
        for part, pairs in {
            "seen": data.select("seen", "test"),
            "untouched": data.select("seen", "test", filtered=None),
        }.items():
            with torch.inference_mode():
                margin = margins(model.head, model.weights, data.embeddings, pairs)
            right = (margin > 0).float() + (margin == 0).float() / 2
            found[f"{part}.{name}"] = 100 * float(right.mean()) if len(right) else float("nan")
            found[f"{part}.n"] = len(right)
        rest = found["seen.n"] - found["untouched.n"]
        seen = found[f"seen.{name}"] * found["seen.n"]
        plain = found[f"untouched.{name}"] * found["untouched.n"] if found["untouched.n"] else 0.0
        found[f"filtered.{name}"] = (seen - plain) / rest if rest else float("nan")
    metrics = read_json(paths.metrics("pickafilter"), "evaluate@pickafilter")
    return found | {"unseen.10": 100 * metrics["unseen"]["few_shot"]["10"]["accuracy"]}


def _write_photographs(folder: Path, seed: int) -> None:
    """The photographs in Pick-a-Pic's format: none of those tested on is trained on."""
    import polars as pl

    random = Random(seed)
    jpgs = pl.read_parquet(photographs(), columns=["jpg"])["jpg"].to_list()
    random.shuffle(jpgs)
    parts = {
        "train": jpgs[:TRAIN],
        "validation": jpgs[TRAIN : TRAIN + VALIDATION],
        "test": jpgs[TRAIN + VALIDATION :],
    }
    drawn = {name: _spoilt(part, random) for name, part in parts.items()}
    scenes.write_answers(folder, drawn, (PEOPLE,), random)


def _spoilt(jpgs: list[bytes], random: Random) -> list[scenes.Drawn]:
    """Each photograph beside a copy with each defect."""
    from PIL import Image

    found = []
    for number, jpg in enumerate(jpgs):
        with Image.open(io.BytesIO(jpg)) as picture:
            neat = picture.convert("RGB")
        for defect in DEFECTS:
            spoilt = scenes.jpeg(drawings.spoil(neat, random, defect))
            uids = (scenes.uid(random), scenes.uid(random))
            found.append(scenes.Drawn(f"a dog, photograph {number}", uids, (jpg, spoilt)))
    return found


if __name__ == "__main__":
    show(measure())
