"""store: what the store holds, by dataset and by encoder, and what of it nobody refers to any more.

Referred to are raw files that a `data/raw/*.json` names, here or in another repository that noted that it
uses this store, or that one such file in a DVC cache names, so that older commits can be brought back; and
embeddings that were used when a dataset was last encoded. What is younger than some days is kept in any case:
another run may be about to refer to it.
"""

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import paths
from pipeline.storage import promises, uses

DAY = 86_400.0
START = b'{\n  "source"'  # of every manifest of raw files
UNUSED = "nobody refers to"


@dataclass(frozen=True)
class Entry:
    """A line of the table: something that is kept or removed as a whole.

    Args:
        kind: raw, embeddings, downloads, leftovers, encoders or notes.
        name: Which, for the reader.
        path: The file or folder.
        used: By whom, in words; empty where nobody refers to it.
    """

    kind: str
    name: str
    path: Path
    used: str


def main(*, clean: bool = False, days: float = 7) -> None:
    """Print the table; with `clean`, remove what nobody refers to and what is older than so many days."""
    entries = list(_entries())
    for line in table(entries):
        print(line)
    old = [entry for entry in entries if not entry.used and _age(entry.path) >= days]
    size = sum(map(_size, (entry.path for entry in old)))
    if not clean:
        more = ": remove it with `python -m pipeline store --clean`" if old else ""
        print(f"\n{_told(size)} in {len(old):,} places could go ({UNUSED} it, {days:g} days old){more}")
        return
    for entry in old:
        remove(entry.path)
        print(f"removed {entry.kind} {entry.name} ({entry.path.relative_to(paths.store())})")
    print(f"\nremoved {len(old):,} places, {_told(size)}")


def table(entries: list[Entry]) -> Iterator[str]:
    """One line per kind and name: files, size and by whom it is used."""
    yield f"store {paths.store()}"
    groups: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.kind, entry.name, entry.used or UNUSED].append(entry)
    yield f"{'what':<12}{'which':<64}{'files':>10}{'size':>12}  used by"
    for (kind, name, used), group in sorted(groups.items()):
        files = sum(len(list(_files(entry.path))) for entry in group)
        size = sum(_size(entry.path) for entry in group)
        yield f"{kind:<12}{name[:63]:<64}{files:>10,}{_told(size):>12}  {used}"


def remove(path: Path) -> None:
    """Remove a file, a link (never what it leads to) or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _entries() -> Iterator[Entry]:
    yield from _raw()
    yield from _embeddings()
    root = paths.store()
    for path in _there(root / "downloads"):
        yield Entry("downloads", path.name, path, "")
    for path in sorted({*root.glob(".?*"), *root.glob("tmp*"), *root.glob("*/.?*"), *root.glob("*/*/.?*")}):
        yield Entry("leftovers", "of runs that were stopped", path, "")
    for name in ("weights", "onnx"):
        for path in _there(root / name):
            yield Entry("encoders", path.name, path, "encoders, made from their weights")
    for path in uses.stale():
        yield Entry("notes", "of repositories that are gone", path, "")


def _raw() -> Iterator[Entry]:
    named = _named()
    for path in sorted((paths.store() / "raw").glob("??/[0-9a-f]*")):
        who = sorted(named.get(path.name, ()))
        linked = " (linked, lies elsewhere)" if path.is_symlink() else ""
        yield Entry("raw", f"{', '.join(who) or 'of no dataset'}{linked}", path, "data/raw" if who else "")


def _named() -> dict[str, set[str]]:
    """The datasets that name a raw file, by its hash."""
    here = {str(paths.project_root().resolve()), *(use.repository for use in uses.live())}
    named: dict[str, set[str]] = defaultdict(set)
    for repository in sorted(here):
        for path in Path(repository).glob("data/raw/*.json"):
            _note(path, path.stem, named)
        for path in promises.cache_folder(Path(repository)).glob("files/md5/??/*"):
            if path.suffix != ".dir":
                _note(path, "an older version", named)
    return named


def _note(path: Path, dataset: str, named: dict[str, set[str]]) -> None:
    try:
        with path.open("rb") as file:
            if file.read(len(START)) != START:
                return
            found = json.loads(START + file.read())
        hashes = [str(file["sha256"]) for file in found["files"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return
    for sha256 in hashes:
        if dataset != "an older version" or not named[sha256]:
            named[sha256].add(dataset)


def _embeddings() -> Iterator[Entry]:
    used: dict[str, set[str]] = defaultdict(set)
    for use in uses.live():
        used[use.embeddings].add(use.dataset)
    for path in _there(paths.store() / "embeddings"):
        yield Entry("embeddings", _described(path), path, ", ".join(sorted(used.get(path.name, ()))))


def _described(folder: Path) -> str:
    """An encoder's folder in words, from what it says of itself."""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        by = about["embedder"]
        words = [by["encoder"], by["dtype"], by["engine"], about["device"], folder.name[-8:]]
        return " ".join(map(str, words))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return folder.name


def _there(folder: Path) -> Iterable[Path]:
    return (
        sorted(path for path in folder.glob("*") if not path.name.startswith(".")) if folder.is_dir() else ()
    )


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.is_symlink():
        yield from (each for each in path.rglob("*") if each.is_symlink() or each.is_file())
    else:
        yield path


def _size(path: Path) -> int:
    """Bytes in the store itself: a link's target lies elsewhere."""
    total = 0
    for each in _files(path):
        try:
            total += each.lstat().st_size
        except OSError:  # gone meanwhile
            continue
    return total


def _age(path: Path) -> float:
    """Days since the youngest change in it."""
    latest = 0.0
    for each in (path, *_files(path)):
        try:
            latest = max(latest, each.lstat().st_mtime)
        except OSError:
            continue
    return (time.time() - latest) / DAY


def _told(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:,.0f} B" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    return ""
