"""Bringing one's own data, proved on UKPConvArg1: crowd workers on which of two arguments convinces more.

84,445 judgements of 1,052 arguments on 32 topics, each a debate and a stance, by 3,815 workers, in the shape
of two responses and a winner with a timestamp; 19,105 are ties, and 5 prefer one of two that are the same
text. They go through every stage, download to evaluate, as a user's own file does: real all-MiniLM-L6-v2
embeddings, preset `ours`, the split drawn by `own.split` in params.yaml with a seed for each run.

known  test pairs on topics that were trained on; other workers judged mostly the very same pairs in training
new    test pairs on the topics, three of 32, that training never saw: nobody's judgement of these arguments
"""

import csv
import tempfile
from pathlib import Path
from statistics import fmean

import polars as pl
import torch
import yaml

from benchmarks.studies import SEEDS, changed, in_parallel, shared_data, staged, values
from benchmarks.table import Row, Section, mean_row
from pal.evaluation.accuracy import Judged
from pipeline import paths, study
from pipeline.stages import evaluate, train
from pipeline.storage.manifests import read_json

PROTOTYPES = (2, 3)  # each beside k1, the same with one
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
    return shared_data("PAL_UKPCONVARG", "ukpconvarg", "judgements.parquet")


def comparisons(folder: Path) -> pl.DataFrame:
    """The judgements as user_id, prompt, response_a, response_b, winner, timestamp."""
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


def ukpconvarg() -> Section:
    """All figures, or none where the judgements are not there."""
    title = (
        "One's own data: UKPConvArg1 as two responses and a winner (MiniLM, model B, latent 16, preset ours)"
    )
    if find() is None:
        return Section(title, {"judgements": "not found; skipped: set PAL_UKPCONVARG to their folder"}, [])
    run(0, prototypes=())  # every argument once, for all that follows
    results = list(in_parallel(run, [(seed,) for seed in SEEDS]).values())
    counts = {name: int(results[0][name]) for name in ("read", "ties_dropped", "identical_dropped", "kept")}
    about = {
        "seeds": list(SEEDS),
        **counts,
        "median training judgements a worker": int(results[0]["median"]),
        "known": "test pairs on topics trained on, their pairs mostly judged by others in training",
        "new": "test pairs on three of 32 topics that training never saw",
    }
    return Section(title, about, _rows(results))


def run(seed: int, prototypes: tuple[int, ...] = PROTOTYPES) -> Figures:
    """Every stage, in a folder of its own, with one seed for split and training; figures in per cent."""
    folder = find()
    assert folder is not None
    with tempfile.TemporaryDirectory() as home:
        source = Path(home) / "judgements.parquet"
        comparisons(folder).write_parquet(source)
        given = changed(values("own", seed, source=str(source)), {"datasets": ["own"], "split.seed": seed})
        with staged("own", given):
            figures: Figures = dict(
                read_json(paths.prepared("own") / "manifest.json", "prepare@own")["counts"]
            )
            figures |= _of_data() if prototypes else {}
            for K in prototypes:
                plain = changed(given, {"model.K": K}).model_dump(mode="json")
                paths.PARAMS.write_text(yaml.safe_dump(plain), encoding="utf-8")
                train.main("own")
                evaluate.main("own")
                figures |= _of_model(K)
            return figures


def _of_data() -> Figures:
    """What needs no model: who judged how much, and how often the response of more characters is chosen."""
    data, texts = study.load("own"), study.texts("own")
    length = torch.tensor([float(len(texts[id_])) for id_ in data.response_ids])
    figures = {"median": float(torch.bincount(data.select("seen", "train").user).median())}
    for users, items in (("seen", "known"), ("seen", "new"), ("unseen", "known")):
        pairs, q = data.select(users, "test", items), data.comparisons.questions
        more = (length[q.first[pairs.question]] - length[q.second[pairs.question]]) * pairs.sign
        judged = Judged.from_margins(more, pairs.user, n_users=data.n_users(users))
        figures[f"longer {users} {items}"] = 100 * judged.micro
    return figures


def _of_model(K: int) -> Figures:
    """The model's accuracies, as evaluate wrote them, and the test of K prototypes against one."""
    figures: Figures = {}
    with paths.plot("details", "own").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name = row["model"] if row["model"] != "model" else f"K={K}"
            shots = f" {row['shots']} shots" if row["shots"] else ""
            figures[f"{name} {row['users']} {row['items']}{shots}"] = 100 * float(row["accuracy"])
    plurality = read_json(paths.evaluated("own") / "evaluated.json", "evaluate@own")["plurality"]["seen"]
    return figures | {f"p seen K={K}": plurality["p"], f"gain seen K={K}": 100 * plurality["difference"]}


def _rows(results: list[Figures]) -> list[Row]:
    """The figures that are held to something, then those beside them."""

    def row(what: str, name: str, unit: str = "%", **bounds: object) -> Row:
        return mean_row(what, [figures[name] for figures in results], unit, **bounds)

    rows = []
    for items, why in (("known", ""), ("new", WHY)):
        topics = f"seen workers, {items} topics"
        longer = fmean(figures[f"longer seen {items}"] for figures in results)
        rows += [
            row(f"{topics}: K=1, over longer wins", f"k1 seen {items}", at_least=longer, note=why),
            *(row(f"{topics}: K={K}", f"K={K} seen {items}") for K in PROTOTYPES),
            row(f"{topics}: longer wins", f"longer seen {items}"),
            row(f"{topics}: majority of the judges", f"majority seen {items}"),
        ]
    for K in PROTOTYPES:
        what = f"seen workers: gain of K={K} over one reward"
        rows += [
            row(what, f"gain seen K={K}", "points", at_most=0.5, note=NO_GAIN),
            row(f"seen workers: p of that difference, K={K}", f"p seen K={K}", ""),
        ]
    return [
        *rows,
        row("unseen workers, known topics: K=1", "k1 unseen known"),
        row("unseen workers, known topics: K=3, 20 shots", "K=3 unseen known 20 shots"),
        row("unseen workers, known topics: longer wins", "longer unseen known"),
    ]
