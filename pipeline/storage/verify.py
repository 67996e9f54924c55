"""verify: hash every byte again, and compare with every recorded sha256 and md5.

Records are manifests, names in the store, the files of saved models and dvc.lock.

No cached hash is used: the point is to find what changed without a trace. DVC trusts a file of its cache
unread if that is write-protected, so its cache is read as well. Unreadable records are reported as failures.
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

from pipeline import paths
from pipeline.errors import PipelineError
from pipeline.storage import manifests, raw_files
from pipeline.storage.cleanup import cache_folder

LOCK = Path("dvc.lock")
MD5_FOLDER = "md5 of a folder"
MODEL_SUMS = "SHA256SUMS"  # of a model that `pal` saved
KINDS = ("md5", "sha256")
BLOCK = 1 << 20
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
        removed: What must go first, so that nothing wrong is trusted again.
        needed: Whether it is wrong of the file not to be there.
        newer: Whether the file may be newer than the record, if the stage's manifest confirms its bytes.
    """

    path: Path
    kind: str
    wanted: str
    source: str
    stage: str = ""
    removed: tuple[Path, ...] = ()
    needed: bool = True
    newer: bool = False


def main(*, mend: bool = False) -> None:
    """Check everything, say what is wrong and how to mend it, and exit with 1 where something is.

    Args:
        mend: Whether to remove what is wrong, so that the next run makes it anew.
    """
    records = list(dict.fromkeys(recorded()))
    present = [record for record in records if record.path.exists()]
    if not present:
        print("nothing to verify yet; run `dvc repro`")
        return
    hashes = _hash_all(present)
    failures, newer = _compare(records, hashes)
    sizes = {_inode(record.path): record.path.stat().st_size for record in present if record.path.is_file()}
    what = f"{len(sizes):,} files of {sum(sizes.values()) / 1e9:,.2f} GB"
    if newer:
        print(f"{newer:,} outputs are newer than dvc.lock and whole: made without `dvc repro`")
    if not failures:
        print(f"verified {what}: all as they were written")
        return
    _report(failures, mend=mend)
    print(f"{len({record.path for record in failures}):,} of {what} are wrong")
    sys.exit(1)


def recorded() -> Iterator[Record]:
    """All recorded hashes, of this repository and of the store."""
    yield from _of_dvc(cache_folder())
    for depth in ("*", "*/*"):
        for path in sorted(Path("data").glob(f"{depth}/{manifests.NAME}")):
            yield from _of_manifest(path)
    for path in sorted(Path("data/models").glob(f"*/*/{MODEL_SUMS}")):
        yield from _of_model(path)
    for path in sorted(Path("data/raw").glob("*.json")):
        yield from _of_raw_files(path)
    # Files of the store are named by their own hash, whoever put them there. A link is among the raw files.
    for home in sorted((paths.store() / "raw").glob(f"??/{'[0-9a-f]' * 64}")):
        if not home.is_symlink():
            yield Record(home, "sha256", home.name, "its own name", removed=(home,))
    for home in sorted((paths.store() / "embeddings").glob("*/[!.]*.parquet")):
        yield Record(home, "sha256", home.stem, "its own name", removed=(home,))


def _yaml(text: str) -> Any:
    """The value of a YAML text; a ValueError where it is none."""
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - it is safe
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def _of_dvc(cache: Path) -> Iterator[Record]:
    """Outputs that dvc.lock names, in the working tree and in DVC's cache."""
    try:
        chosen = set(_yaml(paths.PARAMS.read_text(encoding="utf-8"))["datasets"])
    except (OSError, ValueError, LookupError, TypeError):
        chosen = set()  # `check` says what is wrong there
    for stage, path, md5 in _outputs():
        # dvc.lock keeps datasets that are not chosen now; DVC takes their outputs away.
        needed = path.exists() or "@" not in stage or stage.split("@")[1] in chosen
        files = {path: md5}
        if md5.endswith(".dir"):
            home = _object(cache, md5)
            yield Record(home, "md5", md5.removesuffix(".dir"), "DVC's cache", removed=(home,), needed=False)
            listing = _listing(home, md5)
            if listing is None:
                yield Record(path, MD5_FOLDER, md5, f"dvc.lock of {stage}", stage, needed=needed, newer=True)
                continue
            files = {path / name: file_md5 for name, file_md5 in listing.items()}
        for file, file_md5 in files.items():
            home = _object(cache, file_md5)
            removed = (file, home)
            yield Record(
                file, "md5", file_md5, f"dvc.lock of {stage}", removed=removed, needed=needed, newer=True
            )
            yield Record(home, "md5", file_md5, "DVC's cache", removed=removed, needed=False)


def _outputs() -> list[tuple[str, Path, str]]:
    """Stages, their outputs and the md5 of each, as dvc.lock has them.

    Raises:
        PipelineError: If dvc.lock cannot be read.
    """
    if not LOCK.exists():
        return []
    try:
        stages = _yaml(LOCK.read_text(encoding="utf-8"))["stages"]
        outputs = [
            (name, Path(out["path"]), out["md5"])
            for name, stage in stages.items()
            for out in stage.get("outs", ())
        ]
        for _, path, md5 in outputs:
            int(md5.removesuffix(".dir"), 16)
            if not path.parts or path.is_absolute() or ".." in path.parts:
                raise ValueError(f"an output must lie in the repository, got {str(path)!r}")
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise PipelineError(
            f"{LOCK} cannot be read ({reason}); bring it back from Git, `git checkout {LOCK}`"
        ) from None
    return outputs


