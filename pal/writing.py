"""Writing: every artefact passes through here, so that nothing under a final name is ever half done.

A file or a folder is made under a temporary name beside its own, synced to the disk, and takes its own name
at one stroke; then the folder that holds the name is synced. Killed at any moment, or failing at any system
call, this leaves what was there before or the new, whole. What fails is one sentence.
"""

import errno
import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pal import calls, placing, temporaries
from pal.errors import PalError

COPIED = 1 << 20  # bytes at a time
ADVICE = {
    errno.ENOSPC: "free space on that disk and run it again",
    errno.EDQUOT: "free space within your quota and run it again",
    errno.EFBIG: "the file system allows no larger files, so choose another place",
    errno.EIO: "the disk may be failing, so look at the system's log or choose another place",
    errno.EMFILE: "allow more open files (ulimit -n) and run it again",
    errno.ENFILE: "close other programs and run it again",
    errno.ENOMEM: "free memory and run it again",
    errno.EPIPE: "whoever read it has ended",
    errno.EINTR: "signals kept interrupting it, so run it again",
}
Error = Callable[[str], Exception]


@runtime_checkable
class Readable(Protocol):
    """An open file, a member of an archive, or whatever else gives bytes."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""


@dataclass(frozen=True)
class Written:
    """What a file holds, known from writing it.

    Args:
        sha256: Of its bytes, hex.
        size: Bytes.
    """

    sha256: str
    size: int


# What was written and hashed so far in each folder that is being made, by path within it.
_staged: dict[Path, dict[str, Written]] = {}


def sentence(error: OSError, what: str = "") -> str:
    """What went wrong and what to do about it, as one sentence.

    Args:
        error: What the system said.
        what: What could not be done; empty names the file of the error, where it has one.
    """
    what = what or (f"{error.filename} cannot be used" if error.filename else "the system refused a call")
    why = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return f"{what} ({why}); {ADVICE.get(error.errno or 0, 'choose another place')}"


def forget_output() -> None:
    """Have standard output lead nowhere: what is still in its buffer would raise again when Python ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Out(io.BufferedIOBase):
    """The file that is being written: bytes go straight to the system, all of them or an error.

    Args:
        handle: What it is open as.
        path: The name to tell in errors.
        hashed: Whether to hash what is written.
        error: Makes the error to raise from a sentence.
    """

    def __init__(self, handle: int, path: Path, error: Error, *, hashed: bool) -> None:
        self._handle: int | None = handle
        self._path, self._error, self._size = path, error, 0
        self._hash = hashlib.sha256() if hashed else None
        self._failure: Exception | None = None

    @property
    def sha256(self) -> str:
        """The sha256 of what was written so far, hex; only where it was asked for."""
        if self._hash is None:
            raise ValueError("this file is not hashed; ask for it with hashed=True")
        return self._hash.hexdigest()

    def writable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """How many bytes were written."""
        return self._size

    def write(self, data: Any) -> int:
        """Write all bytes, however few the system takes at a time; how many they were."""
        view = memoryview(data)
        if not view.nbytes:
            return 0
        view = view.cast("B")
        if self._failure is not None or self._handle is None:
            raise self._failure or ValueError(f"{self._path} is written already")
        try:
            placing.write_all(self._handle, view)
        except OSError as error:  # remembered, since a library between may swallow it
            self._failure = self._error(sentence(error, f"{self._path} cannot be written"))
            raise self._failure from None
        if self._hash is not None:
            self._hash.update(view)
        self._size += view.nbytes
        return view.nbytes

    def finish(self) -> None:
        """See that it is on the disk, and close it."""
        if self._failure is not None:
            raise self._failure
        if self._handle is not None:
            placing.again(calls.sync, self._handle)
            self.abandon(quietly=False)

    def abandon(self, *, quietly: bool = True) -> None:
        """Close it as it is."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with suppress(OSError if quietly else InterruptedError):
                calls.close(handle)


@contextmanager
def new_file(
    path: Path,
    *,
    hashed: bool = False,
    name: Callable[[str], str] | None = None,
    error: Error = PalError,
) -> Iterator[Out]:
    """A file to write bytes to; it takes the name `path` once the block ends well.

    In a folder that `new_folder` is making, what is written is hashed in any case, and `recorded` there.

    Args:
        path: The file; where `name` is given, the folder that gets it.
        hashed: Whether to hash what is written, as `sha256` of what is yielded.
        name: Makes the file's name from its sha256, where it is to be named after what it holds.
        error: Makes the error to raise from a sentence.
    """
    staging = _staging(path)
    with _told(path, error):
        _refuse_odd(path, folder=name is not None)
        place = path if name is None else path / "file"
        placing.make(place.parent)
        if staging is None:
            temporaries.sweep(place.parent)
        temporary = temporaries.beside(place)
        out = Out(_create(temporary), path, error, hashed=hashed or name is not None or staging is not None)
    try:
        yield out
        with _told(path, error):
            out.finish()
            place = path if name is None else path / name(out.sha256)
            placing.put(temporary, place)
        if staging is not None:
            inside = place.absolute().relative_to(staging).as_posix()
            _staged[staging][inside] = Written(out.sha256, out.tell())
    finally:
        out.abandon()
        temporaries.remove(temporary)


@contextmanager
def new_folder(path: Path, *, replace: bool = True, error: Error = PalError) -> Iterator[Path]:
    """A folder to fill; it changes places with `path` once the block ends well.

    Args:
        path: The folder.
        replace: Whether to replace what is there; otherwise a folder that has come meanwhile stays.
        error: Makes the error to raise from a sentence.
    """
    outer = _staging(path)
    with _told(path, error):
        placing.make(path.parent)
        if outer is None:
            temporaries.sweep(path.parent)
        temporary = temporaries.beside(path)
        placing.again(calls.mkdir, temporary)
    key = temporary.absolute()
    _staged[key] = {}
    try:
        yield temporary
        with _told(path, error):
            placing.sync_tree(temporary, {key / inside for inside in _staged[key]})
            if replace or not path.is_dir():
                placing.put(temporary, path)
        if outer is not None:
            inside = path.absolute().relative_to(outer)
            _staged[outer] |= {(inside / each).as_posix(): what for each, what in _staged[key].items()}
    finally:
        del _staged[key]
        temporaries.remove(temporary)


def recorded(folder: Path) -> dict[str, Written]:
    """What went through `new_file` into a folder that is being made, by path within it."""
    return dict(_staged.get(folder.absolute(), {}))


def write_bytes(path: Path, data: bytes, *, error: Error = PalError) -> None:
    """Write a file, whole or not at all."""
    with new_file(path, error=error) as out:
        out.write(data)


def copy_file(source: Path, path: Path, *, hashed: bool = False, error: Error = PalError) -> Out:
    """Copy a file's bytes, whole or not at all."""
    with new_file(path, hashed=hashed, error=error) as out, source.open("rb") as file:
        copy_into(file, out)
    return out


