"""The account of a dataset: what each stage read, kept and dropped and why, and what must be said of the data."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline import layout
from pipeline.errors import PipelineError
from pipeline.files import read_json

MAX_REASONS = 12
STANDARD = ("read", "kept", "dropped")
NOTES, SPLIT_TABLE, DROPPED = "notes.json", "table3.json", "dropped.csv"


def source(dataset: str) -> str:
    """Which data these are, in words."""
    return str(read_json(layout.prepared(dataset) / "manifest.json", f"prepare@{dataset}")["source"])


def notes(dataset: str) -> list[str]:
    """Sentences that must stand beside every number, as that answers were simulated."""
    path = layout.prepared(dataset) / NOTES
    return [str(note) for note in read_json(path, f"prepare@{dataset}")] if path.exists() else []


def split_table(dataset: str) -> list[dict[str, Any]]:
    """The split in the shape of the paper's Table 3, where prepare wrote one: rows of column names to cells."""
    path = layout.prepared(dataset) / SPLIT_TABLE
    if not path.exists():
        return []
    stage = f"prepare@{dataset}"
    found = read_json(path, stage)
    rows = found.get("rows") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PipelineError(f"{path} must hold a list of rows; run `dvc repro -f {stage}`")
    return rows


def account(dataset: str) -> list[dict[str, Any]]:
    """What each stage read, kept and dropped, each with its reasons and how often they applied."""
    found = []
    for stage, folder in (
        ("prepare", layout.prepared(dataset)),
        ("recolour", layout.recoloured(dataset)),
        ("split", layout.splits(dataset)),
        ("encode", layout.embeddings(dataset)),
    ):
        path = folder / "manifest.json"
        counts = read_json(path, f"{stage}@{dataset}").get("counts", {}) if path.exists() else {}
        if not counts:
            continue
        details = {name: n for name, n in counts.items() if name not in STANDARD and isinstance(n, int)}
        row = {"stage": stage, **{name: counts.get(name) for name in STANDARD}}
        found.append({**row, "details": details, "reasons": reasons(folder / DROPPED)})
    return found


def reasons(path: Path) -> dict[str, int]:
    """Why items were dropped, the commonest reasons first, from a table of id and reason."""
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            counts = Counter(row["reason"] for row in csv.DictReader(file))
    except (KeyError, ValueError, csv.Error) as error:
        raise PipelineError(f"{path} must be a table of id and reason ({error}); run the stage again") from None
    common = sorted(counts.items(), key=lambda each: (-each[1], str(each[0])))
    shown = {str(reason): n for reason, n in common[:MAX_REASONS]}
    rest = sum(n for _, n in common[MAX_REASONS:])
    return {**shown, "other reasons": rest} if rest else shown
