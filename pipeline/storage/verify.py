"""verify: hash every byte again, and compare with every recorded sha256 and md5.

Records are manifests, names in the store and dvc.lock. No cached hash is used: the point is to find what
changed without a trace. DVC trusts a file of its cache unread if that is write-protected, so its cache is
read as well. Unreadable records are reported as failures.
"""

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from pipeline import PipelineError, paths
from pipeline.storage import manifests, raw_files
from pipeline.storage.cleanup import cache_folder

LOCK = Path("dvc.lock")
MD5_FOLDER = "md5 of a folder"
SHOWN = 100  # wrong files printed in full


@dataclass(frozen=True)
class Record:
    """A recorded hash of a file.

    Args:
        path: The file; for `MD5_FOLDER` a folder.
        kind: md5, sha256, or MD5_FOLDER, DVC's hash over a folder.
        wanted: The hash, hex; empty for a file of records that cannot be read.
        source: What records it, for messages.
        stage: The stage to run again by force, where nothing shows that it must; else empty.
        output: The output of DVC's that it belongs to.
        copy: The file of DVC's cache that holds the same bytes.
        needed: Whether it is wrong of the file not to be there.
        newer: Whether the file may be newer than the record, if the stage's manifest confirms its bytes.
    """

    path: Path
    kind: str
    wanted: str
    source: str
    stage: str = ""
    output: Path | None = None
    copy: Path | None = None
    needed: bool = True
    newer: bool = False


def main(*, mend: bool = False) -> None:
    """Check everything, print what is wrong and how to mend it, and exit with 1 if something is.

    Args:
        mend: Whether to remove files whose bytes are wrong, and no others, so that they are made anew.
    """
    records = list(dict.fromkeys(recorded()))
    # By inode: a file under many names (DVC links its cache) is read once.
    files = {(*_inode(r.path), r.kind): r.path for r in records if r.path.exists()}
    if not files:
        print("nothing to verify yet; run `dvc repro`")
        return
    sizes = {key: path.stat().st_size for key, path in files.items() if path.is_file()}
    keys = sorted(files)  # both hashes of a file one after the other, while it is in memory
    hashes = {}
    with (
        tqdm(total=sum(sizes.values()), desc="verify", unit="B", unit_scale=True) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,  # hashing releases the interpreter's lock
    ):
        for key, sha in zip(keys, pool.map(lambda key: _hash(files[key], key[-1]), keys), strict=True):
            hashes[key] = sha
            bar.update(sizes.get(key, 0))
    failures: dict[Record, str] = {}
    newer = 0
    for record in records:
        if not record.path.exists():
            if record.needed:
                failures[record] = "is missing"
        elif (got := hashes[(*_inode(record.path), record.kind)]) != record.wanted:
            if record.newer and _confirmed(record.path):
                newer += 1
            else:
                failures[record] = got if got.startswith("is unreadable") else "is damaged or was changed"
    if newer:
        print(f"{newer:,} outputs are newer than dvc.lock and whole: made without `dvc repro`")
    sizes = {key[:2]: size for key, size in sizes.items()}
    what = f"{len(sizes):,} files of {sum(sizes.values()) / 1e9:,.2f} GB"
    if not failures:
        print(f"verified {what}: all as they were written")
        return
    right = {record.path for record in records if record not in failures and record.path.exists()}
    _report(failures, right, mend=mend)
    print(f"{len({record.path for record in failures}):,} of {what} are wrong")
    sys.exit(1)


def recorded() -> Iterator[Record]:
    """All recorded hashes, of this repository and of the store."""
    yield from _of_dvc(cache_folder())
    manifest = manifests.NAME
    for path in [*Path().glob(f"data/*/{manifest}"), *Path().glob(f"data/*/*/{manifest}")]:
        try:
            hashes = manifests.recorded_hashes(path)
        except PipelineError:
            yield _unreadable(path)
            continue
        for file, sha256 in ((path.parent / name, sha256) for name, sha256 in hashes.items()):
            yield Record(file, "sha256", sha256, str(path))
    for path in sorted(Path("data/raw").glob("*.json")):
        try:
            files = raw_files.read_manifest(path.stem).files
        except PipelineError:
            yield _unreadable(path)
            continue
        for file in files:
            home, source = raw_files.home_of(file.sha256), f"{path} ({file.name})"
            yield Record(home, "sha256", file.sha256, source, f"download@{path.stem}")
    # Files of the store are named by their own hash. A link leads elsewhere, and is among the raw files.
    store = paths.store()
    for home in [*store.glob(f"raw/??/{'[0-9a-f]' * 64}"), *store.glob("embeddings/*/[!.]*.parquet")]:
        if not home.is_symlink():
            yield Record(home, "sha256", home.stem, "its own name")


def _unreadable(path: Path) -> Record:
    return Record(path, "sha256", "", "its own format")


def _yaml(path: Path) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - both are safe


