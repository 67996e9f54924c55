"""Files of stages: written by `pal.writing`, whole or not at all, its errors as ours; and read back."""

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pal import writing
from pipeline.errors import PipelineError


def new_file(
    path: Path, *, hashed: bool = False, name: Callable[[str], str] | None = None
) -> AbstractContextManager[writing.Out]:
    """A file to write bytes to, that takes its name once the block ends well; see `pal.writing.new_file`."""
    return writing.new_file(path, hashed=hashed, name=name, error=PipelineError)


def new_folder(path: Path) -> AbstractContextManager[Path]:
    """A folder to fill, that takes the place of `path` once the block ends well."""
    return writing.new_folder(path, error=PipelineError)


def copy_file(source: Path, path: Path, *, hashed: bool = False) -> writing.Out:
    """Copy a file's bytes, whole or not at all."""
    return writing.copy_file(source, path, hashed=hashed, error=PipelineError)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    writing.write_bytes(path, text.encode("utf-8"), error=PipelineError)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all; NaN is refused, since other readers refuse it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of the same keys as CSV, whole or not at all."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, out.getvalue())


def read_json(path: Path, made_by: str) -> Any:
    """Read JSON that a stage wrote.

    Raises:
        PipelineError: If it is missing or damaged; `made_by` names the stage to run again.
    """
    from pipeline.storage import sums

    sums.check(path, made_by)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; run `dvc repro {made_by}`") from None
    except ValueError as error:
        raise PipelineError(f"{path} is damaged ({error}); run `dvc repro -f {made_by}`") from None


def sha256_of(path: Path) -> str:
    """The file's sha256, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
