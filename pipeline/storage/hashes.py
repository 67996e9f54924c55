"""What files hash to, remembered by their size, time and inode, so that 200 GB are not read on every look.

A file that was changed without a trace in these is not noticed here; whoever must know rehashes its bytes.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from pal.files import sha256_of
from pipeline import paths

REMEMBERED_FROM = 1 << 20  # bytes; hashing less is as quick as looking it up
SETTLES = 2_000_000_000  # ns: what changes again within a tick of the clock leaves no trace
PATIENCE = 10.0  # seconds to wait for others who write


def sha256(path: Path) -> str:
    """The file's sha256, hex: as remembered if the file looks untouched since, else read now."""
    path = path.resolve()
    before = path.stat()
    if before.st_size < REMEMBERED_FROM:
        return sha256_of(path)
    looks = (str(path), before.st_size, before.st_mtime_ns, before.st_ino)
    if known := _look_up(looks):
        return known
    found = sha256_of(path)
    after = path.stat()
    same = (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    if same and time.time_ns() - after.st_mtime_ns > SETTLES:
        _remember(looks, found)
    return found


def _look_up(looks: tuple[str, int, int, int]) -> str | None:
    question = "SELECT sha256 FROM files WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?"
    try:
        with closing(_open()) as book:
            row = book.execute(question, looks).fetchone()
    except (sqlite3.Error, OSError):
        return None  # a lost or locked book costs time, never an answer
    return row[0] if row else None


def _remember(looks: tuple[str, int, int, int], found: str) -> None:
    try:
        with closing(_open()) as book, book:
            book.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (*looks, found))
    except (sqlite3.Error, OSError):
        return


def _open() -> sqlite3.Connection:
    paths.store().mkdir(parents=True, exist_ok=True)
    book = sqlite3.connect(paths.store() / "hashes.sqlite", timeout=PATIENCE)
    columns = "path TEXT PRIMARY KEY, size INT, mtime_ns INT, inode INT, sha256 TEXT"
    book.execute(f"CREATE TABLE IF NOT EXISTS files ({columns})")
    return book
