"""evaluate: accuracy on seen users, and on unseen users from no, few and more comparisons.

Test pairs are read in this stage and nowhere else. Beside the model stand always the majority's answer, one
reward for everyone (k1), and, where groups are known, the oracle that is given them; for texts the longer
one, and where one encoder made prompts and responses, their similarity.
"""

import csv
from dataclasses import asdict
from typing import Any

import polars as pl
import torch

from pal.evaluation.accuracy import calibrate
from pal.files import new_folder, write_csv, write_json
from pal.serving.saved_model import SavedModel
from pipeline import PipelineError, params, paths, study
from pipeline.evaluation import prototypes
from pipeline.evaluation.baselines import available_baselines
from pipeline.evaluation.bounds import bayes_bound
from pipeline.evaluation.headline import against_one_reward, compare, fewer_users, headline
from pipeline.evaluation.portrait import gallery, portrait
from pipeline.evaluation.predictions import predict, rounded, without_ties
from pipeline.evaluation.slices import find, score_slices
from pipeline.storage.manifests import read_json, write_manifest
from pipeline.study import Study

MAX_REASONS = 12
COUNTS = ("read", "kept", "dropped")
CURVE = ("shots", "accuracy", "low", "high")


def main(dataset: str) -> None:
    """Evaluate one dataset's models."""
    values = params.load()
    knobs, shown = values.evaluate, values.report
    data, items = study.load(dataset), study.items(dataset)
    folders = {name: paths.models(dataset) / name for name in ("model", *paths.CONTROLS)}
    loaded = {name: folder for name, folder in folders.items() if name == "model" or folder.is_dir()}
    models = {name: SavedModel.load(folder) for name, folder in loaded.items()}
    model = models["model"]
    baselines = available_baselines(
        data, dict(items.drop_nulls("text").select("item_id", "text").iter_rows())
    )
    predictions = predict(data, models, baselines, knobs, bound=bayes_bound(data, values))
    scores = score_slices(predictions, data, knobs)
    main_rows, tests, filters, cold_start = (
        [score.row() for score in group]
        for group in (scores.main, scores.by_test, scores.by_filter, scores.cold_start)
    )
    # Which comparisons the headline is about: what is said beside it is about no others.
    places = {n: find(scores.main, n, "model", shots=k) for n, k in (("seen", None), ("unseen", 0))}
    about = {n: {"items": at.items, "test": at.test} if at else {} for n, at in places.items()}
    plurality = {
        users: {
            **against_one_reward(scores.main, users, knobs),
            "new": against_one_reward(scores.main, users, knobs, new=True),
            **prototypes.plurality(data, model, users, knobs, **about[users]),
        }
        for users in ("seen", "unseen")
    }
    # The model against what needs no fitting, on seen users, paired by user.
    fitted = find(scores.main, "seen", "model")
    unfitted = {name: find(scores.main, "seen", name) for name in ("longer", "similarity")}
    calibration = _calibration(predictions, data, **about["seen"])
    alike = study.alike_responses(data)
    notes = [*read_notes(dataset), *([alike] if alike else []), *fewer_users(scores.main, knobs)]
    data_flow = data_flow_counts(dataset)
    untrained = {by.encoder for by in data.embedders.values() if by and by.encoder.startswith("untrained-")}
    # What must stand beside the numbers: encoders without training, and how answers were simulated.
    said = {"encoder": ", ".join(sorted(untrained)), "notes": " ".join(notes)}
    said = {name: text for name, text in said.items() if text}
    write_json(paths.metrics(dataset), {**headline(scores, plurality, knobs), **said})
    write_csv(paths.plot("details", dataset), [*main_rows, *tests, *filters, *cold_start])
    # The model on unseen users by shots: on all items, or where these are kept apart on known ones.
    unseen = [row for row in main_rows if (row["users"], row["model"]) == ("unseen", "model")]
    kind = "all" if any(row["items"] == "all" for row in unseen) else "known"
    curve = [{name: row[name] for name in CURVE} for row in unseen if row["items"] == kind]
    write_csv(paths.plot("few_shot", dataset), curve)
    write_csv(paths.plot("calibration", dataset), calibration["bins"])
    if not (curve_file := paths.plot("training", dataset)).exists():
        raise PipelineError(f"{curve_file} is missing; run `dvc repro -f train@{dataset}`")
    with curve_file.open(encoding="utf-8", newline="") as file:
        training = [{k: float(v) if v else None for k, v in row.items()} for row in csv.DictReader(file)]
    source = read_json(paths.prepared(dataset) / "manifest.json", f"prepare@{dataset}")["source"]
    stability = prototypes.stability(data, model)
    outside = [user for half in ((stability or {}).get("outside") or {}).values() for user in half["who"]]
    with new_folder(paths.evaluated(dataset)) as folder:
        whole = {
            "dataset": dataset,
            "source": str(source),
            "notes": notes,
            "published": compared_with_published(dataset),
            "encoder": {
                side: by and {"name": by.encoder, **{k: v for k, v in asdict(by).items() if k != "encoder"}}
                for side, by in data.embedders.items()
            },
            "head": model.config.model_dump(),
            "fit": model.fit_config.model_dump(),
            "counts": _counts(data, data_flow),
            "account": data_flow,
            "split_table": split_table(dataset),
            "test": scores.test,
            "accuracies": main_rows,
            "tests": tests,
            "filters": filters,
            "never_seen": {**scores.cold_start_counts, "accuracies": cold_start},
            "stability": stability,
            "plurality": plurality,
            "beside": {name: compare(fitted, score, knobs) for name, score in unfitted.items() if score},
            "calibration": calibration,
            "training": training,
            "gallery": gallery(data, items, shown.gallery_pairs),
            **portrait(data, models, items, shown.items_per_prototype, outside),
        }
        write_json(folder / "evaluated.json", whole)
        write_manifest(folder)


