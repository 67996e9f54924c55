"""The report: one page for all datasets, in one file that needs nothing but a browser."""

import base64
import hashlib
import json
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from pal.files import write_text
from pipeline import params, paths
from pipeline.datasets import DATASETS
from pipeline.report import charts, findings, maps, tables
from pipeline.report.charts import Row, Spec
from pipeline.storage.manifests import read_json

PAPER = Path("data/paper/paper.html")  # of experiments/: linked to where it is there
TEMPLATE = Path(__file__).with_name("report.html.j2")
javascript_bundle = cache(vl_convert.javascript_bundle)
TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # Unicode's controls of direction
_PICTURE = re.compile(r"data:image/jpeg;base64,[A-Za-z0-9+/]+={0,2}")

BOOT = """
"use strict";
function fail(text) {
  const box = document.getElementById("errors");
  box.hidden = false;
  box.append(Object.assign(document.createElement("p"), {textContent: text}));
}
addEventListener("error", event => fail(event.message || "a script failed"));
addEventListener("unhandledrejection", event => fail(String(event.reason)));
addEventListener("securitypolicyviolation", event => fail("blocked: " + event.violatedDirective));
"""
DRAW = """
"use strict";
const read = element => JSON.parse(element.textContent);
const options = {mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false,
  config: read(document.getElementById("theme"))};
for (const chart of document.querySelectorAll(".chart"))
  vegaEmbed(chart, read(chart.nextElementSibling), options).catch(error =>
    fail(chart.id + ": " + error.message));
"""


def main() -> None:
    """Write the report on the datasets that params.yaml lists, in that order."""
    evaluated = []
    for dataset in params.load().datasets:
        read = read_json(paths.evaluated(dataset) / "evaluated.json", f"evaluate@{dataset}")
        chosen = paths.chosen(dataset)  # not there where model.K is a number and nobody asked
        curves = read_json(chosen, f"choose-k@{dataset}")["curves"] if chosen.is_file() else {}
        compared = paths.compared(dataset)
        methods = read_json(compared, f"compare@{dataset}") if compared.is_file() else {}
        evaluated.append({**read, "curves": curves, "methods": methods})
    write_text(paths.REPORT, render(evaluated, paper=PAPER.exists()))


def render(evaluated: list[Row], *, paper: bool = False) -> str:
    """The page: equal findings give equal bytes. What comes from data is escaped, in text and in scripts.

    Each section is what evaluate wrote, with the curves of choose-k under `curves`; `paper` says whether to
    link to the page of the paper's experiments.
    """
    filters = {
        "percent": findings.percent,
        "interval": findings.interval,
        "number": findings.number,
        "shorten": lambda text, limit=280: isolated(
            text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
        ),
        # A thumbnail's address, where it is part of the page: nothing is ever fetched.
        "picture": lambda uri: uri if uri and _PICTURE.fullmatch(uri) else None,
        "series": tables.series,
        "words": lambda key: key.replace("_", " "),
    }
    sections = [section(each) for each in evaluated]
    marks = {"series": charts.SERIES, "swatches": charts.SWATCHES}
    return render_page(TEMPLATE, filters, sections=sections, paper=paper, **marks)


def isolated(text: str) -> str:
    """A text that is written from right to left, or turns the direction, so that what follows it stays."""
    kinds = {unicodedata.bidirectional(character) for character in text}
    if not kinds & {"R", "AL", *TURNS}:
        return text
    kept = "".join(character for character in text if unicodedata.bidirectional(character) not in TURNS)
    return f"\u2068{kept}\u2069"  # first strong isolate, pop directional isolate


def render_page(template: Path, filters: dict[str, Any], **context: Any) -> str:
    """Render a template into a page whose security policy lets the page's own scripts run, and no other."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"script_json": script_json, **filters}
    # Vega, Vega-Lite and Vega-Embed in one script, once for the whole page.
    vega = javascript_bundle().replace("</script", r"<\/script").replace("<!--", r"<\!--")
    scripts = [BOOT, vega, DRAW]
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    return environment.get_template(template.name).render(
        **context,
        theme=charts.THEME,
        font=Markup(charts.FONT),  # noqa: S704 - a constant of ours
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - no data in them
        hashes=[f"sha256-{base64.b64encode(digest).decode()}" for digest in digests],
    )


def script_json(value: Any) -> Markup:
    """JSON that may stand in a script element: nothing in it can end the element or open another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped in the lines above


