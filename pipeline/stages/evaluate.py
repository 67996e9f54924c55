"""evaluate: accuracy on seen users, and on unseen users from no, few and more comparisons.

Test pairs are read in this stage and nowhere else. What the model is held against stands in `predictions`.
"""

import csv
from dataclasses import asdict

import polars as pl
import torch

from pal.evaluation.accuracy import calibrate
from pal.files import new_folder, write_csv, write_json
from pal.report.page import Row
from pal.serving.reward_model import RewardModel
from pipeline import PipelineError, params, paths, study
from pipeline.datasets import DATASETS
from pipeline.evaluation.bounds import MixtureBound, bayes_bound
from pipeline.evaluation.portrait import gallery, plurality, portrait, prototype_stability
from pipeline.evaluation.predictions import available_baselines, predict, rounded, without_ties
from pipeline.evaluation.scores import against_one_reward, compare, fewer_users, find, headline, score_slices
from pipeline.storage.tables import MANIFEST, read_json, write_manifest
from pipeline.study import Study

MAX_REASONS = 12  # the commonest, which come first


def main(dataset: str) -> None:
    """Evaluate one dataset's models."""
    values = params.load()
    knobs, shown = values.evaluate, values.report
    data, items = study.load(dataset), study.items(dataset)
    folders = [paths.models(dataset) / name for name in ("model", *paths.CONTROLS)]
    models = {path.name: RewardModel.load(path) for path in folders if path.name == "model" or path.is_dir()}
    model, baselines = models["model"], available_baselines(data, study.texts(items))
    bound = bayes_bound(data, values) if hasattr(DATASETS[dataset], "bound") else None
    predictions = predict(data, models, baselines, knobs, bound=bound)
    scores = score_slices(predictions, data, knobs)
    # Which comparisons the headline is about: what is said beside it is about no others.
    places = {n: find(scores.main, n, "model", shots=k) for n, k in (("seen", None), ("unseen", 0))}
    about = {n: {"items": at.items, "test": at.test} if at else {} for n, at in places.items()}
    differ = {
        users: {
            **against_one_reward(scores.main, users, knobs),
            "new": against_one_reward(scores.main, users, knobs, new=True),
            **plurality(data, model, users, knobs, **about[users]),
        }
        for users in ("seen", "unseen")
    }
    rows = {
        name: [score.row() for score in getattr(scores, name)]
        for name in ("main", "by_test", "by_filter", "cold_start")
    }
    calibration = _calibration(predictions, data, **about["seen"])
    alike = study.alike_responses(data)
    sampled = bound.said if isinstance(bound, MixtureBound) else ""
    notes = [*read_notes(dataset), *filter(None, (alike, sampled)), *fewer_users(scores.main, knobs)]
    untrained = {by.encoder for by in data.embedders.values() if by and by.encoder.startswith("untrained-")}
    # What must stand beside the numbers: encoders without training, and how answers were simulated.
    said = {"encoder": ", ".join(sorted(untrained)), "notes": " ".join(notes)}
    said = {name: sentence for name, sentence in said.items() if sentence}
    write_json(paths.metrics(dataset), {**headline(scores, differ, knobs), **said})
    # The tables behind `dvc plots`: every score, the model on unseen users by shots, and calibration.
    write_csv(paths.plot("details", dataset), [row for group in rows.values() for row in group])
    unseen = [row for row in rows["main"] if (row["users"], row["model"]) == ("unseen", "model")]
    # On all items, or where these are kept apart on known ones.
    kind = "all" if any(row["items"] == "all" for row in unseen) else "known"
    curve = ("shots", "accuracy", "low", "high")
    few_shot = [{name: row[name] for name in curve} for row in unseen if row["items"] == kind]
    write_csv(paths.plot("few_shot", dataset), few_shot)
    write_csv(paths.plot("calibration", dataset), calibration["bins"])
    # The model against what needs no fitting, on seen users, paired by user.
    unfitted = {name: find(scores.main, "seen", name) for name in ("longer", "similarity")}
    stability = prototype_stability(data, model)
    outside = [user for half in ((stability or {}).get("outside") or {}).values() for user in half["who"]]
    data_flow = data_flow_counts(dataset)
    written = read_json(paths.prepared(dataset) / MANIFEST, f"prepare@{dataset}")
    whole = {
        "dataset": dataset, "source": str(written["source"]), "notes": notes,
        "encoder": {
            side: by and {"name": by.encoder, **{k: v for k, v in asdict(by).items() if k != "encoder"}}
            for side, by in data.embedders.items()
        },
        "head": model.config.model_dump(), "fit": model.fit_config.model_dump(),
        "counts": _counts(data, data_flow), "account": data_flow, "split_table": split_table(dataset),
        "test": scores.test, "accuracies": rows["main"], "tests": rows["by_test"],
        "filters": rows["by_filter"],
        "never_seen": {**scores.cold_start_counts, "accuracies": rows["cold_start"]},
        "stability": stability, "plurality": differ,
        "beside": {name: compare(places["seen"], score, knobs) for name, score in unfitted.items() if score},
        "calibration": calibration, "training": _training(dataset),
        "gallery": gallery(data, items, shown.gallery_pairs),
        **portrait(data, models, items, shown.items_per_prototype, outside),
    }  # fmt: skip
    with new_folder(paths.evaluated(dataset)) as folder:
        write_json(folder / "evaluated.json", whole)
        write_manifest(folder)


