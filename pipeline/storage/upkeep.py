"""verify and store: whether every byte is what it was, what the store holds, and what of it could go.

verify hashes every byte again, and compares with every recorded sha256 and md5: manifests, lists of raw
files, and the names of files in the store and in DVC's cache, which are their own hashes: no cached hash, as
the point is to find what changed without a trace. DVC trusts write-protected files of its cache unread, and
outputs are further names of such files.

store shows what nobody refers to any more. Referred to are raw files that a `data/raw/*.json` names, here, in
another repository that noted that it uses this store (a file per dataset and kind, which nobody else writes),
or in a DVC cache, so that older commits can be brought back; and embeddings that were used when a dataset was
last encoded. What is younger than some days is kept: another run may be about to refer to it.
"""

import configparser
import hashlib
import json
import os
import shlex
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from pipeline import PipelineError, paths
from pipeline.storage import raw_files
from pipeline.storage.tables import MANIFEST, recorded_hashes

SHOWN = 100  # wrong files printed in full
DAY = 86_400.0
MANIFEST_START = b'{\n  "source"'  # of every manifest of raw files
UNUSED = "nobody refers to"
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
Use = dict[str, str]  # repository (its path), dataset, part (raw or a modality), embeddings (a folder's name)


class Record(NamedTuple):
    """A recorded hash of a file."""

    path: Path
    kind: str  # md5 or sha256
    wanted: str  # hex; empty for a file of records that cannot be read
    source: str  # what records it, for messages
    stage: str = ""  # to run again by force, where nothing shows DVC that it must


def verify(*, mend: bool = False) -> None:
    """Check everything, and print what is wrong and how to mend it; with `mend`, remove files of wrong bytes.

    Exits with 1 if something is wrong.
    """
    records = list(dict.fromkeys(recorded()))
    # By inode: a file under many names (DVC links its cache) is read once.
    files = {(_inode(r.path), r.kind): r.path for r in records if r.path.exists()}
    if not files:
        print("nothing to verify yet; run `dvc repro`")
        return
    sizes = {inode: path.stat().st_size for (inode, _), path in files.items()}
    keys = sorted(files)  # both hashes of a file one after the other, while it is in memory
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the interpreter's lock
        found = pool.map(lambda key: _hash(files[key], key[1]), keys)
        hashes = dict(zip(keys, tqdm(found, total=len(keys), desc="verify", unit="hash"), strict=True))
    failures: dict[Path, str] = {}
    stages = set()
    for record in records:
        got = hashes[_inode(record.path), record.kind] if record.path.exists() else "is missing"
        if got != record.wanted:
            what = got if got.startswith("is ") else "is damaged or was changed"
            failures.setdefault(record.path, f"{what} (says {record.source})")
            stages.add(record.stage)
    wrong = {_inode(path) for path in failures if path.exists()}
    outputs = [path for path in Path("data").rglob("*") if path.is_file() and _inode(path) in wrong]
    failures |= {path: "is that file" for path in outputs if path not in failures}
    what = f"{len(sizes):,} files of {sum(sizes.values()) / 1e9:,.2f} GB"
    if not failures:
        print(f"verified {what}: all as they were written")
        return
    for path, why in list(failures.items())[:SHOWN]:
        print(f"{path} {why}")
    if len(failures) > SHOWN:
        print(f"and {len(failures) - SHOWN:,} more")
    # Of a file that lies elsewhere and is linked to, the link goes.
    removed = [path for path in failures if path.is_symlink() or path.is_file()]
    forced = [f"dvc repro -f -s {' '.join(sorted(stages - {''}))}"] if stages - {""} else []
    commands = " && ".join([*forced, "dvc repro"])
    if mend:
        for path in removed:
            path.unlink(missing_ok=True)
        print(f"removed {len(removed):,} files; now run: {commands}")
    else:
        print("\nto mend:", *(f"rm -f {shlex.quote(str(path))}" for path in removed), commands, sep="\n  ")
    print(f"{len(failures):,} of {what} are wrong")
    sys.exit(1)


def recorded() -> Iterator[Record]:
    """All recorded hashes, of this repository and of the store."""
    for path in cache_folder().glob("files/md5/??/*"):
        yield Record(path, "md5", path.parent.name + path.stem, "its own name")
    for path in [*Path().glob(f"data/*/{MANIFEST}"), *Path().glob(f"data/*/*/{MANIFEST}")]:
        try:
            hashes = recorded_hashes(path)
        except PipelineError:
            hashes = {MANIFEST: ""}
        for name, sha256 in hashes.items():
            yield Record(path.parent / name, "sha256", sha256, str(path))
    for path in sorted(Path("data/raw").glob("*.json")):
        stage = f"download@{path.stem}"
        try:
            files = raw_files.read_manifest(path.stem).files
        except PipelineError:
            yield Record(path, "sha256", "", "its own format", stage)
            continue
        for file in files:
            home = raw_files.home_of(file.sha256)
            yield Record(home, "sha256", file.sha256, f"{path} ({file.name})", stage)
    # A link leads elsewhere, and is among the raw files.
    store = paths.store()
    for home in [*store.glob(f"raw/??/{'[0-9a-f]' * 64}"), *store.glob("embeddings/*/[!.]*.parquet")]:
        if not home.is_symlink():
            yield Record(home, "sha256", home.stem, "its own name")


def _hash(path: Path, kind: str) -> str:
    """A file's hash; of one that cannot be read, what is wrong with it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    except OSError as error:
        return f"is unreadable: {error.strerror}"


def _inode(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino


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
    """DVC's cache of a repository: `.dvc/cache`, or where DVC's configuration says."""
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


def clean(*, remove: bool = False, days: float = 7) -> None:
    """Print the table; with `remove`, remove what nobody refers to and what is older than so many days."""
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
    if not remove:
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
        name = path.name
        with suppress(*UNREADABLE):
            about = json.loads((path / "about.json").read_text(encoding="utf-8"))
            by = about["embedder"]
            name = f"{by['encoder']} {by['dtype']} {by['engine']} {about['device']} {path.name[-8:]}"
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
    with suppress(*UNREADABLE), path.open("rb") as file:
        if file.read(len(MANIFEST_START)) == MANIFEST_START:
            return [str(raw["sha256"]) for raw in json.loads(MANIFEST_START + file.read())["files"]]
    return []


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:,.0f} B" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
