"""Manifests: what went into a stage, what came out, what was dropped; each must add up to be written."""

from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import write_json

NAME = "manifest.json"


def write(folder: Path, counts: dict[str, int], table: Path | None = None, **others: Any) -> None:
    """Write a folder's manifest.

    Args:
        folder: Where.
        counts: read, kept and dropped, and whatever else was counted.
        table: A Parquet table that must have as many rows as were kept.
        **others: What else the manifest tells.

    Raises:
        PipelineError: If read is not kept and dropped together, or the table has other rows: a fault of ours.
    """
    if counts["read"] != counts["kept"] + counts["dropped"]:
        raise PipelineError(_fault(folder, counts, "read must be kept + dropped"))
    if table is not None:
        import pyarrow.parquet as pq

        rows = pq.read_metadata(table).num_rows
        if rows != counts["kept"]:
            raise PipelineError(_fault(folder, counts, f"{table.name} has {rows:,} rows"))
    write_json(folder / NAME, {"counts": counts, **others})


def _fault(folder: Path, counts: dict[str, int], why: str) -> str:
    told = {name: counts[name] for name in ("read", "kept", "dropped")}
    return f"what {folder.parent.name} counts does not add up: {why}, got {told}; please report this"
