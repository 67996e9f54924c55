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
    "differences are paired by seed and user"
)


def main() -> None:
    """Write metrics/paper.json from what the entries left."""
    declared = entries.load()
    lines = {name: line(name, entry, running.read(name, entry)) for name, entry in declared.entries.items()}
    verdict = Counter(
        row["verdict"] for entry in lines.values() for row in entry["numbers"] + entry["claims"]
    )
    running.write(
        LEDGER,
        {"interval": INTERVAL, "verdicts": dict(sorted(verdict.items())), "entries": list(lines)},
        [row for entry in lines.values() for row in flat(entry)],
    )


def line(name: str, entry: Entry, findings: Findings) -> dict[str, Any]:
    """One entry's part of the ledger."""
    paper = entry.paper
    about = {"entry": name, "title": entry.title, "place": paper.place, "differences": paper.differences}
    if "not_run" in findings.about:
        numbers = [_not_run(number) for number in paper.published]
        claims = [
            {"says": c.says, "place": c.place, "paper": c.value, "verdict": verdicts.NOT_RUN}
            for c in paper.claims
        ]
        return {**about, "state": findings.about["not_run"], "numbers": numbers, "claims": claims}
    if entry.run.kind == "accuracy":
        numbers = [row for number in paper.published for row in verdicts.published(number, findings.rows)]
        claims = []
        for said in paper.claims:
            if findings.arms or not findings.rows:
                claims += verdicts.claim(said, findings.arms)
            else:  # users' answers are not here, as in a new clone: the verdicts found before stay
                about_claim = {"entry": name, "kind": "claim", "says": said.says, "place": said.place}
                known = [row for row in running.rows_of(LEDGER) if about_claim.items() <= row.items()]
                kept = [{key: row[key] for key in row if key not in ("entry", "kind")} for row in known]
                claims += kept or [{"says": said.says, "place": said.place, "verdict": verdicts.NOT_HERE}]
    else:
        numbers, claims = [_count(number, findings) for number in paper.published], []
    about |= {"scale": findings.about["scale"], "seeds": findings.about["seeds"]}
    bounds = findings.about.get("bounds", [])
    return {**about, "state": "run", "numbers": numbers, "claims": claims, "bounds": bounds}


def _not_run(number: entries.Published) -> dict[str, Any]:
    verdict = verdicts.NOT_OURS if number.whose == "others" else verdicts.NOT_RUN
    about = {"paper": number.value, "spread": number.spread, "place": number.place, "cell": dict(number.at)}
    return {**about, "why": number.why, "verdict": verdict}


def _count(number: entries.Published, findings: Findings) -> dict[str, Any]:
    ours = value(findings.about["counts"], str(number.at["what"]), number.at.get("K"))
    if ours is None:
        return _not_run(number)
    about = {"paper": number.value, "place": number.place, "cell": dict(number.at), "ours": ours}
    return {**about, "verdict": verdicts.of_count(number.value or 0, ours, number.tolerance)}


def flat(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """An entry as rows: its head, then a row per number and claim, without what is null."""
    head = {
        key: entry[key]
        for key in ("entry", "title", "place", "state", "scale", "seeds", "differences")
        if key in entry
    }
    parts = [{"entry": entry["entry"], "kind": "number", **row} for row in entry["numbers"]]
    parts += [{"entry": entry["entry"], "kind": "claim", **_short(row)} for row in entry["claims"]]
    parts += [
        {"entry": entry["entry"], "kind": "bound", "cell": verdicts.cell_of(row)}
        | {key: row[key] for key in ("bound", "low", "high")}
        for row in entry.get("bounds", [])
    ]
    rows = [{"entry": entry["entry"], "kind": "entry", **head}, *parts]
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """A claim without the cells in which it holds: those in which it fails, or our interval does not tell."""
    if "cells" not in row:
        return row
    cells = row["cells"]
    plain = [(cell["holds"], {key: c for key, c in cell.items() if key != "holds"}) for cell in cells]
    fails, unclear = ([cell for holds, cell in plain if holds is state] for state in (False, None))
    ends = {"ours": round(sum(c["ours"] for c in cells) / len(cells), 2)}
    ends |= {end: round(sum(c[end] for c in cells) / len(cells), 2) for end in ("low", "high")}
    rest = {key: value for key, value in row.items() if key != "cells"}
    return {**rest, "of": len(cells), **ends, "not_in": fails[:6], "unclear_in": unclear[:6]}
