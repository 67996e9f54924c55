"""verify: read every byte again, and hold it to every hash that ours or DVC's records give of it.

What was remembered of a file is not asked: the point is to find what changed without a trace. DVC trusts a
file of its cache unread if that is write-protected, so its cache is read here too.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline import progress
from pipeline.errors import PipelineError
from pipeline.storage import manifests, promises
from pipeline.storage.promises import MD5_FOLDER, Promise

BLOCK = 1 << 20
KINDS = ("md5", "sha256")
SHOWN = 100  # wrong files printed in full


@dataclass(frozen=True)
class Fault:
    """A promise that does not hold.

    Args:
        claim: The promise.
        what: What is wrong, in words.
    """

    claim: Promise
    what: str


def main(*, mend: bool = False) -> None:
    """Check everything, say what is wrong and how to mend it, and exit with 1 where something is.

    Args:
        mend: Whether to remove what is wrong, so that the next run makes it anew.
    """
    promised = list(dict.fromkeys(promises.gather()))
    there = [claim for claim in promised if claim.path.exists()]
    if not there:
        print("nothing to verify yet; run `dvc repro`")
        return
    found = _read(there)
    faults, newer = _faults(promised, found)
    files = {_inode(claim.path) for claim in there}
    size = sum(_size(path) for path in {_inode(c.path): c.path for c in there}.values())
    what = f"{len(files):,} files of {size / 1e9:,.2f} GB"
    if newer:
        print(f"{len(newer):,} outputs are newer than dvc.lock and whole: made without `dvc repro`")
    if not faults:
        print(f"verified {what}: all as they were written")
        return
    tell(faults, mend=mend)
    print(f"{len({fault.claim.path for fault in faults}):,} of {what} are wrong")
    sys.exit(1)


def _read(there: list[Promise]) -> dict[tuple[int, int, str], str]:
    """Hashes by inode and kind; a file under many names is read once, on all cores."""
    wanted: dict[tuple[int, int], tuple[Path, set[str]]] = {}
    for claim in there:
        wanted.setdefault(_inode(claim.path), (claim.path, set()))[1].add(claim.kind)
    total = sum(_size(path) for path, _ in wanted.values())
    found: dict[tuple[int, int, str], str] = {}
    with progress.bar(total, "verify", "B") as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        bar.unit_scale = True
        for inode, (path, hashed) in zip(
            wanted, pool.map(lambda one: (one[0], _hashes(*one)), wanted.values()), strict=True
        ):
            found |= {(*inode, kind): value for kind, value in hashed.items()}
            bar.update(_size(path))
    return found


def _hashes(path: Path, kinds: set[str]) -> dict[str, str]:
    """A file's hashes, read once for all kinds; of one that cannot be read, what is wrong with it."""
    if MD5_FOLDER in kinds:
        return {MD5_FOLDER: md5_of_folder(path)}
    digests = {kind: hashlib.new(kind, usedforsecurity=False) for kind in KINDS if kind in kinds}
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                for digest in digests.values():
                    digest.update(block)
    except OSError as error:
        return dict.fromkeys(digests, f"unreadable: {error.strerror}")
    return {kind: digest.hexdigest() for kind, digest in digests.items()}


def md5_of_folder(folder: Path) -> str:
    """The hash that DVC gives a folder: over its list of files, by name, with their md5."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = [
        {"md5": _hashes(path, {"md5"})["md5"], "relpath": path.relative_to(folder).as_posix()}
        for path in files
    ]
    listed.sort(key=lambda entry: entry["relpath"].split("/"))
    content = json.dumps(listed, sort_keys=True).encode()
    return f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}.dir"


def _faults(
    promised: list[Promise], found: dict[tuple[int, int, str], str]
) -> tuple[list[Fault], list[Promise]]:
    """Promises that do not hold; and outputs that are not what dvc.lock says, but what their lists say."""
    faults, newer = [], []
    for claim in promised:
        if not claim.path.exists():
            if claim.needed:
                faults.append(Fault(claim, "is missing"))
            continue
        got = found[(*_inode(claim.path), claim.kind)]
        if got == claim.wanted:
            continue
        if claim.newer and _vouched_for(claim.path):
            newer.append(claim)
        else:
            faults.append(Fault(claim, got if got.startswith("unreadable") else "is damaged or was changed"))
    return faults, newer


def _vouched_for(path: Path) -> bool:
    """Whether all of a stage's output is what the stage's own list says."""
    folder = next((each for each in (path, *path.parents[:3]) if (each / manifests.NAME).is_file()), None)
    if folder is None:
        return False
    try:
        listed = manifests.recorded_hashes(folder / manifests.NAME)
    except PipelineError:
        return False
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return files == {*listed, manifests.NAME} and all(
        _hashes(folder / name, {"sha256"})["sha256"] == sha256 for name, sha256 in listed.items()
    )


def tell(faults: list[Fault], *, mend: bool) -> None:
    """Print what is wrong, and the commands that mend it."""
    by_path: dict[Path, list[Fault]] = {}
    for fault in faults:
        by_path.setdefault(fault.claim.path, []).append(fault)
    for number, (path, each) in enumerate(by_path.items()):
        if number < SHOWN:
            who = ", ".join(dict.fromkeys(fault.claim.who for fault in each))
            print(f"{path} {each[0].what} (says {who})")
    if len(by_path) > SHOWN:
        print(f"and {len(by_path) - SHOWN:,} more")
    removed = list(dict.fromkeys(_removed(faults)))
    commands = _commands(faults)
    if mend:
        for path in removed:
            path.unlink(missing_ok=True)
        print(f"removed {len(removed):,} files; now run: {commands}")
        return
    print("\nto mend:")
    for path in removed:
        print(f"  rm -f {_quoted(path)}")
    print(f"  {commands}")


def _removed(faults: list[Fault]) -> Iterator[Path]:
    """What must go: never a file that lies elsewhere and is only linked to, but the link."""
    for fault in faults:
        yield from (path for path in fault.claim.removed if path.is_symlink() or path.exists())


def _commands(faults: list[Fault]) -> str:
    """What makes anew what is gone."""
    forced = dict.fromkeys(fault.claim.stage for fault in faults if fault.claim.stage)
    first = f"dvc repro -f -s {' '.join(forced)} && " if forced else ""
    return f"{first}dvc repro"


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))


def _inode(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
