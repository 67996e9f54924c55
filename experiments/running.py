"""Running one entry from end to end, and where its findings lie."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.table import rows_as_lines
from experiments import entries
from experiments.entries import Entry
from experiments.measure import BOUND, Arm, run, summary
from experiments.study import NAMES, source_of
from pal.files import write_text
from pipeline import PipelineError

METRICS = Path("metrics/paper")
Row = dict[str, Any]


def main(name: str, *, scale: str | None = None) -> Path:
    """Run an entry and write its findings, or that its data are not here; gives the file of findings.

    Raises:
        PipelineError: If there is no such entry or scale, or a stage fails.
    """
    declared = entries.load()
    if name not in declared.entries:
        raise PipelineError(f"entry must be one of {', '.join(declared.entries)}, got {name!r}")
    entry = declared.entries[name]
    scale = scale or declared.scale
    if scale not in entries.SCALES:
        raise PipelineError(f"scale must be one of {', '.join(entries.SCALES)}, got {scale!r}")
    needs = entry.run.needs
    source = source_of(needs)
    if source is None:
        return write(METRICS / f"{name}.json", {"not_run": f"not run: needs {NAMES[needs]}"}, [])
    options = entry.run.at(scale)
    measured = run(options, source, os.cpu_count() or 1)
    about = {"scale": scale, "seeds": options.seeds, "prepare": options.prepare}
    about |= {key: value for key, value in measured.tables.items() if value}
    about["bounds"] = [best(arm) for arm in measured.arms if arm.at["preset"] == BOUND]
    rows = [summary(arm) for arm in measured.arms if arm.at["preset"] != BOUND]
    return write(METRICS / f"{name}.json", about, rows, measured.pictures)


def best(arm: Arm) -> Row:
    """What anyone could reach in a cell, as a row."""
    row = summary(arm)
    row["bound"] = row.pop("accuracy")
    return {key: value for key, value in row.items() if key not in ("preset", "sd", "users", "pairs")}


def write(path: Path, about: Row, rows: list[Row], pictures: list[Row] | None = None) -> Path:
    """Write JSON with a line per row."""
    write_text(path, rows_as_lines({**about, "rows": rows, "pictures": pictures or []}) + "\n")
    return path


@dataclass(frozen=True)
class Findings:
    """What an entry's run left: the metrics' own words, rows and pictures."""

    about: dict[str, Any]
    rows: list[Row]
    pictures: list[Row]


def read(name: str, entry: Entry) -> Findings:
    """An entry's findings; that it did not run, where nothing was written yet."""
    path = METRICS / f"{name}.json"
    if not path.exists():
        needs = entry.run.needs
        state = "not run yet" if source_of(needs) else f"not run: needs {NAMES[needs]}"
        return Findings({"not_run": state}, [], [])
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PipelineError(f"{path} is damaged ({error}); run `make paper ONLY={name}`") from None
    rows, pictures = values.pop("rows"), values.pop("pictures")
    return Findings(values, rows, pictures)
