"""Lists of hashes: each folder that a stage leaves names the sha256 of its files, which readers hold them to.

Parquet's footer and pages carry no checksum that covers everything, and JSON none at all; without this list a
flipped bit could become another number. The format is that of `sha256sum`, so that
`sha256sum --check SHA256SUMS` works too.
"""

from pathlib import Path

from pipeline import hashes
from pipeline.errors import PipelineError
from pipeline.files import sha256_of, write_text

NAME = "SHA256SUMS"


def write(folder: Path) -> None:
    """List every file of a folder, when all are written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    write_text(folder / NAME, "".join(lines))


def read(path: Path) -> dict[str, str]:
    """Hashes by the files' places, relative to the list.

    Raises:
        PipelineError: If it is not such a list.
    """
    found = {}
    try:
        *lines, rest = path.read_bytes().decode().split("\n")
        for line in [*lines, *([rest] if rest else [])]:
            sha256, name = line[:64], line[66:]
            if rest or line[64:66] != "  " or not name or len(bytes.fromhex(sha256)) != 32:
                raise ValueError(f"a line {line[:100]!r}")
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"a file outside, {name[:100]!r}")
            found[name] = sha256
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path} is damaged ({error})") from None
    return found


def check(path: Path, made_by: str) -> None:
    """Hold a file to the list in its folder or in the one above; where there is none, nothing is known.

    Raises:
        PipelineError: If it is not what was written; `made_by` names the stage to run again.
    """
    for folder in path.parents[:2]:
        if (folder / NAME).exists():
            break
    else:
        return
    name = path.relative_to(folder).as_posix()
    again = f"run `dvc repro -f {made_by}`"
    try:
        listed = read(folder / NAME)
    except PipelineError as error:
        raise PipelineError(f"{error}; {again}") from None
    if name not in listed:
        raise PipelineError(f"{path} is damaged (no file of its name is in {folder / NAME}); {again}")
    if not path.exists():
        raise PipelineError(f"{path} is missing; run `dvc repro {made_by}`")
    if hashes.sha256(path) != listed[name]:
        raise PipelineError(f"{path} is damaged (its hash is not that in {folder / NAME}); {again}")


def check_folder(folder: Path, pattern: str, made_by: str) -> None:
    """Hold all files of a pattern, and that there are no more and no fewer, to the list in the folder above.

    Raises:
        PipelineError: If one is missing, added or not what was written.
    """
    there = {path.name for path in folder.glob(pattern)}
    sums = folder.parent / NAME
    if sums.exists():
        try:
            names = [Path(name) for name in read(sums)]
        except PipelineError as error:
            raise PipelineError(f"{error}; run `dvc repro -f {made_by}`") from None
        there |= {path.name for path in names if path.parent.name == folder.name and path.match(pattern)}
    for name in sorted(there):
        check(folder / name, made_by)