def section(evaluated: Row) -> Row:
    """What the template shows of one dataset: its sentences, its tables and its charts."""
    dataset, counts, accuracies = evaluated["dataset"], evaluated["counts"], evaluated["accuracies"]
    curves, K = evaluated.get("curves") or {}, evaluated["head"]["K"]
    names = tables.series_names(K, (evaluated["encoder"]["responses"] or {}).get("name", ""))
    shown = {
        "accuracy": tables.table(accuracies),
        "tests": tables.table_by_test(evaluated["tests"]),
        "filters": tables.table_by_filter(evaluated["filters"]),
    }
    marks = {name: tables.dots(table) for name, table in shown.items()}
    kind = evaluated["source"].partition(":")[0]
    untrained = any(by and by["name"].startswith("untrained-") for by in evaluated["encoder"].values())
    return {
        **evaluated,
        "title": DATASETS[dataset].TITLE,
        "about": DATASETS[dataset].ABOUT,
        # What a reader must not overlook: made-up data, and encoders that were never trained.
        "tags": [f"{kind} data"] * (kind in ("sample", "generated")) + ["untrained weights"] * untrained,
        "headline": findings.headline(evaluated),
        "compared": findings.plurality(evaluated),
        "held": findings.against_baselines(evaluated),
        "meaning": findings.meaning_of_k(evaluated),
        "names": names,
        "opening": tables.shared_opening(evaluated["prototypes"]),
        "table": shown["accuracy"],
        "tests": shown["tests"],
        "filters": shown["filters"],
        "n_users": counts.get("seen_users", 0) + counts.get("unseen_users", 0),
        "grouped": any(user["group"] for user in evaluated["users"]),
        "drawn": {
            name: [model for model in tables.MODELS if any(mark["series"] == model for mark in each)]
            for name, each in marks.items()
        },
        "figures": {
            **{name: charts.accuracy_dots(each, names) if each else None for name, each in marks.items()},
            **figures(evaluated, names, curves),
        },
        "references": [row["series"] for row in tables.curve(accuracies)[1]],
        "bounded": bool(tables.accuracies_along(accuracies, "bound")),
        "asking": findings.asking(accuracies),
        "trust": findings.trust(evaluated),
        "alarms": findings.alarms(evaluated),
        "strictest": tables.table(evaluated["never_seen"]["accuracies"]),
        "never": findings.never_seen(evaluated["never_seen"]),
        "methods": tables.by_method(evaluated.get("methods") or {}),
        "prototypes_said": findings.choices_of_k(curves, K),
    }


def figures(evaluated: Row, names: dict[str, str], curves: dict[str, Row]) -> dict[str, Spec | None]:
    """Every chart of a dataset but those of its tables; None where there is nothing to draw."""
    accuracies, users, truth = evaluated["accuracies"], evaluated["users"], evaluated["truth"]
    K, log = evaluated["head"]["K"], evaluated["training"]
    made: dict[str, Spec | None] = dict.fromkeys(
        ("few_shot", "asking", "users", "calibration", "loss", "val_accuracy", "truth", "curves")
    )
    model, references = tables.curve(accuracies)
    if len(model) > 1:
        bound = tables.accuracies_along(accuracies, "bound")
        made["few_shot"] = charts.few_shot(model, references, names, {"bound": bound} if bound else {})
    drawn, chosen = (tables.accuracies_along(accuracies, name) for name in ("model", "asked"))
    if len(drawn) > 1 and chosen:  # from none on, where both are the same
        start = [row for row in drawn if row["shots"] == 0]
        both = {**names, "model": "Drawn comparisons"}
        made["asking"] = charts.few_shot(drawn, [], both, {"asked": [*start, *chosen]})
    if users and K > 1:
        made["users"] = maps.strip(users) if K == 2 else maps.simplex(users, K)
    bins = [
        bin_ for bin_ in evaluated["calibration"]["bins"] if None not in (bin_["predicted"], bin_["observed"])
    ]
    if bins:
        made["calibration"] = charts.calibration(bins)
    losses = {"loss": "training", "val_loss": "validation"}
    losses = {key: name for key, name in losses.items() if any(row[key] is not None for row in log)}
    if losses:
        title = "loss" if len(losses) > 1 else f"{next(iter(losses.values()))} loss"
        made["loss"] = charts.training(log, losses, title)
    if any(row["val_accuracy"] is not None for row in log):
        percents = [{**row, "val_accuracy": charts.hundred(row["val_accuracy"])} for row in log]
        made["val_accuracy"] = charts.training(
            percents, {"val_accuracy": "validation"}, "validation accuracy, %"
        )
    if truth and truth["users"]:
        made["truth"] = maps.truth(truth)
    if curves:
        made["curves"] = charts.choices(curves)
    return made
