"""Raw files: pinned by their sha256 in a small manifest, their bytes in the store, shared by all datasets.

The sha256 of large files is cached in SQLite by path, size, time and inode, so that 200 GB are not read at
every start. A file that was changed without a trace in these is not noticed; `verify` reads all bytes.
"""

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pal.errors import PalError
from pal.files import copy_file, make_folder, move_file, sha256_of, share, write_json
from pipeline import PipelineError, paths
from pipeline.storage.tables import read_json

CACHED_FROM = 1 << 20  # bytes; hashing less is as quick as looking it up
SETTLES = 2_000_000_000  # ns: what changes again within a tick of the clock leaves no trace
PATIENCE = 10.0  # seconds to wait for another process that writes to the cache


@dataclass(frozen=True)
class RawFile:
    """One raw file, by its name within the dataset; `size` in bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What download leaves in place of the bytes: where they came from, and which they are."""

    source: str  # the words of params.yaml that chose them
    revision: str | None  # the hub's commits that they were taken from
    files: list[RawFile]  # in the order to read them in


def keep(path: Path, name: str | None = None) -> RawFile:
    """Copy a file into the store, if its bytes are not there."""
    sha256 = sha256_of(path)
    home = home_of(sha256)
    if home.is_symlink() or not home.exists():  # the target of a link may change or go
        copy_file(path, home)
        if sha256_of(home) != sha256:
            home.unlink()
            raise PipelineError(f"{path} changed while it was being copied; run the stage again")
    return RawFile(name or path.name, sha256, path.stat().st_size)


def link(path: Path, name: str | None = None) -> RawFile:
    """Have the store hold a symbolic link to a file in place of a copy."""
    sha256 = cached_sha256(path)
    home = home_of(sha256)
    if not home.exists() or cached_sha256(home) != sha256:  # or an older link leads elsewhere by now
        temporary = home.with_name(f".{home.name}.{secrets.token_hex(8)}.new")
        make_folder(home.parent)
        temporary.symlink_to(path.resolve())
        temporary.replace(home)
    return RawFile(name or path.name, sha256, path.stat().st_size)


def move_in(path: Path, name: str, sha256: str | None = None) -> RawFile:
    """Move a file that nobody else needs into the store; `sha256` where that is known already."""
    size, sha256 = path.stat().st_size, sha256 or sha256_of(path)
    move_file(path, home_of(sha256))
    return RawFile(name, sha256, size)


def find(sha256: str, name: str) -> RawFile | None:
    """A file of the store by its hash; None where the store has no such bytes."""
    home = home_of(sha256)
    if not home.exists() or cached_sha256(home) != sha256:
        return None
    return RawFile(name, sha256, home.stat().st_size)


def stored(file: RawFile, dataset: str) -> Path:
    """The store's path of a raw file, its hash checked; the last part of the path is its sha256."""
    home = home_of(file.sha256)
    if home.exists() and cached_sha256(home) == file.sha256:
        return home
    what = f"is not in the store {paths.store()}"
    if home.is_symlink():
        place = home.readlink()
        what = f"was changed at {place}" if home.exists() else f"lay at {place}, which is gone"
    elif home.exists():
        what = "was damaged in the store"
    home.unlink(missing_ok=True)
    again = f"run `dvc repro -f -s download@{dataset}`"
    raise PipelineError(f"the raw file {file.name} of {dataset} {what}; {again}")


def renew(dataset: str, find_source: Callable[[], Any]) -> None:
    """Take raw files that are gone from a shared store anew, where the `Source` still has the same bytes."""
    gone = [file for file in read_manifest(dataset).files if find(file.sha256, file.name) is None]
    with suppress(PalError):  # `stored` says what is gone
        source = find_source() if gone else None
        for file in gone:
            for take, files in ((keep, source.paths), (link, source.links)):
                path = files.get(file.name)
                if path is not None and cached_sha256(path) == file.sha256:
                    take(path, file.name)


def home_of(sha256: str) -> Path:
    """Where the store holds the bytes of a hash, if it does."""
    return paths.store() / "raw" / sha256[:2] / sha256


def write_manifest(dataset: str, manifest: Manifest) -> None:
    """Write which raw files a dataset has."""
    write_json(paths.raw(dataset), asdict(manifest))
    record_use(dataset, "raw")


def read_manifest(dataset: str) -> Manifest:
    """Read which raw files a dataset has."""
    path, stage = paths.raw(dataset), f"download@{dataset}"
    values = read_json(path, stage)
    try:
        return Manifest(values["source"], values["revision"], [RawFile(**file) for file in values["files"]])
    except (LookupError, TypeError) as error:
        raise PipelineError(f"{path} is damaged ({error}); run `dvc repro -f {stage}`") from None


def record_use(dataset: str, part: str, embeddings: str = "") -> None:
    """Note that this repository uses something, if the store can be written to.

    `part` is raw, or the modality that was encoded; then `embeddings` is the folder of the store for it.
    """
    repository = str(paths.project_root().resolve())
    use = {"repository": repository, "dataset": dataset, "part": part, "embeddings": embeddings}
    folder = hashlib.sha256(repository.encode()).hexdigest()[:16]
    with suppress(OSError, PalError):
        write_json(paths.store() / "uses" / folder / f"{dataset}-{part}.json", use)


def cached_sha256(path: Path) -> str:
    """The file's sha256, hex: as cached if the file looks untouched since, else computed now."""
    path = path.resolve()
    before = path.stat()
    if before.st_size < CACHED_FROM:
        return sha256_of(path)
    key = (str(path), before.st_size, before.st_mtime_ns, before.st_ino)
    # A damaged or locked cache costs time, never an answer.
    with suppress(sqlite3.Error, OSError), closing(_cache()) as cache:
        query = "SELECT sha256 FROM files WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?"
        if row := cache.execute(query, key).fetchone():
            return row[0]
    sha256 = sha256_of(path)
    after = path.stat()
    unchanged = (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    if unchanged and time.time_ns() - after.st_mtime_ns > SETTLES:
        with suppress(sqlite3.Error, OSError), closing(_cache()) as cache, cache:
            cache.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (*key, sha256))
    return sha256


def _cache() -> sqlite3.Connection:
    make_folder(paths.store())
    cache = sqlite3.connect(paths.store() / "hashes.sqlite", timeout=PATIENCE)
    columns = "path TEXT PRIMARY KEY, size INT, mtime_ns INT, inode INT, sha256 TEXT"
    cache.execute(f"CREATE TABLE IF NOT EXISTS files ({columns})")
    share(paths.store() / "hashes.sqlite")
    return cache