def _object(cache: Path, md5: str) -> Path:
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def _listing(home: Path, md5: str) -> dict[str, str] | None:
    """The files of a folder by DVC's own list; None where that is lost or damaged."""
    try:
        content = home.read_bytes()
    except OSError:
        return None
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
        return None
    return {entry["relpath"]: entry["md5"] for entry in json.loads(content)}


def _of_manifest(path: Path) -> Iterator[Record]:
    try:
        files = manifests.recorded_hashes(path)
    except PipelineError:
        yield _unreadable(path)
        return
    for name, sha256 in files.items():
        file = path.parent / name
        yield Record(file, "sha256", sha256, str(path), removed=(file,))


def _of_model(path: Path) -> Iterator[Record]:
    """Files of a saved model, by its list in the format of `sha256sum`."""
    try:
        files = [line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
        records = [(path.with_name(name), sha256) for sha256, name in files]
    except (OSError, ValueError):
        yield _unreadable(path)
        return
    for file, sha256 in records:
        yield Record(file, "sha256", sha256, str(path), removed=(file,))


def _of_raw_files(path: Path) -> Iterator[Record]:
    try:
        files = raw_files.read_manifest(path.stem).files
    except PipelineError:
        yield _unreadable(path)
        return
    for file in files:
        home = raw_files.home_of(file.sha256)
        yield Record(
            home, "sha256", file.sha256, f"{path} ({file.name})", f"download@{path.stem}", removed=(home,)
        )


def _unreadable(path: Path) -> Record:
    return Record(path, "sha256", "", "its own format", removed=(path,))


def _hash_all(records: list[Record]) -> dict[tuple[Any, ...], str]:
    """Hashes by inode and kind; a file under many names is read once, on all cores."""
    wanted: dict[tuple[int, int], tuple[Path, set[str]]] = {}
    for record in records:
        wanted.setdefault(_inode(record.path), (record.path, set()))[1].add(record.kind)
    total = sum(path.stat().st_size for path, _ in wanted.values() if path.is_file())
    hashes = {}
    with (
        tqdm(total=total, desc="verify", unit="B", unit_scale=True) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        results = pool.map(lambda item: _hashes(*item), wanted.values())
        for (inode, (path, _)), by_kind in zip(wanted.items(), results, strict=True):
            hashes |= {(*inode, kind): value for kind, value in by_kind.items()}
            bar.update(path.stat().st_size if path.is_file() else 0)
    return hashes


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
        return dict.fromkeys(digests, f"is unreadable: {error.strerror}")
    return {kind: digest.hexdigest() for kind, digest in digests.items()}


def md5_of_folder(folder: Path) -> str:
    """The hash that DVC gives a folder: over its list of files, by name, with their md5."""
    listing = [
        {"md5": _hashes(path, {"md5"})["md5"], "relpath": path.relative_to(folder).as_posix()}
        for path in folder.rglob("*")
        if path.is_file()
    ]
    listing.sort(key=lambda entry: entry["relpath"].split("/"))
    content = json.dumps(listing, sort_keys=True).encode()
    return f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}.dir"


def _compare(records: list[Record], hashes: dict[tuple[Any, ...], str]) -> tuple[dict[Record, str], int]:
    """Records that do not hold, with what is wrong; and how many outputs are whole but newer."""
    failures, newer = {}, 0
    for record in records:
        if not record.path.exists():
            if record.needed:
                failures[record] = "is missing"
            continue
        sha = hashes[(*_inode(record.path), record.kind)]
        if sha == record.wanted:
            continue
        if record.newer and _confirmed(record.path):
            newer += 1
        else:
            failures[record] = sha if sha.startswith("is unreadable") else "is damaged or was changed"
    return failures, newer


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
        _hashes(folder / name, {"sha256"})["sha256"] == sha256 for name, sha256 in wanted.items()
    )


def _report(failures: dict[Record, str], *, mend: bool) -> None:
    """Print what is wrong, and the commands that mend it; with `mend`, remove it."""
    by_path: dict[Path, list[Record]] = {}
    for record in failures:
        by_path.setdefault(record.path, []).append(record)
    for path, records in list(by_path.items())[:SHOWN]:
        sources = ", ".join(dict.fromkeys(record.source for record in records))
        print(f"{path} {failures[records[0]]} (says {sources})")
    if len(by_path) > SHOWN:
        print(f"and {len(by_path) - SHOWN:,} more")
    # Never a file that lies elsewhere and is only linked to, but the link.
    removed = dict.fromkeys(
        path for record in failures for path in record.removed if path.is_symlink() or path.exists()
    )
    forced = dict.fromkeys(record.stage for record in failures if record.stage)
    commands = f"dvc repro -f -s {' '.join(forced)} && dvc repro" if forced else "dvc repro"
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
