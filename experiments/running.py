"""Running one entry from end to end, and where its findings lie."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import entries, sources
from experiments.counts import counted, parameters
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
        _json([entry.run.model_dump(mode="json"), scale, sources.fingerprint(entry.run.needs)]).encode()
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
    entry_run = entry.run.at(scale)
    if entry_run.kind == "parameters":
        measured = parameters(entry_run)
    elif entry_run.kind == "counts":
        measured = counted(entry_run, source)
    else:
        measured = run(entry_run, source, os.cpu_count() or 1)
    arms = [arm for arm in measured.arms if arm.at.get("preset") != BOUND]
    about: dict[str, Any] = {
        "scale": scale, "seeds": entry_run.seeds, "prepare": entry_run.prepare, "made_from": made,
    }  # fmt: skip
    about |= {key: value for key, value in measured.tables.items() if value}
    about["bounds"] = [best(arm) for arm in measured.arms if arm.at.get("preset") == BOUND]
    rows = [summary(arm) for arm in arms if arm.judged]
    return write(METRICS / f"{name}.json", about, rows, measured.pictures)


def best(arm: Arm) -> dict[str, Any]:
    """What anyone could reach in a cell, as a row."""
    row = summary(arm)
    row["bound"] = row.pop("accuracy")
    return {key: value for key, value in row.items() if key not in ("preset", "sd", "users", "pairs")}


def write(path: Path, about: Row, rows: list[Row], pictures: list[Row] | None = None) -> Path:
    """Write JSON with a line per row, so that a change of one shows as one."""
    lines = [f'  "{key}": {_json(value)}' for key, value in about.items()]
    for key, values in (("rows", rows), ("pictures", pictures or [])):
        body = ",\n".join(f"    {_json(value)}" for value in values)
        lines.append(f'  "{key}": [\n{body}\n  ]' if values else f'  "{key}": []')
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
    return path


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class Findings:
    """What an entry's run left: the metrics' own words, rows and pictures."""

    about: dict[str, Any]
    rows: list[dict[str, Any]]
    pictures: list[dict[str, Any]]


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
