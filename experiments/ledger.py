"""The ledger: every published number and claim beside what we measured, whether it ran or not."""

from collections import Counter
from pathlib import Path
from typing import Any

from experiments import entries, running, verdicts
from experiments.counts import value
from experiments.entries import Entry
from experiments.running import Findings

LEDGER = Path("metrics/paper.json")
INTERVAL = (
    "95 %, percentile bootstrap over seeds and, within each, users with all their comparisons; "
    "those of differences take the two accuracies as independent, which is wider than pairing"
)


def main() -> None:
    """Write metrics/paper.json from what the entries left."""
    declared = entries.load()
    lines = [line(name, entry, running.read(name, entry)) for name, entry in declared.entries.items()]
    verdict = Counter(row["verdict"] for entry in lines for row in entry["numbers"] + entry["claims"])
    about = {
        "interval": INTERVAL,
        "verdicts": dict(sorted(verdict.items())),
        "entries": list(declared.entries),
    }
    running.write(LEDGER, about, [row for entry in lines for row in flat(entry)])


def line(name: str, entry: Entry, findings: Findings) -> dict[str, Any]:
    """One entry's part of the ledger: a row per statement of the text, our presets beside it."""
    paper, about, rows = entry.paper, findings.about, findings.rows
    state = about.get("not_run", "run")
    if entry.run.kind == "accuracy" or state != "run":
        numbers = [verdicts.published(number, rows) for number in paper.published]
    else:
        numbers = [_count(number, about["counts"]) for number in paper.published]
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


def _count(number: entries.Published, counts: list[dict[str, Any]]) -> dict[str, Any]:
    about = {"paper": number.value, "place": number.place, "cell": dict(number.at)}
    ours = value(counts, str(number.at["what"]), number.at.get("K"))
    if ours is None:
        return {**about, "verdict": verdicts.NOT_RUN}
    return {**about, "ours": ours, "verdict": verdicts.of_count(number.value or 0, ours, number.tolerance)}


def flat(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """An entry as rows: its head, then a row per number, claim and bound, without what is null."""
    name = {"entry": entry["entry"]}
    head = {key: entry[key] for key in entry if key not in ("numbers", "claims", "bounds")}
    rows = [{**name, "kind": "entry", **head}]
    rows += [{**name, "kind": "number", **row} for row in entry["numbers"]]
    for row in entry["claims"]:
        presets = [_short(preset) for preset in row["presets"]]
        rows.append({**name, "kind": "claim", **row, "presets": presets})
    for row in entry["bounds"]:
        ends = {key: row[key] for key in ("bound", "low", "high")}
        rows.append({**name, "kind": "bound", "cell": verdicts.cell_of(row), **ends})
    return [{key: value for key, value in row.items() if value not in (None, [])} for row in rows]


def _short(preset: dict[str, Any]) -> dict[str, Any]:
    """A claim at one preset with those cells alone in which it fails, or our interval does not tell."""
    cells = preset["cells"]
    unmet = {
        name: [cell["cell"] for cell in cells if cell["holds"] is state]
        for name, state in (("not_in", False), ("unclear_in", None))
    }
    rest = {key: preset[key] for key in preset if key != "cells"}
    holds_in = sum(cell["holds"] is True for cell in cells)
    return {**rest, "of": len(cells), "holds_in": holds_in, **{key: at for key, at in unmet.items() if at}}
