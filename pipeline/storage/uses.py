"""Who uses the store: each repository notes there what it downloaded and encoded, so that others can tell.

One small file per repository, dataset and part, which nobody else writes: two repositories never meet in one.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pal.errors import PalError
from pal.files import write_json
from pipeline import paths


@dataclass(frozen=True)
class Use:
    """One use.

    Args:
        repository: Where the repository lies.
        dataset: Its dataset.
        part: raw, or the modality that was encoded.
        embeddings: The folder of the store that its vectors are in; empty for raw files.
    """

    repository: str
    dataset: str
    part: str
    embeddings: str = ""


def record(dataset: str, part: str, embeddings: str = "") -> None:
    """Note that this repository uses something; a store that cannot be written to stays as it is."""
    use = Use(str(paths.project_root().resolve()), dataset, part, embeddings)
    path = folder() / _short(use.repository) / f"{dataset}-{part}.json"
    with suppress(OSError, PalError):
        if _read(path) != use:
            write_json(path, asdict(use))


def live() -> list[Use]:
    """All uses by repositories that are still there."""
    found = [_read(path) for path in sorted(folder().glob("*/*.json"))]
    return [use for use in found if use and (Path(use.repository) / paths.PARAMS).is_file()]


def stale() -> list[Path]:
    """Notes of repositories that are gone, and what is no note."""
    kept = {(use.repository, use.dataset, use.part) for use in live()}
    notes = {path: _read(path) for path in sorted(folder().glob("*/*.json"))}
    return [
        path for path, use in notes.items() if not use or (use.repository, use.dataset, use.part) not in kept
    ]


def folder() -> Path:
    """Where the notes lie."""
    return paths.store() / "uses"


def _read(path: Path) -> Use | None:
    try:
        use = Use(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return use if all(isinstance(value, str) for value in asdict(use).values()) else None


def _short(repository: str) -> str:
    return hashlib.sha256(repository.encode()).hexdigest()[:16]
