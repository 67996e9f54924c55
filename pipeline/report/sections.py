"""A dataset's section of the report: its sentences, its tables and its figures."""

from typing import Any

from pipeline.datasets import DATASETS
from pipeline.evaluation.evaluated import Evaluated
from pipeline.report import charts, curves, findings, maps, rows, trust


def section(evaluated: Evaluated) -> dict[str, Any]:
    """What the template shows of one dataset."""
    dataset, counts = evaluated["dataset"], evaluated["counts"]
    tests = rows.by_test(evaluated["tests"])
    filters = rows.by_filter(evaluated["filters"], max(_shots(evaluated["filters"]), default=0))
    tables = {"accuracy": rows.table(evaluated["accuracies"]), "tests": tests, "filters": filters}
    marks = {name: rows.dots(table) for name, table in tables.items()}
    return {
        **evaluated,
        "title": DATASETS[dataset].TITLE,
        "about": DATASETS[dataset].ABOUT,
        "tags": _tags(evaluated),
        "headline": findings.headline(evaluated),
        "compared": findings.plurality(evaluated),
        "held": findings.held(evaluated),
        "meaning": findings.meaning(evaluated),
        "names": _names(evaluated),
        "opening": rows.opening(evaluated["prototypes"]),
        "table": tables["accuracy"],
        "tests": tests,
        "filters": filters,
        "n_users": counts.get("seen_users", 0) + counts.get("unseen_users", 0),
        "grouped": any(user["group"] for user in evaluated["users"]),
        "drawn": {name: rows.drawn(each) for name, each in marks.items()},
        "figures": _figures(evaluated, marks),
        "references": [row["series"] for row in rows.curve(evaluated["accuracies"])[1]],
        "bounded": bool(rows.along(evaluated["accuracies"], "bound")),
        "asking": trust.asking(evaluated["accuracies"]),
        "trust": trust.trust(evaluated),
        "alarms": trust.alarms(evaluated),
        "strictest": rows.table(evaluated["never_seen"]["accuracies"]),
        "never": trust.never_seen(evaluated["never_seen"]),
        "prototypes_said": curves.said(evaluated.get("curves") or {}, evaluated),
    }


def _names(evaluated: Evaluated) -> dict[str, str]:
    return rows.series_names(
        evaluated["head"]["K"], (evaluated["encoder"]["responses"] or {}).get("name", "")
    )


def _shots(accuracies: list[dict[str, Any]]) -> list[int]:
    return [row["shots"] for row in accuracies if row["shots"] is not None]


def _tags(evaluated: Evaluated) -> list[str]:
    """What a reader must not overlook: made-up data, and encoders that were never trained."""
    kind = evaluated["source"].partition(":")[0]
    tags = [f"{kind} data"] if kind in ("sample", "generated") else []
    encoders = [by["name"] for by in evaluated["encoder"].values() if by]
    return [*tags, "untrained weights"] if any(n.startswith("untrained-") for n in encoders) else tags


def _figures(evaluated: Evaluated, marks: dict[str, list[dict[str, Any]]]) -> dict[str, charts.Spec | None]:
    """Every figure of a dataset; None where there is nothing to draw."""
    n_prototypes, users, truth = evaluated["head"]["K"], evaluated["users"], evaluated["truth"]
    names = _names(evaluated)
    bins = [
        b
        for b in evaluated["calibration"]["bins"]
        if b["predicted"] is not None and b["observed"] is not None
    ]
    figures = {
        **{name: charts.accuracy_dots(each, names) if each else None for name, each in marks.items()},
        "few_shot": _few_shot(evaluated, names, "bound"),
        "asking": _asking(evaluated, names),
        "users": None,
        "calibration": charts.calibration(bins) if bins else None,
        **_training(evaluated["training"]),
        "truth": maps.truth(truth) if truth and truth["users"] else None,
        "curves": curves.chart(evaluated.get("curves") or {}),
    }
    if users and n_prototypes > 1:
        figures["users"] = maps.strip(users) if n_prototypes == 2 else maps.simplex(users, n_prototypes)
    return figures


def _few_shot(evaluated: Evaluated, names: dict[str, str], *others: str) -> charts.Spec | None:
    accuracies = evaluated["accuracies"]
    curve, references = rows.curve(accuracies)
    if len(curve) < 2:
        return None
    found = {name: along for name in others if (along := rows.along(accuracies, name))}
    return charts.few_shot(curve, references, names, found)


def _asking(evaluated: Evaluated, names: dict[str, str]) -> charts.Spec | None:
    """Chosen comparisons beside drawn ones, from none on: with none they are the same."""
    accuracies = evaluated["accuracies"]
    drawn, chosen = (rows.along(accuracies, name) for name in ("model", "asked"))
    if len(drawn) < 2 or not chosen:
        return None
    start = [row for row in drawn if row["shots"] == 0]
    names = {**names, "model": "Drawn comparisons"}
    return charts.few_shot(drawn, [], names, {"asked": [*start, *chosen]})


def _training(log: list[dict[str, Any]]) -> dict[str, charts.Spec | None]:
    losses = {"loss": "training", "val_loss": "validation"}
    losses = {key: name for key, name in losses.items() if any(row[key] is not None for row in log)}
    percents = [{**row, "val_accuracy": charts.hundred(row["val_accuracy"])} for row in log]
    title = "loss" if len(losses) > 1 else f"{next(iter(losses.values()), '')} loss"
    validated = any(row["val_accuracy"] is not None for row in log)
    accuracy = {"val_accuracy": "validation"}
    return {
        "loss": charts.training(log, losses, title) if losses else None,
        "val_accuracy": charts.training(percents, accuracy, "validation accuracy, %") if validated else None,
    }
