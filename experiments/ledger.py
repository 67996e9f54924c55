"""The ledger and its page: every published number and claim beside what we measured, run or not."""

from collections import Counter
from pathlib import Path
from typing import Any

from experiments import entries, figures, running, verdicts
from experiments.entries import Entry, Published
from experiments.running import Findings, Row
from pal.files import write_text
from pipeline import PipelineError, paths
from pipeline.stages.report import render_page

LEDGER = Path("metrics/paper.json")
PAGE = Path("data/paper/paper.html")
TEMPLATE = Path(__file__).with_name("paper.html.j2")
INTERVAL = (
    "95 %, percentile bootstrap over seeds and, within each, users with all their comparisons; "
    "those of differences take the two accuracies as independent, which is wider than pairing"
)


def main() -> Path:
    """Write metrics/paper.json and the page, in one offline file, from what the entries left."""
    declared = entries.load().entries
    findings = {name: running.read(name, entry) for name, entry in declared.items()}
    lines = [line(name, entry, findings[name]) for name, entry in declared.items()]
    counts = Counter(row["verdict"] for entry in lines for row in entry["numbers"] + entry["claims"])
    about = {"interval": INTERVAL, "verdicts": dict(sorted(counts.items())), "entries": list(declared)}
    running.write(LEDGER, about, [row for entry in lines for row in flat(entry)])
    parts = [
        {**entry, "charts": charts(declared[entry["entry"]], findings[entry["entry"]])} for entry in lines
    ]
    write_text(PAGE, render(parts, report=paths.REPORT.exists()))
    return PAGE


def line(name: str, entry: Entry, findings: Findings) -> Row:
    """One entry's part of the ledger: a row per statement of the text, our presets beside it."""
    paper, about, rows = entry.paper, findings.about, findings.rows
    state = about.get("not_run", "run")
    if entry.run.kind == "accuracy" or state != "run":
        numbers = [verdicts.published(number, rows) for number in paper.published]
    else:
        numbers = [count(number, about["counts"]) for number in paper.published]
    return {
        "entry": name,
        "title": entry.title,
        "place": paper.place,
        "state": state,
        **{key: about[key] for key in ("scale", "seeds") if state == "run"},
        "differences": paper.differences,
        "numbers": numbers,
        "claims": [verdicts.claim(said, rows) for said in paper.claims],
        "bounds": about.get("bounds", []),
    }


def count(number: Published, counts: list[Row]) -> Row:
    """A published count beside ours; it was not run where we counted at other K alone.

    Raises:
        PipelineError: If nothing of that name was counted.
    """
    about = {"paper": number.value, "place": number.place, "cell": dict(number.at)}
    what, K = number.at["what"], number.at.get("K")
    if not (named := [row for row in counts if row["what"] == what]):
        known = sorted({row["what"] for row in counts})
        raise PipelineError(f"nothing was counted under {what!r}; there are {known}")
    ours = next((row["count"] for row in named if K is None or row.get("K") == K), None)
    if ours is None:
        return {**about, "verdict": verdicts.NOT_RUN}
    same = abs((number.value or 0) - ours) <= number.tolerance  # of a count there is no better or worse
    return {**about, "ours": ours, "verdict": verdicts.REPRODUCED if same else verdicts.HOLDS_NOT}


def flat(entry: Row) -> list[Row]:
    """An entry as rows: its head, then a row per number, claim and bound, without what is null."""
    head = {key: entry[key] for key in entry if key not in ("numbers", "claims", "bounds")}
    rows = [{"kind": "entry", **head}]
    rows += [{"kind": "number", **row} for row in entry["numbers"]]
    for row in entry["claims"]:
        rows.append({"kind": "claim", **row, "presets": [_short(preset) for preset in row["presets"]]})
    for row in entry["bounds"]:
        ends = {key: row[key] for key in ("bound", "low", "high")}
        rows.append({"kind": "bound", "cell": verdicts.cell_of(row), **ends})
    name = {"entry": entry["entry"]}
    return [name | {key: value for key, value in row.items() if value not in (None, [])} for row in rows]


def _short(preset: Row) -> Row:
    """A claim at one preset with those cells alone in which it fails, or our interval does not tell."""
    rest, cells = dict(preset), preset["cells"]
    del rest["cells"]
    rest |= {"of": len(cells), "holds_in": sum(cell["holds"] is True for cell in cells)}
    for name, state in (("not_in", False), ("unclear_in", None)):
        if unmet := [cell["cell"] for cell in cells if cell["holds"] is state]:
            rest[name] = unmet
    return rest


def charts(entry: Entry, findings: Findings) -> list[Row]:
    """An entry's charts as the page shows them, those of recovered ideal points last."""
    drawn = figures.drawn(entry, findings.rows, findings.about.get("bounds", []))
    pictures: dict[tuple[Any, Any], list[Row]] = {}
    for point in findings.pictures:
        pictures.setdefault((point["preset"], point.get("setting")), []).append(point)
    for (preset, setting), points in pictures.items():
        for n, K in enumerate(dict.fromkeys(point["K"] for point in points)):
            r2 = next(point["r2"] for point in points if point["K"] == K and "r2" in point)
            title = f"{preset}, {setting}, K = {K}: {abs(round(100 * r2))} % recovered"
            drawn.append({"title": title, "chart": figures.plane(points, K), "new_row": n == 0})
    return drawn


def render(parts: list[Row], *, report: bool = False) -> str:
    """The page: equal findings give equal bytes; what comes from data is escaped.

    With `report` it links to the pipeline's.
    """
    filters = {"cell": cell, "number": number, "ends": ends}
    return render_page(TEMPLATE, filters, parts=parts, report=report, interval=INTERVAL)


def cell(at: Row) -> str:
    """A cell in words: K = 3, K* = 2."""
    words = {"groups": "K*", "train_pairs": "n", "latent": "latent d", "dim": "d", "beta": "β"}
    said = [f"{words.get(axis, axis)} = {value}" for axis, value in at.items() if axis != "what"]
    what = str(at.get("what", "")).replace("_", " ")
    return ", ".join([what, *said] if what else said)


def number(value: float | int | None) -> str:
    """A number with the digits that it deserves."""
    if value is None:
        return "\u2013"
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.2f}"


def ends(row: Row) -> str:
    """A row's interval in words: 82.7\u201387.1, but -1.3 to 0.2, where a minus would stand by the dash."""
    low, high = (f"{row[end]:z.1f}" for end in ("low", "high"))
    return f"{low} to {high}" if "-" in low + high else f"{low}\u2013{high}"
