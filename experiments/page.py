"""The page: every entry's figure, numbers and claims beside the text's, in one offline file."""

from pathlib import Path
from typing import Any

from experiments import entries, figures, ledger, running
from experiments.entries import Entry
from experiments.running import Findings
from pal.files import write_text
from pipeline import paths
from pipeline.stages.report import render_page

PAGE = Path("data/paper/paper.html")
TEMPLATE = Path(__file__).with_name("paper.html.j2")
MANY = 40


def main() -> Path:
    """Write the page from what the entries left."""
    declared = entries.load()
    parts = [part(name, entry, running.read(name, entry)) for name, entry in declared.entries.items()]
    write_text(PAGE, render(parts, report=paths.REPORT.exists()))
    return PAGE


def part(name: str, entry: Entry, findings: Findings) -> dict[str, Any]:
    """One entry as the page shows it."""
    drawn = figures.drawn(entry, findings.rows, findings.about.get("bounds"))
    for preset, setting in dict.fromkeys((p["preset"], p.get("setting")) for p in findings.pictures):
        points = [p for p in findings.pictures if (p["preset"], p.get("setting")) == (preset, setting)]
        for n, K in enumerate(dict.fromkeys(p["K"] for p in points)):
            r2 = next(p["r2"] for p in points if p["K"] == K and "r2" in p)
            title = f"{preset}, {setting}, K = {K}: {abs(round(100 * r2))} % recovered"
            drawn.append({"title": title, "chart": figures.plane(points, K), "new_row": n == 0})
    line = ledger.line(name, entry, findings)
    return {
        **line,
        "name": name,
        "charts": drawn,
        "rows": findings.rows[:MANY],
        "more": max(0, len(findings.rows) - MANY),
    }


def render(parts: list[dict[str, Any]], *, report: bool = False) -> str:
    """The page: equal findings give equal bytes; what comes from data is escaped.

    Args:
        parts: The entries.
        report: Whether to link to the pipeline's report.
    """
    filters = {"cell": cell, "number": number, "ends": ends}
    return render_page(TEMPLATE, filters, parts=parts, report=report, interval=ledger.INTERVAL)


def cell(at: dict[str, Any]) -> str:
    """A cell in words: K = 3, K* = 2."""
    words = {"groups": "K*", "train_pairs": "n", "latent": "latent d", "dim": "d", "beta": "β"}
    said = [f"{words.get(axis, axis)} = {value}" for axis, value in at.items() if axis != "what"]
    what = str(at.get("what", "")).replace("_", " ")
    return ", ".join([*([what] if what else []), *said])


def number(value: float | int | None) -> str:
    """A number with the digits that it deserves."""
    if value is None:
        return "\u2013"
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.2f}"


def ends(row: dict[str, Any]) -> str:
    """A row's interval in words: 82.7\u201387.1, but -1.3 to 0.2, where a minus would stand by the dash."""
    low, high = (f"{row[end]:z.1f}" for end in ("low", "high"))
    return f"{low} to {high}" if "-" in low + high else f"{low}\u2013{high}"
