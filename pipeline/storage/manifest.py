"""Manifests: what went into a stage, what came out, what was dropped; each must add up to be written.

A manifest also lists every other file of its folder, those of folders below it included, and ends in a seal
over itself; whoever reads one of these files holds it to that (see `sums`):

    "files": {"pairs.parquet": {"sha256": "9f86d0…", "size": 1234}, ...}
"""

from pathlib import Path
from typing import Any

from pal import writing
from pipeline.errors import PipelineError
from pipeline.storage import sums
from pipeline.storage.files import sha256_of, write_json

NAME = sums.NAME


def write(folder: Path, counts: dict[str, int], table: Path | None = None, **others: Any) -> None:
    """Write a folder's manifest, when all else in it is written.

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
    seal(folder, counts=counts, **others)


def seal(folder: Path, **others: Any) -> None:
    """Write the manifest of a folder in which nothing was counted: its files, and what else is given."""
    write_json(folder / NAME, sums.sealed({**others, "files": _files(folder)}))


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    """Every file's hash and size: as known from writing it, or else read."""
    known = writing.recorded(folder)
    found = {}
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        if name == NAME:
            continue
        written = known.get(name)
        same = written is not None and written.size == size
        found[name] = {"sha256": written.sha256 if same else sha256_of(path), "size": size}
    return found


def _fault(folder: Path, counts: dict[str, int], why: str) -> str:
    told = {name: counts[name] for name in ("read", "kept", "dropped")}
    return f"what {folder.parent.name} counts does not add up: {why}, got {told}; please report this"
