"""evaluate: accuracy on seen users, and on unseen users from no, few and more comparisons.

Test pairs are read here and nowhere else. Beside the model stand always the majority's answer, one reward for
everyone (k1), and, where groups are known, the oracle that is told them; for texts the longer one, and where
one encoder made prompts and responses, what it says by itself.
"""

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pal.evaluation.accuracy import bootstrap_interval, calibrate, worst_decile
from pal.files import new_folder, write_csv, write_json
from pal.serving.saved_model import SavedModel
from pipeline import params, paths, study
from pipeline.evaluation import account, baselines, bounds, stability
from pipeline.evaluation.answers import Test, decided, margins_by
from pipeline.evaluation.gallery import gallery
from pipeline.evaluation.headline import compare, find, headline, per_user, plurality, rounded
from pipeline.evaluation.judging import Results, judge
from pipeline.evaluation.people import differ
from pipeline.evaluation.portrait import portrait
from pipeline.params import Evaluate
from pipeline.storage.manifests import write_manifest
from pipeline.study import Study


def main(dataset: str) -> None:
    """Evaluate one dataset's models."""
    values = params.load()
    data = study.load(dataset)
    items = study.items(dataset)
    models = _models(dataset)
    bound = bounds.of(data, values)
    results = judge(data, models, baselines.of(data, _texts(items)), values.evaluate, bound=bound)
    rows = {id(test): _row(test, values.evaluate) for test in results.all}
    main_rows = [rows[id(test)] for test in results.main]
    better = {
        users: plurality(results.main, users, values.evaluate)
        | differ(data, models["model"], users, values.evaluate)
        for users in ("seen", "unseen")
    }
    calibration = _calibration(data, models["model"])
    write_json(paths.metrics(dataset), {**headline(results, better, values.evaluate), **_words(data)})
    write_csv(paths.plot("details", dataset), list(rows.values()))
    write_csv(paths.plot("few_shot", dataset), _curve(main_rows))
    write_csv(paths.plot("calibration", dataset), calibration["bins"])
    with new_folder(paths.evaluated(dataset)) as folder:
        whole = {
            "dataset": dataset,
            "source": account.source(dataset),
            "notes": account.notes(dataset),
            "published": account.published(dataset),
            "encoder": {part: _encoder(data, part) for part in data.embedders},
            "head": models["model"].config.model_dump(),
            "fit": models["model"].fit_config.model_dump(),
            "counts": _counts(data),
            "account": account.account(dataset),
            "split_table": account.split_table(dataset),
            "test": results.test,
            "accuracies": main_rows,
            "tests": [rows[id(test)] for test in results.cells],
            "filters": [rows[id(test)] for test in results.filters],
            "never_seen": {
                **results.strictest.about(),
                "accuracies": [rows[id(test)] for test in results.strictest.tests],
            },
            "stability": stability.of(data, models["model"]),
            "plurality": better,
            "beside": _beside(results, values.evaluate),
            "calibration": calibration,
            "training": _training(paths.plot("training", dataset)),
            "gallery": gallery(data, items, values.report.gallery_pairs),
            **portrait(
                data, models["model"], items, values.report.items_per_prototype, per_user(results.main)
            ),
        }
        write_json(folder / "evaluated.json", whole)
        write_manifest(folder)


def _models(dataset: str) -> dict[str, SavedModel]:
    """The model, and the controls that were fitted."""
    found = {"model": SavedModel.load(paths.models(dataset) / "model")}
    for name in paths.CONTROLS:
        if (paths.models(dataset) / name).is_dir():
            found[name] = SavedModel.load(paths.models(dataset) / name)
    return found


def _texts(items: Any) -> dict[str, str]:
    here = items.drop_nulls("text")
    return dict(zip(here["item_id"].to_list(), here["text"].to_list(), strict=True))


def _row(test: Test, knobs: Evaluate) -> dict[str, Any]:
    low, high = bootstrap_interval(test.judged, resamples=knobs.resamples, seed=knobs.seed)
    return {
        "users": test.users,
        "items": test.items,
        "test": test.test,
        "pairs": test.pairs,
        "shots": test.shots,
        "model": test.model,
        "accuracy": rounded(test.judged.micro),
        "low": rounded(low),
        "high": rounded(high),
        "macro": rounded(test.judged.macro),
        "balanced": rounded(test.balanced),
        "worst_decile": rounded(worst_decile(test.judged)),
        "n_users": int((test.judged.total > 0).sum()),
        "n_pairs": int(test.judged.total.sum()),
    }


def _beside(results: Results, knobs: Evaluate) -> dict[str, dict[str, float | None]]:
    """One reward for everyone against what needs no fitting, on seen users, paired by user."""
    k1 = find(results.main, "seen", "k1")
    held = {name: find(results.main, "seen", name) for name in ("longer", "similarity")}
    return {name: compare(k1, test, knobs) for name, test in held.items() if k1 and test}


def _words(data: Study) -> dict[str, str]:
    """What must be said beside the numbers: how answers were simulated, and encoders without training."""
    names = {by.encoder for by in data.embedders.values() if by and by.encoder.startswith("untrained-")}
    said = {"encoder": ", ".join(sorted(names)), "notes": " ".join(account.notes(data.dataset))}
    return {name: text for name, text in said.items() if text}


def _curve(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The model on unseen users by shots: on all items, or where these are kept apart on known ones."""
    here = [row for row in rows if (row["users"], row["model"]) == ("unseen", "model")]
    kind = "all" if any(row["items"] == "all" for row in here) else "known"
    columns = ("shots", "accuracy", "low", "high")
    return [{name: row[name] for name in columns} for row in here if row["items"] == kind]


def _calibration(data: Study, model: SavedModel) -> dict[str, Any]:
    """Predicted against observed, on all the seen users' test pairs but ties."""
    pairs, _ = decided(data.select("seen", "test"))
    if not len(pairs):
        return {"ece": None, "bins": []}
    (found,) = margins_by(model, [model.weights], data, pairs)
    table = calibrate(found, pairs.sign)
    bins = [
        {name: rounded(value) if isinstance(value, float) else value for name, value in asdict(b).items()}
        for b in table.bins
    ]
    return {"ece": rounded(table.error), "bins": bins}


def _counts(data: Study) -> dict[str, int]:
    split = next((row for row in account.account(data.dataset) if row["stage"] == "split"), None)
    test = [data.select(half, "test") for half in ("seen", "unseen")]
    ties = sum(len(pairs) - len(decided(pairs)[0]) for pairs in test)
    return {
        "seen_users": data.n_users("seen"),
        "unseen_users": data.n_users("unseen"),
        "items": len({*data.prompt_ids, *data.response_ids}),
        "train_pairs": len(data.select("seen", "train")),
        "test_pairs": sum(map(len, test)) - ties,
        **({"test_pairs_tied_and_left_out": ties} if ties else {}),
        "dropped_pairs": (split["dropped"] if split else 0) + data.dropped,
        "dropped_users": split["details"].get("users_dropped", 0) if split else 0,
    }


def _encoder(data: Study, part: str) -> dict[str, Any] | None:
    by = data.embedders[part]
    if by is None:
        return None
    about = asdict(by)
    return {"name": about.pop("encoder"), **about}


def _training(path: Path) -> list[dict[str, float | None]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{k: float(v) if v else None for k, v in row.items()} for row in csv.DictReader(file)]
