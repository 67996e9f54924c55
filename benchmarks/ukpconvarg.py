"""Bringing one's own data, proved on UKPConvArg1: crowd workers on which of two arguments convinces more.

84,445 judgements of 1,052 arguments on 32 topics, each a debate and a stance, by 3,815 workers, in the shape
of two responses and a winner with a timestamp; 19,105 are ties, and 5 prefer one of two that are the same
text. They go through every stage, download to evaluate, as a user's own file does: real all-MiniLM-L6-v2
embeddings, preset `ours`, the split drawn by `own.split` in params.yaml with a seed for each run.

known  test pairs on topics that were trained on; other workers judged mostly the very same pairs in training
new    test pairs on the topics, three of 32, that training never saw: nobody's judgement of these arguments
"""

import csv
import os
import tempfile
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
import yaml

from benchmarks.studies import ROOT, SEEDS, in_parallel
from benchmarks.table import Row, Section, show
from pal.evaluation.accuracy import Judged
from pipeline import params, paths, study
from pipeline.stages import download, encode, evaluate, prepare, recolour, split, train
from pipeline.storage.manifests import read_json

if TYPE_CHECKING:
    import polars as pl

    from pipeline.study import Study

PROTOTYPES = (2, 3)  # each beside k1, the same with one
MOST_GAIN = 0.5  # points
NO_GAIN = (
    "hardly any is to be expected: a worker's median is 4 judgements that are no ties, 3 of them to train"
)
WHY = (
    "where nobody's judgement of an argument is known, 29 topics teach little beyond length, which these "
    "embeddings tell well; on topics held out of training, weight decay 0.3 to 30, latent 4 to 64, no hidden "
    "layer, 20 to 100 epochs, model A and a linear fit came out from 3 points below longer wins to 0.3 above"
)
Figures = dict[str, float]


def find() -> Path | None:
    """The judgements: PAL_UKPCONVARG, or `../shared/data/ukpconvarg` beside the repository."""
    folder = Path(os.environ.get("PAL_UKPCONVARG") or ROOT.parent / "shared/data/ukpconvarg").resolve()
    return folder if (folder / "judgements.parquet").is_file() else None


def comparisons(folder: Path) -> "pl.DataFrame":
    """The judgements as user_id, prompt, response_a, response_b, winner, timestamp."""
    import polars as pl

    arguments, judgements, topics = (
        pl.read_parquet(folder / f"{name}.parquet") for name in ("arguments", "judgements", "topics")
    )
    for side in ("left", "right"):
        texts = arguments.select("topic", pl.col("arg_id").alias(f"{side}_id"), pl.col("text").alias(side))
        judgements = judgements.join(texts, on=["topic", f"{side}_id"], how="left", maintain_order="left")
    return judgements.join(topics, on="topic", how="left", maintain_order="left").select(
        "user_id",
        pl.format("{} {}", "title", "stance").alias("prompt"),
        pl.col("left").alias("response_a"),
        pl.col("right").alias("response_b"),
        pl.col("value").replace_strict({"a1": "a", "a2": "b", "equal": "tie"}).alias("winner"),
        pl.col("submitted_at").alias("timestamp"),
    )


def measure() -> Section:
    """All figures, or none where the judgements are not there."""
    title = (
        "One's own data: UKPConvArg1 as two responses and a winner (MiniLM, model B, latent 16, preset ours)"
    )
    folder = find()
    if folder is None:
        return Section(title, {"judgements": "not found; skipped: set PAL_UKPCONVARG to their folder"}, [])
    run(0, encode_only=True)  # every argument once, for all that follows
    found = in_parallel(run, [(seed,) for seed in SEEDS])
    counts = {name: int(found[0][name]) for name in ("read", "ties_dropped", "identical_dropped", "kept")}
    about = {
        "seeds": list(SEEDS),
        **counts,
        "median training judgements a worker": int(found[0]["median"]),
        "known": "test pairs on topics trained on, their pairs mostly judged by others in training",
        "new": "test pairs on three of 32 topics that training never saw",
    }
    return Section(title, about, _rows(found))


