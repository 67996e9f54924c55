"""The system calls by which we change files, all of them: where a campaign has the n-th one fail.

Whoever uses them looks them up here at each use (`calls.write(...)`), so that they can be replaced.
"""

import errno
import os
from functools import cache
from pathlib import Path
from typing import Any

CHANGING = (
    "open_file",
    "write",
    "sync",
    "close",
    "rename",
    "exchange",
    "mkdir",
    "symlink",
    "unlink",
    "rmdir",
)
HERE = -100  # AT_FDCWD: names are relative to the current folder
EXCHANGE = 2  # RENAME_EXCHANGE

Name = str | os.PathLike[str]


def open_file(path: Name, flags: int) -> int:
    """Open a file; one that is made has the mode that the umask leaves."""
    return os.open(path, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0), 0o666)


def write(handle: int, data: memoryview) -> int:
    """Write bytes, or some of them; how many."""
    return os.write(handle, data)


def sync(handle: int) -> None:
    """Return once what was written is on the disk."""
    os.fsync(handle)


def close(handle: int) -> None:
    """Close a handle; it is closed also where this fails."""
    os.close(handle)


def rename(source: Name, target: Name) -> None:
    """Give a file or a folder another name; a file that has it is replaced."""
    Path(source).replace(target)


def exchange(first: Name, second: Name) -> None:
    """Have two names change places at one stroke.

    Raises:
        OSError: ENOSYS, EINVAL or ENOTSUP where the system or the file system cannot.
    """
    import ctypes

    call = _renameat2()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(HERE, os.fsencode(first), HERE, os.fsencode(second), EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fspath(first), None, os.fspath(second))


def mkdir(path: Name) -> None:
    """Make a folder."""
    Path(path).mkdir()


def symlink(target: Name, path: Name) -> None:
    """Make a symbolic link."""
    Path(path).symlink_to(target)


def unlink(path: Name) -> None:
    """Remove a file."""
    Path(path).unlink()


def rmdir(path: Name) -> None:
    """Remove an empty folder."""
    Path(path).rmdir()


@cache
def _renameat2() -> Any:
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return call
