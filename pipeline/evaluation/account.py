"""The account of a dataset: what each stage read, kept and dropped, and what must be said of the data."""

from typing import Any

from pipeline import paths
from pipeline.errors import PipelineError
from pipeline.storage.manifests import read_json

MAX_REASONS = 12
STANDARD = ("read", "kept", "dropped")
NOTES, SPLIT_TABLE, PUBLISHED = "notes.json", "table3.json", "published.json"
SPLITS = ("train", "val", "test")


def source(dataset: str) -> str:
    """Which data these are, in words."""
    return str(read_json(paths.prepared(dataset) / "manifest.json", f"prepare@{dataset}")["source"])


def notes(dataset: str) -> list[str]:
    """Sentences that must stand beside every number, as that answers were simulated."""
    path = paths.prepared(dataset) / NOTES
    return [str(note) for note in read_json(path, f"prepare@{dataset}")] if path.exists() else []


def published(dataset: str) -> list[str]:
    """Sentences on whether these are the published data, by their counts."""
    path = paths.prepared(dataset) / PUBLISHED
    found = read_json(path, f"prepare@{dataset}") if path.exists() else {}
    return [str(part["says"]) for part in (found, found.get("leakage") or {}) if part.get("says")]


def split_table(dataset: str) -> list[dict[str, Any]]:
    """The split in the shape of the paper's Table 3, where prepare wrote one: each row a dict by column.

    The file holds such `rows`, or counts of train, val and test pairs under `pairs`, by group and users, and
    under `published` the same of the paper.
    """
    path = paths.prepared(dataset) / SPLIT_TABLE
    if not path.exists():
        return []
    stage = f"prepare@{dataset}"
    found = read_json(path, stage)
    try:
        rows = found["rows"] if "rows" in found else _rows(found["pairs"], found.get("published") or {})
        return [dict(row) for row in rows]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise PipelineError(f"{path} must hold a list of rows; run `dvc repro -f {stage}`") from None


def _rows(pairs: dict[str, Any], published: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for group, by_users in pairs.items():
        for users, counts in by_users.items():
            row = {"group": f"{group}, {users}", **dict(zip(SPLITS, counts, strict=True))}
            paper = (published.get(group) or {}).get(users)
            if paper:
                row |= {f"{split}_published": n for split, n in zip(SPLITS, paper, strict=True)}
            rows.append(row)
    return rows


def account(dataset: str) -> list[dict[str, Any]]:
    """What each stage read, kept and dropped; details are its other counts, reasons say why and how often."""
    found = []
    for stage, folder in (
        ("prepare", paths.prepared(dataset)),
        ("recolour", paths.recoloured(dataset)),
        ("split", paths.splits(dataset)),
        ("encode", paths.embeddings(dataset)),
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
