"""The report: a page for each dataset and one that leads to them, each in one file for any browser."""

from collections.abc import Sequence
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
    names = findings.series_names(evaluated)
    tables = {
        "table": findings.table(evaluated["accuracies"]),
        "tests": findings.table_by_test(evaluated["tests"]),
        "filters": findings.table_by_filter(evaluated["filters"]),
    }
    dots = {name: findings.dots(table, names) for name, table in tables.items()}
    s = heading(evaluated)
    s |= {"names": names, **tables, "dots": dots, "figures": figures(s, names)}
    filters = {each.__name__: each for each in (findings.interval, findings.series, findings.unbroken)}
    context = {"s": s, "title": s["title"], "series": charts.SERIES, "findings": findings}
    return render_page(TEMPLATES / "report.html.j2", filters, [page.script("people")], **context)


def render_index(evaluated: list[Row], *, paper: bool = False) -> str:
    """The page that leads to those of the datasets, and with `paper` to that of the paper's experiments."""
    context = {"sections": map(heading, evaluated), "title": "Reward models personal to each user"}
    return page.render_page(TEMPLATES / "index.html.j2", paper=paper, **context)


def render_page(template: Path, filters: dict[str, Any], scripts: Sequence[str] = (), **context: Any) -> str:
    """Render a template into a page with charts, which Vega draws: one script, once for the page."""
    vega = javascript_bundle().replace("</script", r"<\/script").replace("<!--", r"<\!--")
    draw = (TEMPLATES / "draw.js").read_text(encoding="utf-8")
    every = [page.script("errors"), *scripts, vega, draw]
    return page.render_page(template, scripts=every, filters=filters, theme=charts.THEME, **context)


def heading(evaluated: Row) -> Row:
    """What was evaluated, with what also the page that leads here shows: title, tags, and whether it pays."""
    kind = evaluated["source"].partition(":")[0]
    untrained = any(by and by["name"].startswith("untrained-") for by in evaluated["encoder"].values())
    methods = evaluated.get("methods", {})
    answer, rows = findings.does_it_pay(evaluated), findings.places_of(evaluated)
    if methods.get("rows"):
        answer = {"answer": methods["answer"], "sentence": methods["verdict"]}
        rows = findings.places_of_methods(methods["rows"])
    return {
        **{"curves": {}, "methods": {}, **evaluated},
        "story": {**evaluated["portrait"], "pays": {**answer, **page.dots(rows)}},
        "title": DATASETS[evaluated["dataset"]].TITLE,
        "about": DATASETS[evaluated["dataset"]].ABOUT,
        # What a reader must not overlook: made-up data, and encoders that were never trained.
        "tags": [f"{kind} data"] * (kind in ("sample", "generated")) + ["untrained weights"] * untrained,
    }


def figures(evaluated: Row, names: dict[str, str]) -> dict[str, Spec | None]:
    """Every chart of a dataset but those of its tables; None where there is nothing to draw."""
    accuracies, truth, log = evaluated["accuracies"], evaluated["truth"], evaluated["training"]
    charted = ("few_shot", "asking", "calibration", "loss", "val_accuracy", "truth", "curves")
    made: dict[str, Spec | None] = dict.fromkeys(charted)
    model, bound, chosen = (
        findings.accuracies_along(accuracies, name) for name in ("model", "bound", "asked")
    )
    if len(model) > 1:
        drawn = {"model": model} | ({"bound": bound} if bound else {})
        made["few_shot"] = charts.few_shot(drawn, findings.references(accuracies), names)
    if len(model) > 1 and chosen:  # from none on, where both are the same
        start = [row for row in model if row["shots"] == 0]
        both = {**names, "model": "Drawn comparisons"}
        made["asking"] = charts.few_shot({"model": model, "asked": [*start, *chosen]}, [], both)
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
    if evaluated["curves"]:
        made["curves"] = charts.choices(evaluated["curves"])
    return made
