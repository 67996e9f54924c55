"""What has come of a file so far, hashed as it comes."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pal.fetching.hashing import git_hash
from pal.fetching.listing import File
from pal.fetching.patience import FetchError

AT_ONCE = 1 << 20


class WrongBytesError(Exception):
    """What arrived is not what the hub lists."""


class Arrived:
    """What has come of a file: counted, hashed and never more than is listed.

    Args:
        out: The open file, unbuffered, which may hold the beginning.
        path: Where that lies.
        file: What the hub lists of it.
        what: Its name in messages.
        advance: Told how many bytes more there are.
    """

    def __init__(
        self, out: IO[bytes], path: Path, file: File, what: str, advance: Callable[[int], object]
    ) -> None:
        self.out, self.path, self.file, self.what, self.advance = out, path, file, what, advance
        self._begin()
        with self._disk("reading"):
            self._look()

    def take(self, chunk: bytes) -> None:
        """Add what has come.

        Raises:
            WrongBytesError: If it is more than the file has.
        """
        if self.size + len(chunk) > self.file.size:
            raise WrongBytesError(f"more bytes came than the {self.file.size:,} that are listed")
        with self._disk():
            view = memoryview(chunk)
            while view:
                view = view[self.out.write(view) :]
        self._count(chunk)

    def restart(self) -> None:
        """Forget what has come."""
        with self._disk():
            self.out.seek(0)
            self.out.truncate()
        self.advance(-self.size)
        self._begin()

    def checked(self) -> str:
        """The sha256 of all bytes, which are on the disk now.

        Raises:
            WrongBytesError: If they are not those that the hub lists.
        """
        sha256 = self.sha256.hexdigest()
        kind, listed, got = "sha256", self.file.sha256, sha256
        if self.git:
            kind, listed, got = "hash of git", self.file.blob_id, self.git.hexdigest()
        if got != listed:
            raise WrongBytesError(f"its bytes must have the {kind} {listed} that the hub lists, got {got}")
        with self._disk():
            os.fsync(self.out.fileno())
        return sha256

    def _look(self) -> None:
        """Count and hash what an earlier run left."""
        self.out.seek(0)
        while chunk := self.out.read(AT_ONCE):
            if self.size + len(chunk) > self.file.size:
                self.restart()  # it is no beginning of this file
                return
            self._count(chunk)
        self.out.seek(self.size)

    def _begin(self) -> None:
        self.size, self.sha256 = 0, hashlib.sha256()
        self.git = None if self.file.sha256 else git_hash(self.file.size)

    def _count(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.sha256.update(chunk)
        if self.git:
            self.git.update(chunk)
        self.advance(len(chunk))

    @contextmanager
    def _disk(self, doing: str = "writing") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = f"{doing} {self.path} failed: {error.strerror or error}"
            raise FetchError(self.what, why, "make room there or set PAL_STORE") from None
