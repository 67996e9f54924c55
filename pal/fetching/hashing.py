"""Hashes of files that are there, held to what the hub lists."""

import hashlib
from functools import lru_cache
from pathlib import Path

from pal.fetching.listing import File

AT_ONCE = 1 << 20


def sha256_of(path: Path) -> str:
    """The file's sha256, hex; within one process a file that looks untouched is read once."""
    about = path.stat()
    return _sha256(path.resolve(), about.st_size, about.st_mtime_ns, about.st_ino)


def git_hash_of(path: Path) -> str:
    """Git's hash of the file, which the hub lists of small ones."""
    whole = git_hash(path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(AT_ONCE):
            whole.update(chunk)
    return whole.hexdigest()


def git_hash(size: int) -> "hashlib._Hash":
    """What to feed a file's bytes to: git hashes them behind a line with their number.

    It is no safeguard against who can forge it; the hub lists no other hash of small files.
    """
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def holds(path: Path, file: File) -> bool:
    """Whether there is a file at a path, with the bytes that the hub lists."""
    try:
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        return sha256_of(path) == file.sha256 if file.sha256 else git_hash_of(path) == file.blob_id
    except OSError:
        return False


@lru_cache(maxsize=1024)
def _sha256(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
