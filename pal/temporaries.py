"""Temporary names beside the final ones, and what becomes of those that a killed run left.

A name tells whose it is: the world in which process ids count (a machine, since it was started) and the
process. What a process of this world that is no more left is removed on the next write in that place; what
another world left, after a week in which nobody touched it. What may be in use is never removed.
"""

import hashlib
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from pal import calls

OURS = re.compile(r"\..*\.([0-9a-f]{8})-([0-9]+)-[0-9a-f]{8}\.(new|old)", re.DOTALL)
UNTOUCHED = 7 * 24 * 3600  # seconds after which what another machine left is taken for abandoned

_live: set[Path] = set()
_swept: set[tuple[int, Path]] = set()


def beside(path: Path, end: str = "new") -> Path:
    """A temporary name beside `path`, in use until it is handed to `remove`; end is new or old."""
    token = f"{_world()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.name[:50]}.{token}.{end}")
    _live.add(temporary.absolute())
    return temporary


def remove(path: Path) -> None:
    """Remove a temporary file or folder, if it is still there; what resists is left to a later sweep."""
    with suppress(OSError):
        _remove(path)
    release(path)


def release(path: Path) -> None:
    """Say that a temporary name is not in use any more, and have a later sweep see to what it holds."""
    _live.discard(path.absolute())
    if os.path.lexists(path):
        _swept.discard((os.getpid(), path.absolute().parent))


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder in `folder` for what this block alone needs; one that a kill leaves, a later run removes."""
    sweep(folder)
    temporary = beside(folder / "scratch")
    try:
        temporary.mkdir(parents=True)
        yield temporary
    finally:
        remove(temporary)


def sweep(folder: Path, *, again: bool = False) -> None:
    """Remove what dead processes left in a folder, once per process, and put back what they had moved away.

    Args:
        folder: Where.
        again: Look even where this process has looked.
    """
    key = (os.getpid(), folder.absolute())
    if key in _swept and not again:
        return
    _swept.add(key)
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            found = OURS.fullmatch(entry.name)
            if found and _abandoned(folder / entry.name, found[1], int(found[2])):
                with suppress(OSError):
                    if found[3] == "old":
                        _put_back(folder / entry.name)
                    _remove(folder / entry.name)


def forget() -> None:
    """Look for leftovers on the next write in every folder, as a new process does."""
    _swept.clear()


def _put_back(holder: Path) -> None:
    """Give a folder its name again where a kill came between its leaving and its successor's coming."""
    for path in list(holder.iterdir()):
        if not os.path.lexists(holder.parent / path.name):
            calls.rename(path, holder.parent / path.name)


def _remove(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        calls.unlink(path)
        return
    for inner in list(path.iterdir()):
        _remove(inner)
    calls.rmdir(path)


def _abandoned(path: Path, world: str, process: int) -> bool:
    if world != _world():
        return time.time() - path.lstat().st_mtime > UNTOUCHED
    if process == os.getpid():
        return path.absolute() not in _live
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False


@cache
def _world() -> str:
    """Where a process id means one process: the host, since it was started, in this container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
