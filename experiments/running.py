"""Running one entry from end to end, and where its findings lie."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.table import rows_as_lines
from experiments import entries, sources
from experiments.entries import Entry
from experiments.measure import BOUND, Arm, run, summary
from pal.files import write_text
from pipeline import PipelineError

METRICS = Path("metrics/paper")
# Whose code shapes findings. DVC runs no entries: outputs that a clone does not have would stand in the way
# of `dvc checkout`, `pull` and `exp apply`, and 31 more stages would stand in `dvc status`.
CODE = (
    "experiments/measure.py", "experiments/study.py", "pal/comparisons.py", "pal/config.py", "pal/evaluation",
    "pal/fitting", "pal/models", "pal/users", "pipeline/datasets", "pipeline/evaluation", "pipeline/study.py",
)  # fmt: skip
Row = dict[str, Any]


def made_from(entry: Entry, scale: str) -> str:
    """The sha256 over all that shapes an entry's findings: code, options and real data."""
    digest = hashlib.sha256(
        json.dumps([entry.run.model_dump(mode="json"), scale, sources.fingerprint(entry.run.needs)]).encode()
    )
    for each in CODE:
        path = entries.ROOT / each
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def outdated(scale: str | None = None) -> list[str]:
    """The entries whose findings are not here, or were made from other code, options or data."""
    declared = entries.load()
    return [
        name
        for name, entry in declared.entries.items()
        if read(name, entry).about.get("made_from") != made_from(entry, scale or declared.scale)
    ]


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
    source, made = sources.find(entry.run.needs), made_from(entry, scale)
    if source is None:
        about = {"not_run": sources.missing(entry.run.needs), "made_from": made}
        return write(METRICS / f"{name}.json", about, [])
    options = entry.run.at(scale)
    measured = run(options, source, os.cpu_count() or 1)
    about = {"scale": scale, "seeds": options.seeds, "prepare": options.prepare, "made_from": made}
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
        missing = sources.missing(entry.run.needs) if sources.find(entry.run.needs) is None else "not run yet"
        return Findings({"not_run": missing}, [], [])
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PipelineError(f"{path} is damaged ({error}); run `make paper ONLY={name}`") from None
    rows, pictures = values.pop("rows"), values.pop("pictures")
    return Findings(values, rows, pictures)
