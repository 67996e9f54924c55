"""Manifests: what a stage read, kept and dropped, and the sha256 of every file of its folder.

Each folder that a stage writes has one `manifest.json`, and whoever reads another file of the folder checks
it against that. Parquet's footer and pages carry no checksum that covers everything, and JSON none at all;
without this a flipped bit could become another number.

    {"counts": {"read": 10, "kept": 9, "dropped": 1},
     "files": {"pairs.parquet": {"sha256": "9f86d0…", "size": 1234}, ...}}
"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pal.files import sha256_of, write_json
from pipeline import PipelineError

NAME = "manifest.json"


def write_manifest(folder: Path, counts: dict[str, int] | None = None, **others: Any) -> None:
    """Write a folder's manifest, after all other files of it.

    Args:
        folder: Where.
        counts: read, kept and dropped, merged where rows became one, and other counts; None for none.
        **others: What else the manifest holds.
    """
    if counts is not None:
        others = {"counts": counts, **others}
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        hashes = pool.map(sha256_of, paths)
    files = {
        path.relative_to(folder).as_posix(): {"sha256": sha256, "size": path.stat().st_size}
        for path, sha256 in zip(paths, hashes, strict=True)
    }
    write_json(folder / NAME, {**others, "files": files})


def recorded_hashes(manifest: Path, made_by: str = "") -> dict[str, str]:
    """The sha256 that a manifest gives each file, by the file's path relative to it.

    Raises:
        PipelineError: If it cannot be read.
    """
    try:
        return {name: str(file["sha256"]) for name, file in _load(manifest, made_by)["files"].items()}
    except (LookupError, TypeError, AttributeError) as error:
        raise _damaged(manifest, error, made_by) from None


def read_json(path: Path, made_by: str, absent: Any = None) -> Any:
    """Read JSON that a stage wrote, checked against the manifest of its folder where there is one.

    Args:
        path: The file.
        made_by: The stage that writes it, to run again.
        absent: What stands for a file that is not there; None for one that has to be.

    Raises:
        PipelineError: If it is missing or damaged.
    """
    if absent is not None and not path.exists():
        return absent
    check(path, made_by)
    return _load(path, made_by)


def check(path: Path, made_by: str) -> None:
    """Compare a file's sha256 with the manifest in its folder or in the one above; without one, do nothing.

    Raises:
        PipelineError: If it is not what was written; `made_by` names the stage to run again.
    """
    folder = next((parent for parent in path.parents[:2] if (parent / NAME).exists()), None)
    if folder is None or path == folder / NAME:
        return
    wanted = recorded_hashes(folder / NAME, made_by).get(path.relative_to(folder).as_posix())
    if not path.exists():
        raise PipelineError(f"{path} is missing; run `dvc repro {made_by}`")
    if wanted is None:
        raise _damaged(path, f"{folder / NAME} has no file of its name", made_by)
    # The bytes are read, whatever size and time say: a failing disk leaves both as they were.
    if sha256_of(path) != wanted:
        raise _damaged(path, f"its hash is not that in {folder / NAME}", made_by)


def check_folder(folder: Path, pattern: str, made_by: str) -> None:
    """Check all files of a pattern, no more and no fewer, against the manifest in the folder above.

    Raises:
        PipelineError: If one is missing, added or not what was written.
    """
    names = {path.name for path in folder.glob(pattern)}
    if (manifest := folder.parent / NAME).exists():
        recorded = [Path(name) for name in recorded_hashes(manifest, made_by)]
        names |= {path.name for path in recorded if path.parent.name == folder.name and path.match(pattern)}
    for name in sorted(names):
        check(folder / name, made_by)


def _load(path: Path, made_by: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; run `dvc repro {made_by}`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error, made_by) from None


def _damaged(path: Path, why: object, made_by: str) -> PipelineError:
    reason = " ".join(str(why).split())[:120]
    return PipelineError(f"{path} is damaged ({reason}); run `dvc repro -f {made_by}`")
