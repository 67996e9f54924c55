"""The report: a page for each dataset and one that leads to them, each in one file for any browser."""

from functools import cache
from pathlib import Path
from typing import Any

import vl_convert

from pal.files import new_folder, write_text
from pal.report import page
from pipeline import params, paths
from pipeline.datasets import DATASETS
from pipeline.report import charts, findings
from pipeline.report.charts import Row, Spec
from pipeline.storage.tables import read_json

PAPER = Path("data/paper/paper.html")  # of experiments/: linked to where it is there
TEMPLATES = Path(charts.__file__).parent
javascript_bundle = cache(vl_convert.javascript_bundle)


def main() -> None:
    """Write the report on the datasets that params.yaml lists, in that order."""
    evaluated = []
    for dataset in params.load().datasets:
        read = read_json(paths.evaluated(dataset) / "evaluated.json", f"evaluate@{dataset}")
        # Not there where model.K is a number and nobody asked.
        chosen = read_json(paths.chosen(dataset), f"choose-k@{dataset}", absent={"curves": {}})
        methods = read_json(paths.compared(dataset), f"compare@{dataset}", absent={})
        evaluated.append({**read, "curves": chosen["curves"], "methods": methods})
    with new_folder(paths.REPORT.parent) as folder:
        for each in evaluated:
            write_text(folder / f"{each['dataset']}.html", render(each))
        write_text(folder / paths.REPORT.name, render_index(evaluated, paper=PAPER.exists()))
    for each in evaluated:
        answer = findings.does_it_pay(each)
        print(f"{each['dataset']}: does being personal pay? {answer['answer']}. {answer['sentence']}")
    print(f"report: {paths.REPORT}")


def render(evaluated: Row) -> str:
    """A dataset's page, from what evaluate wrote, the `curves` of choose-k and the `methods` of compare."""
    filters = {"interval": findings.interval, "series": findings.series}
    s, template = section(evaluated), TEMPLATES / "report.html.j2"
    scripts = [page.script("people")]
    return render_page(template, filters, scripts, s=s, title=s["title"], series=charts.SERIES)


def render_index(evaluated: list[Row], *, paper: bool = False) -> str:
    """The page that leads to those of the datasets, and with `paper` to that of the paper's experiments."""
    sections, title = [section(each) for each in evaluated], "Reward models personal to each user"
    context = {"sections": sections, "paper": paper, "title": title}
    return page.render_page(TEMPLATES / "index.html.j2", **context)


def render_page(
    template: Path, filters: dict[str, Any], scripts: list[str] | None = None, **context: Any
) -> str:
    """Render a template into a page with charts, which Vega draws: one script, once for the page."""
    vega = javascript_bundle().replace("</script", r"<\/script").replace("<!--", r"<\!--")
    draw = (TEMPLATES / "draw.js").read_text(encoding="utf-8")
    every = [page.script("errors"), *(scripts or []), vega, draw]
    return page.render_page(template, scripts=every, filters=filters, theme=charts.THEME, **context)


def section(evaluated: Row) -> Row:
    """What the template shows of one dataset: its sentences, its tables and its charts."""
    dataset, accuracies = evaluated["dataset"], evaluated["accuracies"]
    curves, K = evaluated.get("curves") or {}, evaluated["head"]["K"]
    names = findings.series_names(evaluated)
    shown = {
        "table": findings.table(accuracies),
        "tests": findings.table_by_test(evaluated["tests"]),
        "filters": findings.table_by_filter(evaluated["filters"]),
    }
    kind = evaluated["source"].partition(":")[0]
    untrained = any(by and by["name"].startswith("untrained-") for by in evaluated["encoder"].values())
    methods = findings.by_method(evaluated.get("methods") or {})
    answer, rows = findings.does_it_pay(evaluated), findings.places_of(evaluated)
    if methods:
        answer = {"answer": methods["answer"], "sentence": methods["verdict"]}
        rows = findings.places_of_methods(methods)
    return {
        **evaluated,
        "story": {**evaluated["portrait"], "pays": {**answer, **page.dots(rows)}},
        "title": DATASETS[dataset].TITLE,
        "about": DATASETS[dataset].ABOUT,
        # What a reader must not overlook: made-up data, and encoders that were never trained.
        "tags": [f"{kind} data"] * (kind in ("sample", "generated")) + ["untrained weights"] * untrained,
        "compared": findings.plurality(evaluated),
        "held": findings.against_baselines(evaluated),
        "meaning": findings.meaning_of_k(evaluated),
        "names": names,
        **shown,
        "grouped": any(user["group"] for user in (evaluated["truth"] or {}).get("users", [])),
        "dots": {name: findings.dots(table, names) for name, table in shown.items()},
        "figures": figures(evaluated, names, curves),
        "references": [row["series"] for row in findings.curve(accuracies)[1]],
        "bounded": bool(findings.accuracies_along(accuracies, "bound")),
        "asking": findings.asking(accuracies),
        "trust": findings.trust(evaluated),
        "alarms": findings.alarms(evaluated),
        "strictest": findings.table(evaluated["never_seen"]["accuracies"]),
        "never": findings.never_seen(evaluated["never_seen"]),
        "methods": methods,
        "prototypes_said": findings.choices_of_k(curves, K),
    }


def figures(evaluated: Row, names: dict[str, str], curves: dict[str, Row]) -> dict[str, Spec | None]:
    """Every chart of a dataset but those of its tables; None where there is nothing to draw."""
    accuracies, truth, log = evaluated["accuracies"], evaluated["truth"], evaluated["training"]
    charted = ("few_shot", "asking", "calibration", "loss", "val_accuracy", "truth", "curves")
    made: dict[str, Spec | None] = dict.fromkeys(charted)
    model, references = findings.curve(accuracies)
    if len(model) > 1:
        bound = findings.accuracies_along(accuracies, "bound")
        drawn = {"model": model} | ({"bound": bound} if bound else {})
        made["few_shot"] = charts.few_shot(drawn, references, names)
    drawn, chosen = (findings.accuracies_along(accuracies, name) for name in ("model", "asked"))
    if len(drawn) > 1 and chosen:  # from none on, where both are the same
        start = [row for row in drawn if row["shots"] == 0]
        both = {**names, "model": "Drawn comparisons"}
        made["asking"] = charts.few_shot({"model": drawn, "asked": [*start, *chosen]}, [], both)
    if bins := [each for each in evaluated["calibration"]["bins"] if each["predicted"] is not None]:
        made["calibration"] = charts.calibration(bins)
    losses = {"loss": "training", "val_loss": "validation"}
    losses = {key: name for key, name in losses.items() if any(row[key] is not None for row in log)}
    if losses:
        title = "loss" if len(losses) > 1 else f"{' '.join(losses.values())} loss"
        made["loss"] = charts.training(log, losses, title)
    if any(row["val_accuracy"] is not None for row in log):
        percents = [{**row, "val_accuracy": charts.hundred(row["val_accuracy"])} for row in log]
        series = {"val_accuracy": "validation"}
        made["val_accuracy"] = charts.training(percents, series, "validation accuracy, %")
    if truth and truth["users"]:
        made["truth"] = charts.truth(truth)
    if curves:
        made["curves"] = charts.choices(curves)
    return made