def _of_dvc(cache: Path) -> Iterator[Record]:
    """Outputs that dvc.lock names, in the working tree and in DVC's cache.

    Raises:
        PipelineError: If dvc.lock cannot be read.
    """
    if not LOCK.exists():
        return
    try:
        outputs = [
            (name, Path(out["path"]), out["md5"])
            for name, stage in _yaml(LOCK)["stages"].items()
            for out in stage.get("outs", ())
        ]
        for _, path, md5 in outputs:
            int(md5.removesuffix(".dir"), 16)
            if not path.parts or path.is_absolute() or ".." in path.parts:
                raise ValueError(f"an output must lie in the repository, got {str(path)!r}")
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:120]
        raise PipelineError(
            f"{LOCK} cannot be read ({reason}); bring it back from Git, `git checkout {LOCK}`"
        ) from None
    try:
        chosen = set(_yaml(paths.PARAMS)["datasets"])
    except (OSError, LookupError, TypeError, ValueError, RecursionError, yaml.YAMLError):
        chosen = set()  # `check` says what is wrong there
    for stage, path, md5 in outputs:
        # dvc.lock keeps datasets that are not chosen now; DVC takes their outputs away.
        needed = path.exists() or "@" not in stage or stage.split("@")[1] in chosen
        source, files = f"dvc.lock of {stage}", {path: md5}
        if md5.endswith(".dir"):
            home = _object(cache, md5)
            digest = md5.removesuffix(".dir")
            yield Record(home, "md5", digest, "DVC's cache", needed=False)
            if not home.exists() or _hash(home, "md5") != digest:  # the folder's own list is lost
                yield Record(path, MD5_FOLDER, md5, source, stage, needed=needed, newer=True)
                continue
            files = {path / entry["relpath"]: entry["md5"] for entry in json.loads(home.read_bytes())}
        for file, file_md5 in files.items():
            home = _object(cache, file_md5)
            yield Record(file, "md5", file_md5, source, "", path, home, needed, newer=True)
            yield Record(home, "md5", file_md5, "DVC's cache", needed=False)


def _object(cache: Path, md5: str) -> Path:
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def _hash(path: Path, kind: str) -> str:
    """A file's hash, or a folder's as DVC takes it; of one that cannot be read, what is wrong with it."""
    if kind == MD5_FOLDER:  # over the list of its files, by name, with their md5
        files = sorted((file.relative_to(path).parts, file) for file in path.rglob("*") if file.is_file())
        listing = [{"md5": _hash(file, "md5"), "relpath": "/".join(parts)} for parts, file in files]
        return f"{hashlib.md5(json.dumps(listing).encode(), usedforsecurity=False).hexdigest()}.dir"
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    except OSError as error:
        return f"is unreadable: {error.strerror}"


def _confirmed(path: Path) -> bool:
    """Whether all of a stage's output is what the stage's own manifest says."""
    folder = next((each for each in (path, *path.parents[:3]) if (each / manifests.NAME).is_file()), None)
    if folder is None:
        return False
    try:
        wanted = manifests.recorded_hashes(folder / manifests.NAME)
    except PipelineError:
        return False
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return files == {*wanted, manifests.NAME} and all(
        _hash(folder / name, "sha256") == sha256 for name, sha256 in wanted.items()
    )


def _report(failures: dict[Record, str], right: set[Path], *, mend: bool) -> None:
    """Print what is wrong, and the commands that mend it; with `mend`, remove it.

    Removed is a file that no record confirms; of one that lies elsewhere and is linked to, the link. Outputs
    whose bytes DVC's cache still has come back from there.
    """
    by_path: dict[Path, list[Record]] = {}
    for record in failures:
        by_path.setdefault(record.path, []).append(record)
    for path, records in list(by_path.items())[:SHOWN]:
        sources = ", ".join(dict.fromkeys(record.source for record in records))
        print(f"{path} {failures[records[0]]} (says {sources})")
    if len(by_path) > SHOWN:
        print(f"and {len(by_path) - SHOWN:,} more")
    removed = [path for path in by_path if path not in right and (path.is_symlink() or path.is_file())]
    outputs = {record.output: True for record in failures if record.output}
    for record in failures:
        if record.output and record.copy not in right:
            outputs[record.output] = False
    restored = [shlex.quote(str(output)) for output, whole in outputs.items() if whole]
    forced = dict.fromkeys(record.stage for record in failures if record.stage)
    steps = [f"dvc checkout {' '.join(restored)}"] if restored else []
    steps += [f"dvc repro -f -s {' '.join(forced)}"] if forced else []
    commands = " && ".join([*steps, "dvc repro"])
    if mend:
        for path in removed:
            path.unlink(missing_ok=True)
        print(f"removed {len(removed):,} files; now run: {commands}")
        return
    print("\nto mend:")
    for path in removed:
        print(f"  rm -f {shlex.quote(str(path))}")
    print(f"  {commands}")


def _inode(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino
