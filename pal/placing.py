"""Names at one stroke: what is finished takes its name, synced, or everything is as it was before."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pal import calls, temporaries

TRIES = 100  # of a call that a signal interrupts, or a name that others keep taking
NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


def again(call: Callable[..., Any], *values: Any) -> Any:
    """Make a call again where a signal interrupted it, but not for ever."""
    for _ in range(TRIES - 1):
        with suppress(InterruptedError):
            return call(*values)
    return call(*values)


def write_all(handle: int, view: memoryview) -> None:
    """Write all bytes, however few the system takes at a time."""
    while view.nbytes:
        count = again(calls.write, handle, view)
        if count <= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        view = view[count:]


def make(folder: Path) -> None:
    """Make a folder with those above it, each synced into the one that holds it."""
    if folder.is_dir():
        return
    make(folder.parent)
    try:
        again(calls.mkdir, folder)
    except FileExistsError:
        if folder.is_dir():
            return
        raise
    sync(folder.parent)


def sync(path: Path) -> None:
    """See that a file's bytes, or a folder's names, are on the disk."""
    handle = again(calls.open_file, path, os.O_RDONLY)
    try:
        again(calls.sync, handle)
    finally:
        with suppress(InterruptedError):
            calls.close(handle)


def sync_tree(folder: Path, done: set[Path]) -> None:
    """See that all that a folder holds is on the disk; `done` are files that are known to be."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            continue
        if path.is_dir():
            sync_tree(path, done)
        elif path.absolute() not in done:
            sync(path)
    sync(folder)


def put(new: Path, path: Path) -> None:
    """Give `new` the name `path`, for good; where that fails, things are as they were."""
    old = _swap(new, path)
    try:
        sync(path.parent)
    except OSError:
        with suppress(OSError):
            if old == new:
                again(calls.exchange, new, path)
            else:
                again(calls.rename, path, new)
                if old is not None:
                    again(calls.rename, old, path)
        raise
    finally:
        if old is not None and old != new:
            _let_go(old.parent, path)


def _swap(new: Path, path: Path) -> Path | None:
    """Give `new` the name `path`; where what had it before lies now, None if nothing did."""
    folder = new.is_dir() and not new.is_symlink()
    for _ in range(TRIES):
        if not os.path.lexists(path):
            try:
                again(calls.rename, new, path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                continue  # another was first
            return None
        try:
            again(calls.exchange, new, path)
        except OSError as error:
            if error.errno == errno.ENOENT and not os.path.lexists(path):
                continue
            if error.errno not in NO_EXCHANGE:
                raise
            if folder:
                return _by_two_renames(new, path)
            again(calls.rename, new, path)
            return None
        return new
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _by_two_renames(new: Path, path: Path) -> Path:
    """Where names cannot be exchanged: a kill between the two leaves what `temporaries.sweep` puts back."""
    holder = temporaries.beside(path, "old")
    again(calls.mkdir, holder)
    old = holder / path.name
    try:
        again(calls.rename, path, old)
        again(calls.rename, new, path)
    except BaseException:
        if not os.path.lexists(path):
            with suppress(OSError):
                again(calls.rename, old, path)
        _let_go(holder, path)
        raise
    return old


def _let_go(holder: Path, path: Path) -> None:
    """Remove what was replaced, unless nothing has come into its place: then a later sweep puts it back."""
    if os.path.lexists(path):
        temporaries.remove(holder)
    else:
        temporaries.release(holder)
