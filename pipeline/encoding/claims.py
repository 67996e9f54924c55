"""Claims: processes that encode into one store at once tell each other what they are at, to do nothing twice.

A claim is advice. It is a record lock of the system's on one byte of a file, so it dies with the process that
holds it: there is no stale lock. On NFS the server keeps it (version 3 needs lockd), until it notices that a
machine is gone. On a file system without locks everything counts as free. Work may then be done twice, and
the result is the same, since the store's files are named by their content.
"""

import errno
import os
from pathlib import Path

TAKEN = (errno.EACCES, errno.EAGAIN)
PLACES = 1 << 62  # bytes that can be locked; they need not exist


class Claims:
    """What this process claims of a store.

    Args:
        path: The file to lock bytes of; it stays empty. One that cannot be made leaves everything free.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            self._file = None

    def take(self, name: int) -> bool:
        """Claim something by a number that stands for it; whether nobody else has it."""
        import fcntl

        if self._file is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, name % PLACES)
        except OSError as error:
            return error.errno not in TAKEN
        return True

    def give_back(self, name: int) -> None:
        """Let others have it."""
        import fcntl

        if self._file is None:
            return
        try:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, name % PLACES)
        except OSError:
            return

    def close(self) -> None:
        """Give back everything."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
