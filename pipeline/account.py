"""The account of a dataset: what each stage read, kept and dropped, and what must be said of the data."""

from typing import Any

from pipeline import layout
from pipeline.errors import PipelineError
from pipeline.files import read_json

MAX_REASONS = 12
STANDARD = ("read", "kept", "dropped")
NOTES, SPLIT_TABLE = "notes.json", "table3.json"


def source(dataset: str) -> str:
    """Which data these are, in words."""
    return str(read_json(layout.prepared(dataset) / "manifest.json", f"prepare@{dataset}")["source"])


def notes(dataset: str) -> list[str]:
    """Sentences that must stand beside every number, as that answers were simulated."""
    path = layout.prepared(dataset) / NOTES
    return [str(note) for note in read_json(path, f"prepare@{dataset}")] if path.exists() else []


def split_table(dataset: str) -> list[dict[str, Any]]:
    """The split in the shape of the paper's Table 3, where prepare wrote one: each row a dict by column."""
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
    """What each stage read, kept and dropped; details are its other counts, reasons say why and how often."""
    found = []
    for stage, folder in (
        ("prepare", layout.prepared(dataset)),
        ("recolour", layout.recoloured(dataset)),
        ("split", layout.splits(dataset)),
        ("encode", layout.embeddings(dataset)),
    ):
        path = folder / "manifest.json"
        manifest = read_json(path, f"{stage}@{dataset}") if path.exists() else {}
        counts = {name: n for name, n in manifest.get("counts", {}).items() if isinstance(n, int)}
        if counts:
            details = {name: n for name, n in counts.items() if name not in STANDARD}
            row = {"stage": stage, **{name: counts.get(name) for name in STANDARD}}
            found.append({**row, "details": details, "reasons": commonest(manifest.get("reasons", {}))})
    return found


def commonest(reasons: dict[str, int], most: int = MAX_REASONS) -> dict[str, int]:
    """The commonest reasons, and how often all others applied."""
    ordered = sorted(reasons.items(), key=lambda each: (-each[1], each[0]))
    rest = sum(n for _, n in ordered[most:])
    return {**dict(ordered[:most]), **({"other reasons": rest} if rest else {})}
