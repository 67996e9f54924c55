"""What bytes promise: every hash that something of ours or of DVC's gives of a file, gathered for `verify`.

Nothing is hashed here. Where a list of promises is itself unreadable, that is a promise broken, and told too.
"""

import configparser
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import paths, plain_yaml
from pipeline.errors import PipelineError
from pipeline.storage import manifests

LOCK = Path("dvc.lock")
MD5_FOLDER = "md5 of a folder"


@dataclass(frozen=True)
class Promise:
    """One promise of what a file holds.

    Args:
        path: The file; for `MD5_FOLDER` a folder.
        kind: md5, sha256, or MD5_FOLDER, DVC's hash over a folder.
        wanted: What it must be, hex.
        who: What says so, for messages.
        stage: The stage to run again by force, where nothing shows that it must; else empty.
        removed: What must go first, so that nothing wrong is trusted again.
        needed: Whether it is wrong of the file not to be there.
        newer: Whether the file may be newer than the promise, if something else vouches for its bytes.
    """

    path: Path
    kind: str
    wanted: str
    who: str
    stage: str = ""
    removed: tuple[Path, ...] = field(default=())
    needed: bool = True
    newer: bool = False


def gather() -> Iterator[Promise]:
    """All promises, of this repository and of the store."""
    yield from dvc(LOCK, cache_folder())
    yield from folders()
    yield from models()
    yield from raw()
    yield from store()


def cache_folder(root: Path = Path()) -> Path:
    """DVC's cache of a repository: `.dvc/cache`, or where DVC's configuration says."""
    found = "cache"
    for name in ("config", "config.local"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(root / ".dvc" / name, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise PipelineError(
                f"{root / '.dvc' / name} cannot be read ({' '.join(str(error).split())})"
            ) from None
        found = parser.get("cache", "dir", fallback=found).strip("\"'")
    return root / ".dvc" / found


def dvc(lock: Path, cache: Path) -> Iterator[Promise]:
    """Outputs that dvc.lock names, in the working tree and in DVC's cache."""
    chosen = _chosen()
    for stage, out in _outputs(lock):
        path, md5 = Path(out["path"]), out["md5"]
        # dvc.lock keeps datasets that are not chosen now; DVC takes their outputs away.
        needed = path.exists() or "@" not in stage or stage.split("@")[1] in chosen
        if not md5.endswith(".dir"):
            yield from _output(path, md5, cache, stage, needed=needed)
            continue
        home = _object(cache, md5)
        yield Promise(home, "md5", md5.removesuffix(".dir"), "DVC's cache", removed=(home,), needed=False)
        listed = _listed(home, md5)
        if listed is None:
            yield Promise(path, MD5_FOLDER, md5, f"dvc.lock of {stage}", stage, needed=needed, newer=True)
            continue
        for relative, file_md5 in listed.items():
            yield from _output(path / relative, file_md5, cache, stage, needed=needed)


def _output(path: Path, md5: str, cache: Path, stage: str, *, needed: bool) -> Iterator[Promise]:
    home = _object(cache, md5)
    yield Promise(path, "md5", md5, f"dvc.lock of {stage}", removed=(path, home), needed=needed, newer=True)
    yield Promise(home, "md5", md5, "DVC's cache", removed=(path, home), needed=False)


def _object(cache: Path, md5: str) -> Path:
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def _outputs(lock: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Stages and their outputs, as dvc.lock has them."""
    if not lock.exists():
        return
    try:
        stages = plain_yaml.load(lock.read_text(encoding="utf-8"))["stages"]
        found = [(name, out) for name, stage in stages.items() for out in stage.get("outs", ())]
        for _, out in found:
            _check_output(out["path"], out["md5"])
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise PipelineError(
            f"{lock} cannot be read ({reason}); bring it back from Git, `git checkout {lock}`"
        ) from None
    yield from found


def _check_output(path: str, md5: str) -> None:
    parts = Path(path).parts
    if not parts or Path(path).is_absolute() or ".." in parts:
        raise ValueError(f"an output must lie in the repository, got {path!r}")
    int(md5.removesuffix(".dir"), 16)


def _listed(home: Path, md5: str) -> dict[str, str] | None:
    """The files of a folder by DVC's own list; None where that is lost or damaged."""
    import hashlib

    try:
        content = home.read_bytes()
    except OSError:
        return None
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
        return None
    return {entry["relpath"]: entry["md5"] for entry in json.loads(content)}


def _chosen() -> set[str]:
    """The datasets that params.yaml chooses."""
    try:
        values = plain_yaml.load(paths.PARAMS.read_text(encoding="utf-8"))
        return set(values["datasets"])
    except (OSError, ValueError, LookupError, TypeError):
        return set()  # `check` tells what is wrong there


def folders() -> Iterator[Promise]:
    """Files that lists of hashes vouch for, wherever a stage left one."""
    found = [path for depth in ("*", "*/*") for path in Path("data").glob(f"{depth}/{manifests.NAME}")]
    for path in sorted(found):
        folder, who = path.parent, str(path)
        try:
            listed = manifests.recorded_hashes(path)
        except PipelineError:
            yield Promise(path, "sha256", "", who, removed=(path,))
            continue
        for relative, sha256 in listed.items():
            file = folder / relative
            yield Promise(file, "sha256", sha256, who, removed=(file,))


def models() -> Iterator[Promise]:
    """Tensors and users of saved models, which each model's config.json pins."""
    for path in sorted(Path("data/models").glob("*/*/config.json")):
        try:
            pinned = json.loads(path.read_text(encoding="utf-8"))["sha256"]
            listed = {path.with_name(name): str(sha256) for name, sha256 in pinned.items()}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            yield Promise(path, "sha256", "", "its own format", removed=(path,))
            continue
        for file, sha256 in listed.items():
            if file != path:  # which pins itself otherwise
                yield Promise(file, "sha256", sha256, str(path), removed=(file,))


def raw() -> Iterator[Promise]:
    """Raw files that this repository's downloads pinned."""
    from pipeline.storage.raw import home_of, read_manifest

    for path in sorted(Path("data/raw").glob("*.json")):
        stage = f"download@{path.stem}"
        try:
            files = read_manifest(path.stem).files
        except PipelineError:
            yield Promise(path, "sha256", "", "its own format", removed=(path,))
            continue
        for file in files:
            home = home_of(file.sha256)
            yield Promise(home, "sha256", file.sha256, f"{path} ({file.name})", stage, (home,))


def store() -> Iterator[Promise]:
    """Files of the store, named by their own hash, whoever put them there."""
    for home in sorted((paths.store() / "raw").glob("??/*")):
        if _is_hash(home.name) and not home.is_symlink():  # a link of ours is among `raw`
            yield Promise(home, "sha256", home.name, "its own name", removed=(home,))
    for home in sorted((paths.store() / "embeddings").glob("*/*.parquet")):
        yield Promise(home, "sha256", home.stem, "its own name", removed=(home,))


def _is_hash(name: str) -> bool:
    return len(name) == 64 and set(name) <= set("0123456789abcdef")