def copy_into(file: Readable, out: Out) -> None:
    """Copy what is left of an open file."""
    while data := file.read(COPIED):
        out.write(data)


def move_file(source: Path, path: Path, *, error: Error = PalError) -> None:
    """Give a finished file on the same disk another place, once it is on the disk; else it stays."""
    with _told(path, error):
        placing.make(path.parent)
        placing.sync(source)
        placing.put(source, path)
    with suppress(OSError):
        source.unlink(missing_ok=True)  # what stood at the other place before


def link_file(target: Path, path: Path, *, error: Error = PalError) -> None:
    """Have `path` be a link to a file, in place of what it was."""
    with _told(path, error):
        placing.make(path.parent)
        temporaries.sweep(path.parent)
        temporary = temporaries.beside(path)
        try:
            placing.again(calls.symlink, target, temporary)
            placing.put(temporary, path)
        finally:
            temporaries.remove(temporary)


@contextmanager
def _told(path: Path, error: Error) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise error(sentence(fault, f"{path} cannot be written")) from None


def _create(path: Path) -> int:
    return placing.again(calls.open_file, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def _refuse_odd(path: Path, *, folder: bool) -> None:
    """A device or a pipe is no file to replace, nor is a folder."""
    if path.exists() and not (path.is_dir() if folder else path.is_file()):
        code = errno.ENOTDIR if folder else errno.EISDIR if path.is_dir() else errno.EEXIST
        raise OSError(code, os.strerror(code))


def _staging(path: Path) -> Path | None:
    """The folder that is being made in which `path` lies; None where there is none."""
    if not _staged:
        return None
    return next((parent for parent in path.absolute().parents if parent in _staged), None)
