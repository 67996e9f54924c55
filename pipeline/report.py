"""The report: one page for all datasets, in one file that needs nothing but a browser."""

import base64
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import charts, findings, layout, maps, params
from pipeline.errors import PipelineError
from pipeline.files import read_json, write_text

if TYPE_CHECKING:
    from markupsafe import Markup

Evaluated = findings.Evaluated

TEMPLATE = Path(__file__).with_name("report.html.j2")
TITLES = {"simulated": "Simulated users", "persona": "Persona", "own": "Your own comparisons"}
ABOUT = {
    "simulated": (
        "Users, items and answers drawn at random, as in the paper's simulation: each user prefers what lies "
        "nearer to a true ideal point, which is known here."
    ),
    "persona": (
        "Simulated users, each of one known group, say yes or no to statements as their group would; the "
        "statements are text."
    ),
    "own": "Comparisons that you supplied: which of two responses a user preferred.",
}

_ROW = ("users", "items", "shots", "model", "accuracy", "low", "high", "balanced", "worst_decile")
_ITEM = [dict.fromkeys(("prompt", "response", "score"))]
SHAPE: Any = {  # what evaluate writes: the keys that must be there; a list's one entry speaks for all
    "dataset": None,
    "source": None,
    "encoder": dict.fromkeys(("name", "weights_sha256", "dim")),
    "head": {"K": None},
    "fit": dict.fromkeys(("objective", "grid_points")),
    "counts": None,
    "accuracies": [dict.fromkeys((*_ROW, "n_users", "n_pairs"))],
    "plurality": None,
    "users": [dict.fromkeys(("user_id", "users", "group", "weights", "accuracy"))],
    "prototypes": [{"prototype": None, "share": None, "most": _ITEM, "least": _ITEM}],
    "calibration": {
        "ece": None,
        "bins": [dict.fromkeys(("low", "high", "predicted", "observed", "count"))],
    },
    "training": [dict.fromkeys(("epoch", "loss", "val_loss", "val_accuracy"))],
    "truth": {
        "axes": None,
        "users": [dict.fromkeys(("user_id", "users", "group", "true", "predicted"))],
        "prototypes": [{"true": None}],
        "predicted_prototypes": None,
    },
}

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
    evaluated = [read(dataset) for dataset in params.load().datasets]
    write_text(layout.REPORT, render(evaluated))


def read(dataset: str) -> Evaluated:
    """Read what evaluate found about a dataset.

    Raises:
        PipelineError: If the file is missing or damaged, or lacks a key of SHAPE.
    """
    path, stage = layout.evaluated(dataset) / "evaluated.json", f"evaluate@{dataset}"
    evaluated: Evaluated = read_json(path, stage)
    for missing in _missing(evaluated, SHAPE):
        raise PipelineError(f"{path} has no {missing!r}; run `dvc repro -f {stage}`")
    return evaluated


def _missing(value: Any, shape: Any, where: str = "") -> Iterator[str]:
    """The keys of `shape` that `value` lacks, as dotted names. What is null in `value` lacks nothing."""
    if value is None or shape is None:
        return
    if isinstance(shape, list):
        for i, entry in enumerate(value):
            yield from _missing(entry, shape[0], f"{where}[{i}]")
        return
    for key, inner in shape.items():
        name = f"{where}.{key}".lstrip(".")
        if not isinstance(value, dict) or key not in value:
            yield name
        else:
            yield from _missing(value[key], inner, name)


def render(evaluated: list[Evaluated]) -> str:
    """The page: equal findings give equal bytes. What comes from data is escaped, in text and in scripts."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": findings.percent,
        "interval": findings.interval,
        "script_json": script_json,
        "shorten": _shorten,
        "number": findings.number,
        "words": lambda key: key.replace("_", " "),
    }
    scripts = [BOOT, _vega(), DRAW]
    return environment.get_template(TEMPLATE.name).render(
        sections=[_section(one) for one in evaluated],
        theme=charts.THEME,
        series=charts.SERIES,
        swatches=charts.SWATCHES,
        font=Markup(charts.FONT),  # noqa: S704 - a constant of ours
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - no data in them
        hashes=[_csp_hash(script) for script in scripts],
    )


def script_json(value: Any) -> "Markup":
    """JSON that may stand in a script element: nothing in it can end the element or open another."""
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped in the lines above


def _shorten(text: str, limit: int = 280) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, once for the whole page."""
    import vl_convert

    return vl_convert.javascript_bundle().replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _csp_hash(script: str) -> str:
    """The source expression by which the page's security policy lets this script run, and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _section(evaluated: Evaluated) -> dict[str, Any]:
    """What the template shows of one dataset."""
    dataset, source = evaluated["dataset"], evaluated["source"]
    kind = source.partition(":")[0]
    return {
        **evaluated,
        "title": TITLES.get(dataset, dataset),
        "about": ABOUT.get(dataset, ""),
        "tag": f"{kind} data" if kind in ("sample", "generated") else "",
        "headline": findings.headline(evaluated),
        "compared": findings.plurality(evaluated),
        "meaning": findings.meaning(evaluated),
        "names": findings.series_names(evaluated["head"]["K"]),
        "opening": findings.opening(evaluated["prototypes"]),
        "table": findings.table(evaluated["accuracies"]),
        "n_users": evaluated["counts"].get("seen_users", 0) + evaluated["counts"].get("unseen_users", 0),
        "grouped": any(user["group"] for user in evaluated["users"]),
        "figures": _figures(evaluated),
        "references": [row["series"] for row in findings.curve(evaluated["accuracies"])[1]],
    }


def _figures(evaluated: Evaluated) -> dict[str, charts.Spec | None]:
    """Every figure of a dataset; None where there is nothing to draw."""
    n_prototypes, users, truth = evaluated["head"]["K"], evaluated["users"], evaluated["truth"]
    names = findings.series_names(n_prototypes)
    dots = findings.dots(evaluated["accuracies"])
    bins = [
        b
        for b in evaluated["calibration"]["bins"]
        if b["predicted"] is not None and b["observed"] is not None
    ]
    figures = {
        "accuracy": charts.accuracy_dots(dots, names) if dots else None,
        "few_shot": _few_shot(evaluated, names),
        "users": None,
        "calibration": charts.calibration(bins) if bins else None,
        **_training(evaluated["training"]),
        "truth": maps.truth(truth) if truth and truth["users"] else None,
    }
    if users and n_prototypes > 1:
        figures["users"] = maps.strip(users) if n_prototypes == 2 else maps.simplex(users, n_prototypes)
    return figures


def _few_shot(evaluated: Evaluated, names: dict[str, str]) -> charts.Spec | None:
    curve, references = findings.curve(evaluated["accuracies"])
    if len(curve) < 2:
        return None
    return charts.few_shot(curve, references, names)


def _training(rows: list[dict[str, Any]]) -> dict[str, charts.Spec | None]:
    losses = {"loss": "training", "val_loss": "validation"}
    losses = {key: name for key, name in losses.items() if any(row[key] is not None for row in rows)}
    percents = [{**row, "val_accuracy": charts.hundred(row["val_accuracy"])} for row in rows]
    title = "loss" if len(losses) > 1 else f"{next(iter(losses.values()), '')} loss"
    validated = any(row["val_accuracy"] is not None for row in rows)
    accuracy = {"val_accuracy": "validation"}
    return {
        "loss": charts.training(rows, losses, title) if losses else None,
        "val_accuracy": charts.training(percents, accuracy, "validation accuracy, %") if validated else None,
    }
