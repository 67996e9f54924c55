"""store: what the store holds, by dataset and by encoder, and what of it nobody refers to any more.

Referred to are raw files that a `data/raw/*.json` names, here or in another repository that noted that it
uses this store, or that one such file in a DVC cache names, so that older commits can be brought back; and
embeddings that were used when a dataset was last encoded. What is younger than some days is kept in any case:
another run may be about to refer to it.

Each repository notes in the store what it downloaded and encoded: one small file per repository, dataset and
kind, which nobody else writes.
"""

import configparser
import hashlib
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pal.errors import PalError
from pal.files import write_json
from pipeline import paths
from pipeline.errors import PipelineError

DAY = 86_400.0
MANIFEST_START = b'{\n  "source"'  # of every manifest of raw files
UNUSED = "nobody refers to"
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Use:
    """That a repository uses something of the store.

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


def record_use(dataset: str, part: str, embeddings: str = "") -> None:
    """Note that this repository uses something; a store that cannot be written to stays as it is."""
    use = Use(str(paths.project_root().resolve()), dataset, part, embeddings)
    folder = hashlib.sha256(use.repository.encode()).hexdigest()[:16]
    path = paths.store() / "uses" / folder / f"{dataset}-{part}.json"
    with suppress(OSError, PalError):
        if _read_use(path) != use:
            write_json(path, asdict(use))


def uses() -> dict[Path, Use | None]:
    """All notes; None for one that is no note or whose repository is gone."""
    notes = {path: _read_use(path) for path in sorted((paths.store() / "uses").glob("*/*.json"))}
    return {
        path: use if use and (Path(use.repository) / paths.PARAMS).is_file() else None
        for path, use in notes.items()
    }


def _read_use(path: Path) -> Use | None:
    try:
        use = Use(**json.loads(path.read_text(encoding="utf-8")))
    except UNREADABLE:
        return None
    return use if all(isinstance(value, str) for value in asdict(use).values()) else None


def cache_folder(root: Path = Path()) -> Path:
    """DVC's cache of a repository: `.dvc/cache`, or where DVC's configuration says.

    Raises:
        PipelineError: If the configuration cannot be read.
    """
    folder = "cache"
    for name in ("config", "config.local"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(root / ".dvc" / name, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise PipelineError(f"{root / '.dvc' / name} cannot be read ({reason})") from None
        folder = parser.get("cache", "dir", fallback=folder).strip("\"'")
    return root / ".dvc" / folder


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
    used: str = ""

    def files(self) -> list[Path]:
        """The files and links in it."""
        if self.path.is_dir() and not self.path.is_symlink():
            return [path for path in self.path.rglob("*") if path.is_symlink() or path.is_file()]
        return [self.path]

    def size(self) -> int:
        """Bytes in the store itself: a link's target lies elsewhere."""
        return sum(_stat(path)[0] for path in self.files())

    def age(self) -> float:
        """Days since the youngest change in it."""
        return (time.time() - max(_stat(path)[1] for path in (self.path, *self.files()))) / DAY


def main(*, clean: bool = False, days: float = 7) -> None:
    """Print the table; with `clean`, remove what nobody refers to and what is older than so many days."""
    entries = [*_raw(), *_embeddings(), *_others()]
    for line in _table(entries):
        print(line)
    old = [entry for entry in entries if not entry.used and entry.age() >= days]
    size = _readable(sum(entry.size() for entry in old))
    if not clean:
        more = ": remove it with `python -m pipeline store --clean`" if old else ""
        print(f"\n{size} in {len(old):,} places could go ({UNUSED} it, {days:g} days old){more}")
        return
    for entry in old:
        if entry.path.is_dir() and not entry.path.is_symlink():
            shutil.rmtree(entry.path, ignore_errors=True)
        else:  # of a link never what it leads to
            entry.path.unlink(missing_ok=True)
        print(f"removed {entry.kind} {entry.name} ({entry.path.relative_to(paths.store())})")
    print(f"\nremoved {len(old):,} places, {size}")


def _table(entries: list[Entry]) -> Iterator[str]:
    """One line per kind and name: files, size and by whom it is used."""
    yield f"store {paths.store()}"
    yield f"{'what':<12}{'which':<64}{'files':>10}{'size':>12}  used by"
    groups: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.kind, entry.name, entry.used or UNUSED].append(entry)
    for (kind, name, used), group in sorted(groups.items()):
        files = sum(len(entry.files()) for entry in group)
        size = _readable(sum(entry.size() for entry in group))
        yield f"{kind:<12}{name[:63]:<64}{files:>10,}{size:>12}  {used}"


def _raw() -> Iterator[Entry]:
    datasets: dict[str, set[str]] = defaultdict(set)
    here = str(paths.project_root().resolve())
    for repository in sorted({here, *(use.repository for use in uses().values() if use)}):
        for path in Path(repository).glob("data/raw/*.json"):
            for sha256 in _hashes_in(path):
                datasets[sha256].add(path.stem)
        for path in cache_folder(Path(repository)).glob("files/md5/??/*"):
            for sha256 in _hashes_in(path):
                datasets[sha256] = datasets[sha256] or {"an older version"}
    for path in sorted((paths.store() / "raw").glob("??/[0-9a-f]*")):
        names = sorted(datasets.get(path.name, ()))
        linked = " (linked, lies elsewhere)" if path.is_symlink() else ""
        name = f"{', '.join(names) or 'of no dataset'}{linked}"
        yield Entry("raw", name, path, "data/raw" if names else "")


def _hashes_in(path: Path) -> list[str]:
    """The hashes in a manifest of raw files; none where a file is something else."""
    try:
        with path.open("rb") as file:
            if file.read(len(MANIFEST_START)) != MANIFEST_START:
                return []
            return [str(raw["sha256"]) for raw in json.loads(MANIFEST_START + file.read())["files"]]
    except UNREADABLE:
        return []


def _embeddings() -> Iterator[Entry]:
    datasets: dict[str, set[str]] = defaultdict(set)
    for use in uses().values():
        if use:
            datasets[use.embeddings].add(use.dataset)
    for path in sorted((paths.store() / "embeddings").glob("[!.]*")):
        try:
            about = json.loads((path / "about.json").read_text(encoding="utf-8"))
            by = about["embedder"]
            name = f"{by['encoder']} {by['dtype']} {by['engine']} {about['device']} {path.name[-8:]}"
        except UNREADABLE:
            name = path.name
        yield Entry("embeddings", name, path, ", ".join(sorted(datasets.get(path.name, ()))))


def _others() -> Iterator[Entry]:
    root = paths.store()
    for path in sorted((root / "downloads").glob("[!.]*")):
        yield Entry("downloads", path.name, path)
    for path in sorted({*root.glob(".?*"), *root.glob("tmp*"), *root.glob("*/.?*"), *root.glob("*/*/.?*")}):
        yield Entry("leftovers", "of runs that were stopped", path)
    for name in ("weights", "onnx"):
        for path in sorted((root / name).glob("[!.]*")):
            yield Entry("encoders", path.name, path, "encoders, made from their weights")
    for path, use in uses().items():
        if use is None:
            yield Entry("notes", "of repositories that are gone", path)


def _stat(path: Path) -> tuple[int, float]:
    """Size and time of the last change; zeros for what another process removed meanwhile."""
    try:
        stat = path.lstat()
    except OSError:
        return 0, 0.0
    return stat.st_size, stat.st_mtime


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:,.0f} B" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