def run(seed: int, *, encode_only: bool = False) -> Figures:
    """Every stage, in a folder of its own, with one seed for split and training; figures in per cent."""
    folder = find()
    assert folder is not None
    with tempfile.TemporaryDirectory() as home, chdir(home), redirect_stdout(StringIO()):
        comparisons(folder).write_parquet("judgements.parquet")
        _set(home, seed, PROTOTYPES[0])
        for stage in (download, prepare, recolour, split, encode):
            stage.main("own")
        if encode_only:
            return {}
        figures: Figures = dict(read_json(paths.prepared("own") / "manifest.json", "prepare@own")["counts"])
        figures |= _of_data(study.load("own"))
        for K in PROTOTYPES:
            _set(home, seed, K)
            train.main("own")
            evaluate.main("own")
            figures |= _of_model(K)
        return figures


def _set(home: str, seed: int, K: int) -> None:
    """Write params.yaml: as it is shipped, but for the data, the seeds and the number of prototypes."""
    with chdir(ROOT):
        given = params.load().model_dump(mode="json")
    given["datasets"], given["own"]["source"] = ["own"], str(Path(home) / "judgements.parquet")
    given["split"]["seed"] = given["train"]["seed"] = seed
    given["model"]["K"] = K
    paths.PARAMS.write_text(yaml.safe_dump(given), encoding="utf-8")


def _of_data(data: "Study") -> Figures:
    """What needs no model: who judged how much, and how often the longer argument wins."""
    trained = torch.bincount(data.select("seen", "train").user)
    figures = {"median": float(trained.median())}
    for users, items in (("seen", "known"), ("seen", "new"), ("unseen", "known"), ("unseen", "new")):
        figures[f"longer {users} {items}"] = longer_wins(data, users, items)
    return figures


def longer_wins(data: "Study", users: str, items: str) -> float:
    """How often the response of more characters is the chosen one, in per cent; equal lengths count half."""
    pairs, q = data.select(users, "test", items), data.comparisons.questions
    texts = study.texts("own")
    length = torch.tensor([float(len(texts[id_])) for id_ in data.response_ids])
    first, second = length[q.first[pairs.question]], length[q.second[pairs.question]]
    judged = Judged.of((first - second) * pairs.sign, pairs.user, n_users=data.n_users(users))
    return 100 * judged.micro


def _of_model(K: int) -> Figures:
    """The model's accuracies, as evaluate wrote them, and the test of K prototypes against one."""
    figures: Figures = {}
    with paths.plot("details", "own").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name = row["model"] if row["model"] != "model" else f"K={K}"
            shots = f" {row['shots']} shots" if row["shots"] else ""
            figures[f"{name} {row['users']} {row['items']}{shots}"] = 100 * float(row["accuracy"])
    whole: dict[str, Any] = read_json(paths.evaluated("own") / "evaluated.json", "evaluate@own")
    for users in ("seen", "unseen"):
        p = whole["plurality"][users]["p"]
        if p is not None:
            figures[f"p {users} K={K}"] = p
            figures[f"gain {users} K={K}"] = 100 * whole["plurality"][users]["difference"]
    return figures


def _rows(found: list[Figures]) -> list[Row]:
    """The figures that are held to something, then those beside them."""

    def row(
        what: str,
        name: str,
        unit: str = "%",
        note: str = "",
        least: float | None = None,
        most: float | None = None,
    ) -> Row:
        each = [figures[name] for figures in found]
        return Row(what, fmean(each), unit, at_least=least, at_most=most, each=each, note=note)

    rows = []
    for items in ("known", "new"):
        topics = f"{items} topics"
        longer = fmean(figures[f"longer seen {items}"] for figures in found)
        why = "" if items == "known" else WHY
        rows += [
            row(f"seen workers, {topics}: K=1, over longer wins", f"k1 seen {items}", least=longer, note=why),
            *(row(f"seen workers, {topics}: K={K}", f"K={K} seen {items}") for K in PROTOTYPES),
            row(f"seen workers, {topics}: longer wins", f"longer seen {items}"),
            row(f"seen workers, {topics}: majority of the judges", f"majority seen {items}"),
        ]
    for K in PROTOTYPES:
        rows += [
            row(
                f"seen workers: gain of K={K} over one reward",
                f"gain seen K={K}",
                "points",
                most=MOST_GAIN,
                note=NO_GAIN,
            ),
            row(f"seen workers: p of that difference, K={K}", f"p seen K={K}", ""),
        ]
    rows += [
        row("unseen workers, known topics: K=1", "k1 unseen known"),
        row("unseen workers, known topics: K=3, 20 shots", "K=3 unseen known 20 shots"),
        row("unseen workers, known topics: longer wins", "longer unseen known"),
    ]
    return rows


if __name__ == "__main__":
    show(measure())
