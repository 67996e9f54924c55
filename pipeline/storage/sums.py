"""Hashes that readers hold files to: each folder that a stage leaves lists its files' in its manifest.

Parquet's footer and pages carry no checksum that covers everything, and JSON none at all; without these a
flipped bit could become another number. The manifest itself, and each other JSON file that stands alone, ends
in a seal, the sha256 of all else that it says.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

NAME = "manifest.json"
SEAL = "seal"


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """The same with a seal."""
    return {**values, SEAL: _seal(values)}


def unsealed(path: Path, values: Any, made_by: str) -> dict[str, Any]:
    """What was sealed.

    Args:
        path: Where the values are from.
        values: As they were read.
        made_by: The stage to run again.

    Raises:
        PipelineError: If they are not what was sealed.
    """
    again = f"run `dvc repro -f {made_by}`"
    if not isinstance(values, dict) or SEAL not in values:
        raise PipelineError(f"{path} is damaged or older than this version (it has no seal); {again}")
    rest = {name: value for name, value in values.items() if name != SEAL}
    if values[SEAL] != _seal(rest):
        raise PipelineError(f"{path} is damaged (its seal does not fit); {again}")
    return rest


def read(path: Path, made_by: str = "") -> dict[str, str]:
    """The hashes that a manifest lists, by the files' places relative to it.

    Raises:
        PipelineError: If it is not what was written.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise PipelineError(f"{path} is damaged ({reason}); run `dvc repro -f {made_by}`") from None
    listed = unsealed(path, values, made_by).get("files", {})
    return {name: about["sha256"] for name, about in listed.items()}


def check(path: Path, made_by: str) -> None:
    """Hold a file to the manifest in its folder or in the one above; where there is none, nothing is known.

    Raises:
        PipelineError: If it is not what was written; `made_by` names the stage to run again.
    """
    for folder in path.parents[:2]:
        if (folder / NAME).exists():
            break
    else:
        return
    name = path.relative_to(folder).as_posix()
    listed = read(folder / NAME, made_by)
    if name == NAME:
        return
    if not path.exists():
        raise PipelineError(f"{path} is missing; run `dvc repro {made_by}`")
    again = f"run `dvc repro -f {made_by}`"
    if name not in listed:
        raise PipelineError(f"{path} is damaged (no file of its name is in {folder / NAME}); {again}")
    with path.open("rb") as file:  # in truth: bits that rot leave size and time as they were
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != listed[name]:
        raise PipelineError(f"{path} is damaged (its hash is not that in {folder / NAME}); {again}")


def check_folder(folder: Path, pattern: str, made_by: str) -> None:
    """Hold all files of a pattern, no more and no fewer, to the manifest in the folder above.

    Raises:
        PipelineError: If one is missing, added or not what was written.
    """
    there = {path.name for path in folder.glob(pattern)}
    if (manifest := folder.parent / NAME).exists():
        names = [Path(name) for name in read(manifest, made_by)]
        there |= {path.name for path in names if path.parent.name == folder.name and path.match(pattern)}
    for name in sorted(there):
        check(folder / name, made_by)


def _seal(values: dict[str, Any]) -> str:
    """Over the values as they will be read back: keys as texts, tuples as lists."""
    plain = json.loads(json.dumps(values))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
