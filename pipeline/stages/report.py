"""The report: one page for all datasets, in one file that needs nothing but a browser."""

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pal.files import write_text
from pipeline import params, paths
from pipeline.evaluation.evaluated import Evaluated, read
from pipeline.report import charts, curves, numerals, rows
from pipeline.report.sections import section

if TYPE_CHECKING:
    from markupsafe import Markup

PAPER = Path("data/paper/paper.html")  # of experiments/: linked to where it is there
TEMPLATE = Path(__file__).with_name("report.html.j2")
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
    datasets = params.load().datasets
    evaluated = [{**read(dataset), "curves": curves.read(dataset)} for dataset in datasets]
    write_text(paths.REPORT, render(evaluated, paper=PAPER.exists()))


def render(evaluated: list[Evaluated], *, paper: bool = False) -> str:
    """The page: equal findings give equal bytes. What comes from data is escaped, in text and in scripts.

    Args:
        evaluated: A section each; what choose-k found of one stands under `curves`.
        paper: Whether to link to the page of the paper's experiments.
    """
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
        "percent": numerals.percent,
        "interval": numerals.interval,
        "script_json": script_json,
        "shorten": _shorten,
        "number": numerals.number,
        "picture": picture,
        "series": rows.series,
        "words": lambda key: key.replace("_", " "),
    }
    scripts = [BOOT, _vega(), DRAW]
    return environment.get_template(TEMPLATE.name).render(
        sections=[section(one) for one in evaluated],
        paper=paper,
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


def picture(uri: str | None) -> str | None:
    """A thumbnail's address, where it is part of the page: nothing is ever fetched."""
    return uri if uri and _PICTURE.fullmatch(uri) else None
