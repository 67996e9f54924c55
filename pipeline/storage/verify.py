"""verify: hash every byte again, and compare with every recorded sha256 and md5.

Records are manifests, lists of raw files, and the names of files in the store and in DVC's cache, which are
their own hashes. No cached hash is used: the point is to find what changed without a trace. DVC trusts a file
of its cache unread if that is write-protected, and outputs are further names of such files.
"""

import hashlib
import os
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from pipeline import PipelineError, paths
from pipeline.storage import raw_files
from pipeline.storage.cleanup import cache_folder
from pipeline.storage.tables import MANIFEST, recorded_hashes

SHOWN = 100  # wrong files printed in full


class Record(NamedTuple):
    """A recorded hash of a file."""

    path: Path
    kind: str  # md5 or sha256
    wanted: str  # hex; empty for a file of records that cannot be read
    source: str  # what records it, for messages
    stage: str = ""  # to run again by force, where nothing shows DVC that it must


def main(*, mend: bool = False) -> None:
    """Check everything, print what is wrong and how to mend it, and exit with 1 if something is.

    With `mend`, files whose bytes are wrong, and no others, are removed, so that they are made anew.
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
