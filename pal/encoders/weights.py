"""Weights on disk: fetched from the hub at a pinned revision, checked, and hashed."""

import hashlib
from functools import lru_cache
from pathlib import Path

from pal import hub_files

LOCAL = "set encode.weights to package or a folder"


def from_hub(repo: str, revision: str | None, wanted: list[str]) -> Path:
    """A folder with a model's files from the Hugging Face hub: see `hub_files.download`."""
    return hub_files.download(repo, revision, wanted, advice=LOCAL)


def sha256_of(path: Path) -> str:
    """The file's sha256, hex; within one process a file that looks untouched is read once."""
    about = path.stat()
    return _sha256(path.resolve(), about.st_size, about.st_mtime_ns, about.st_ino)


@lru_cache(maxsize=1024)
def _sha256(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_folder(folder: Path) -> str:
    """Over everything that shapes a vector: weights, configuration, tokeniser."""
    names = sorted(p for p in folder.rglob("*") if p.suffix in {".json", ".txt", ".safetensors"})
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
