"""store: what the store holds, by dataset and by encoder, and what of it nobody refers to any more.

Referred to are raw files that a `data/raw/*.json` names, here or in another repository that noted that it
uses this store, or that one such file in a DVC cache names, so that older commits can be brought back; and
embeddings that were used when a dataset was last encoded. What is younger than some days is kept in any case:
another run may be about to refer to it.

Each repository notes in the store what it downloaded and encoded: one small file per repository, dataset and
kind, which nobody else writes.
"""

import configparser
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline import PipelineError, paths

DAY = 86_400.0
MANIFEST_START = b'{\n  "source"'  # of every manifest of raw files
UNUSED = "nobody refers to"
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
Use = dict[str, str]  # repository (its path), dataset, part (raw or a modality), embeddings (a folder's name)


def uses() -> dict[Path, Use | None]:
    """All notes; None for one that is no note or whose repository is gone."""
    notes: dict[Path, Use | None] = {}
    for path in sorted((paths.store() / "uses").glob("*/*.json")):
        notes[path] = None
        with suppress(*UNREADABLE):
            use = {name: str(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
            if (Path(use["repository"]) / paths.PARAMS).is_file():
                notes[path] = use
    return notes


def cache_folder(root: Path = Path()) -> Path:
    """DVC's cache of a repository: `.dvc/cache`, or where DVC's configuration says.

    Raises:
        PipelineError: If the configuration cannot be read.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(f"DVC's configuration in {root / '.dvc'} cannot be read ({reason})") from None
    return root / ".dvc" / parser.get("cache", "dir", fallback="cache").strip("\"'")


@dataclass
class Entry:
    """A line of the table: something that is kept or removed as a whole."""

    kind: str  # raw, embeddings, downloads, leftovers, encoders or notes
    name: str  # which, for the reader
    path: Path  # a link counts as a file, so that what it leads to is never touched
    used: str = ""  # by whom, in words

    def __post_init__(self) -> None:
        """Count files and links in it, their bytes in the store, and days since the youngest change."""
        self.is_folder = self.path.is_dir() and not self.path.is_symlink()
        self.files, self.size, changed = 0, 0, 0.0
        for path in (self.path, *(self.path.rglob("*") if self.is_folder else ())):
            with suppress(OSError):  # another process may have removed it meanwhile
                stat = path.lstat()
                changed = max(changed, stat.st_mtime)
                if path.is_symlink() or not path.is_dir():
                    self.files, self.size = self.files + 1, self.size + stat.st_size
        self.age = (time.time() - changed) / DAY


def main(*, clean: bool = False, days: float = 7) -> None:
    """Print the table; with `clean`, remove what nobody refers to and what is older than so many days."""
    groups: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in _entries():
        groups[entry.kind, entry.name, entry.used or UNUSED].append(entry)
    print(f"store {paths.store()}")
    print(f"{'what':<12}{'which':<64}{'files':>10}{'size':>12}  used by")
    for (kind, name, used), group in sorted(groups.items()):
        files, size = (sum(entry.files for entry in group), sum(entry.size for entry in group))
        print(f"{kind:<12}{name[:63]:<64}{files:>10,}{_readable(size):>12}  {used}")
    old = [each for group in groups.values() for each in group if not each.used and each.age >= days]
    size = _readable(sum(entry.size for entry in old))
    if not clean:
        more = ": remove it with `python -m pipeline store --clean`" if old else ""
        print(f"\n{size} in {len(old):,} places could go ({UNUSED} it, {days:g} days old){more}")
        return
    for entry in old:
        if entry.is_folder:
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            entry.path.unlink(missing_ok=True)
        print(f"removed {entry.kind} {entry.name} ({entry.path.relative_to(paths.store())})")
    print(f"\nremoved {len(old):,} places, {size}")


def _entries() -> Iterator[Entry]:
    """All that lies in the store."""
    root, notes = paths.store(), uses()
    datasets: dict[str, set[str]] = defaultdict(set)  # by sha256 of a raw file, or by folder of embeddings
    for use in filter(None, notes.values()):
        datasets[use["embeddings"]].add(use["dataset"])
    repositories = {use["repository"] for use in notes.values() if use}
    for repository in {Path(name) for name in repositories} | {paths.project_root().resolve()}:
        for path in repository.glob("data/raw/*.json"):
            for sha256 in _hashes_in(path):
                datasets[sha256].add(path.stem)
        for path in cache_folder(repository).glob("files/md5/??/*"):
            for sha256 in _hashes_in(path):
                datasets[sha256].add("an older version")
    for path in sorted(root.glob("raw/??/[0-9a-f]*")):
        names = datasets[path.name]
        name = ", ".join(sorted(names - {"an older version"} or names)) or "of no dataset"
        linked = " (linked, lies elsewhere)" if path.is_symlink() else ""
        yield Entry("raw", f"{name}{linked}", path, "data/raw" if names else "")
    for path in sorted(root.glob("embeddings/[!.]*")):
        try:
            about = json.loads((path / "about.json").read_text(encoding="utf-8"))
            by = about["embedder"]
            name = f"{by['encoder']} {by['dtype']} {by['engine']} {about['device']} {path.name[-8:]}"
        except UNREADABLE:
            name = path.name
        yield Entry("embeddings", name, path, ", ".join(sorted(datasets[path.name])))
    for path in sorted(root.glob("downloads/[!.]*")):
        yield Entry("downloads", path.name, path)
    for path in sorted({place for glob in (".?*", "tmp*", "*/.?*", "*/*/.?*") for place in root.glob(glob)}):
        yield Entry("leftovers", "of runs that were stopped", path)
    for path in sorted([*root.glob("weights/[!.]*"), *root.glob("onnx/[!.]*")]):
        yield Entry("encoders", path.name, path, "encoders, made from their weights")
    for path in (path for path, use in notes.items() if use is None):
        yield Entry("notes", "of repositories that are gone", path)


def _hashes_in(path: Path) -> list[str]:
    """The hashes in a manifest of raw files; none where a file is something else."""
    try:
        with path.open("rb") as file:
            if file.read(len(MANIFEST_START)) != MANIFEST_START:
                return []
            return [str(raw["sha256"]) for raw in json.loads(MANIFEST_START + file.read())["files"]]
    except UNREADABLE:
        return []


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:,.0f} B" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