def _training(dataset: str) -> list[Row]:
    """The rounds of training, as `train` wrote them."""
    curve = paths.plot("training", dataset)
    if not curve.exists():
        raise PipelineError(f"{curve} is missing; run `dvc repro -f train@{dataset}`")
    with curve.open(encoding="utf-8", newline="") as file:
        return [{k: float(v) if v else None for k, v in row.items()} for row in csv.DictReader(file)]


def _calibration(predictions: pl.DataFrame, data: Study, items: str = "all", test: str = "") -> Row:
    """Predicted against observed probabilities, on the seen users' test pairs of the headline."""
    seen = predictions.filter(pl.col("users") == "seen", pl.col("model") == "model")
    for name, value in (("items", items), ("test", test)):
        if value not in ("all", ""):
            seen = seen.filter(data.places[name][seen["pair"]] == value)
    if seen.is_empty():
        return {"ece": None, "bins": []}
    table = calibrate(*(torch.from_numpy(seen[name].to_numpy().copy()) for name in ("margin", "sign")))
    bins = [
        {name: rounded(value) if isinstance(value, float) else value for name, value in asdict(b).items()}
        for b in table.bins
    ]
    return {"ece": rounded(table.error), "bins": bins}


def _counts(data: Study, data_flow: list[Row]) -> dict[str, int]:
    """How many users, items and pairs went in, and how many were left out."""
    stages = {row["stage"]: row for row in data_flow}
    split = stages.get("split", {"details": {}})
    dropped = sum(stages[name]["dropped"] or 0 for name in ("prepare", "split") if name in stages)
    test = [data.select(half, "test") for half in ("seen", "unseen")]
    ties = sum(len(pairs) - len(without_ties(pairs)[0]) for pairs in test)
    return {
        "seen_users": data.n_users("seen"), "unseen_users": data.n_users("unseen"),
        "items": len({*data.prompt_ids, *data.response_ids}),
        "train_pairs": len(data.select("seen", "train")), "test_pairs": sum(map(len, test)) - ties,
        **({"test_pairs_tied_and_left_out": ties} if ties else {}),
        "dropped_pairs": dropped + data.dropped, "dropped_users": split["details"].get("users_dropped", 0),
    }  # fmt: skip


def read_notes(dataset: str) -> list[str]:
    """Sentences that must stand beside every number, as that answers were simulated, or items shared."""
    notes = read_json(paths.prepared(dataset) / paths.NOTES, f"prepare@{dataset}", absent=[])
    split = read_json(paths.splits(dataset) / MANIFEST, f"split@{dataset}")
    return [str(note) for note in (*notes, *split.get("notes", []))]


def split_table(dataset: str) -> list[Row]:
    """The split in the shape of the paper's Table 3, where prepare wrote one: each row a dict by column."""
    return read_json(paths.prepared(dataset) / "table3.json", f"prepare@{dataset}", absent=[])


def data_flow_counts(dataset: str) -> list[Row]:
    """What each stage read, kept and dropped; details are its other counts, reasons say why and how often."""
    rows = []
    folders = {"prepare": paths.prepared, "split": paths.splits, "encode": paths.embeddings}
    for stage, folder in folders.items():
        written = read_json(folder(dataset) / MANIFEST, f"{stage}@{dataset}", absent={})
        if counts := written.get("counts"):
            main = {name: counts.pop(name, None) for name in ("read", "kept", "dropped")}
            reasons = dict(list(written.get("reasons", {}).items())[:MAX_REASONS])
            rows.append({"stage": stage, **main, "details": counts, "reasons": reasons})
    return rows