def _calibration(
    predictions: pl.DataFrame, data: Study, items: str = "all", test: str = ""
) -> dict[str, Any]:
    """Predicted against observed probabilities, on the seen users' test pairs of the headline."""
    seen = predictions.filter(pl.col("users") == "seen", pl.col("model") == "model")
    wanted = {name: value for name, value in (("items", items), ("test", test)) if value not in ("all", "")}
    for name, value in wanted.items():
        seen = seen.filter(data.places[name][seen["pair"]] == value)
    if seen.is_empty():
        return {"ece": None, "bins": []}
    table = calibrate(*(torch.from_numpy(seen[name].to_numpy().copy()) for name in ("margin", "sign")))
    bins = [
        {name: rounded(value) if isinstance(value, float) else value for name, value in asdict(b).items()}
        for b in table.bins
    ]
    return {"ece": rounded(table.error), "bins": bins}


def _counts(data: Study, data_flow: list[dict[str, Any]]) -> dict[str, int]:
    """How many users, items and pairs went in, and how many were left out."""
    stages = {row["stage"]: row for row in data_flow}
    split = stages.get("split", {"details": {}})
    dropped = sum(stages[name]["dropped"] or 0 for name in ("prepare", "split") if name in stages)
    test = [data.select(half, "test") for half in ("seen", "unseen")]
    ties = sum(len(pairs) - len(without_ties(pairs)[0]) for pairs in test)
    return {
        "seen_users": data.n_users("seen"),
        "unseen_users": data.n_users("unseen"),
        "items": len({*data.prompt_ids, *data.response_ids}),
        "train_pairs": len(data.select("seen", "train")),
        "test_pairs": sum(map(len, test)) - ties,
        **({"test_pairs_tied_and_left_out": ties} if ties else {}),
        "dropped_pairs": dropped + data.dropped,
        "dropped_users": split["details"].get("users_dropped", 0),
    }


def read_notes(dataset: str) -> list[str]:
    """Sentences that must stand beside every number, as that answers were simulated, or items shared."""
    path, split = paths.prepared(dataset) / "notes.json", paths.splits(dataset) / "manifest.json"
    notes = read_json(path, f"prepare@{dataset}") if path.exists() else []
    return [str(note) for note in (*notes, *read_json(split, f"split@{dataset}").get("notes", []))]


def compared_with_published(dataset: str) -> list[str]:
    """Sentences on whether these are the published data, by their counts."""
    path = paths.prepared(dataset) / "published.json"
    comparison = read_json(path, f"prepare@{dataset}") if path.exists() else {}
    sections = (comparison, comparison.get("leakage") or {})
    return [str(section["says"]) for section in sections if section.get("says")]


def split_table(dataset: str) -> list[dict[str, Any]]:
    """The split in the shape of the paper's Table 3, where prepare wrote one: each row a dict by column."""
    path = paths.prepared(dataset) / "table3.json"
    return read_json(path, f"prepare@{dataset}") if path.exists() else []


def data_flow_counts(dataset: str) -> list[dict[str, Any]]:
    """What each stage read, kept and dropped; details are its other counts, reasons say why and how often."""
    rows = []
    for stage, folder in (
        ("prepare", paths.prepared(dataset)),
        ("recolour", paths.recoloured(dataset)),
        ("split", paths.splits(dataset)),
        ("encode", paths.embeddings(dataset)),
    ):
        path = folder / "manifest.json"
        written = read_json(path, f"{stage}@{dataset}") if path.exists() else {}
        counts = {name: n for name, n in written.get("counts", {}).items() if isinstance(n, int)}
        if counts:
            details = {name: n for name, n in counts.items() if name not in COUNTS}
            row = {"stage": stage, **{name: counts.get(name) for name in COUNTS}}
            rows.append({**row, "details": details, "reasons": commonest(written.get("reasons", {}))})
    return rows


def commonest(reasons: dict[str, int], most: int = MAX_REASONS) -> dict[str, int]:
    """The commonest reasons, and how often all others applied."""
    ordered = sorted(reasons.items(), key=lambda reason: (-reason[1], reason[0]))
    rest = sum(n for _, n in ordered[most:])
    return {**dict(ordered[:most]), **({"other reasons": rest} if rest else {})}
