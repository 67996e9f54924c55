"""One file from the hub: resumed where a broken run left it, and hashed while it arrives."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from pal.fetching.arrived import Arrived, WrongBytesError
from pal.fetching.listing import File, Listing, check
from pal.fetching.patience import MIRROR, PATIENCE, FetchError, Patience, failures, host

MEANT = 1 << 20
"""Bytes that make a try count as a good one: a server that gives less each time is not tried for ever."""


class CutError(OSError):
    """A transfer that ended early, or that cannot go on from where it stopped."""


def fetch(
    listing: Listing,
    file: File,
    path: Path,
    patience: Patience = PATIENCE,
    advance: Callable[[int], object] = lambda count: None,
) -> str:
    """Bring a file's bytes to `path`, which may hold their beginning from a run that was broken off.

    Once this returns, the bytes there are those that the hub lists by hash, and they are on the disk.

    Args:
        listing: The repository at its commit.
        file: Which of its files.
        path: Where to; it should be named by `file.key`, so that what is resumed is the same file.
        patience: How often and how long to try.
        advance: Told how many bytes more there are; fewer where it begins anew.

    Returns:
        The sha256 of the bytes.

    Raises:
        FetchError: If they cannot be had; what is right of them so far stays for the next run.
    """
    check(file, listing.repo)
    what = f"{file.path} of {listing.repo} at {listing.revision}"
    with _alone(path, what, patience) as out:
        arrived = Arrived(out, path, file, what, advance)
        try:
            return _persist(listing, file, arrived, patience)
        except FetchError:
            if not arrived.size:
                path.unlink(missing_ok=True)
            raise


def _persist(listing: Listing, file: File, arrived: Arrived, patience: Patience) -> str:
    """Try until the bytes are right, or there is no sense in going on; their sha256."""
    what = arrived.what
    _hold_to_room(file.size - arrived.size, arrived)
    failed = renewed = 0
    while True:
        before = arrived.size
        try:
            _receive(listing, file, arrived, patience.seconds())
            return arrived.checked()
        except WrongBytesError as wrong:
            arrived.restart()
            renewed += 1
            if renewed > patience.renewals:
                raise FetchError(what, f"{wrong}, {renewed} times", MIRROR) from None
            patience.say(f"{what}: {wrong}; fetching it anew, {renewed} of {patience.renewals}")
        except FetchError:
            raise
        except failures() as error:
            failed = 1 if arrived.size - before >= MEANT else failed + 1
            patience.after(error, what, failed)


def _hold_to_room(missing: int, arrived: Arrived) -> None:
    where = arrived.path.parent
    if (room := shutil.disk_usage(where).free) < missing:
        why = f"{missing:,} bytes are to come, and the disk of {where} has room for {room:,}"
        raise FetchError(arrived.what, why, "make room there or set PAL_STORE")


def _receive(listing: Listing, file: File, arrived: Arrived, timeout: float) -> None:
    """Take what is missing of a file."""
    from huggingface_hub import get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers

    if arrived.size == file.size:
        return
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # else there is no going on from a byte
    if arrived.size:
        headers["Range"] = f"bytes={arrived.size}-"
    with get_session().stream(
        "GET", _address(listing, file), headers=headers, timeout=timeout, follow_redirects=True
    ) as answer:
        if answer.status_code == 416 and arrived.size:
            arrived.restart()
            raise CutError(f"{host()} cannot go on from where it stopped")
        hf_raise_for_status(answer)
        _hold_to_range(answer, file, arrived)
        for chunk in answer.iter_bytes():
            arrived.take(chunk)
    if arrived.size < file.size:
        raise CutError(f"the transfer ended after {arrived.size:,} of {file.size:,} bytes")


def _hold_to_range(answer: Any, file: File, arrived: Arrived) -> None:
    """What is answered must go on where the bytes stop; where it begins anew, so do the bytes here."""
    if answer.status_code == 206:
        if answer.headers.get("Content-Range", "") != f"bytes {arrived.size}-{file.size - 1}/{file.size}":
            arrived.restart()
            raise CutError(f"{host()} goes on from another place than asked")
        return
    if answer.status_code != 200:
        raise CutError(f"{host()} answered {answer.status_code} in place of a file")
    if arrived.size:
        arrived.restart()
    announced = answer.headers.get("Content-Length", "")
    plain = answer.headers.get("Content-Encoding", "identity") == "identity"
    if plain and announced.isdecimal() and int(announced) != file.size:
        raise WrongBytesError(f"{int(announced):,} bytes came in place of the {file.size:,} that are listed")


def _address(listing: Listing, file: File) -> str:
    from huggingface_hub import constants

    kind = "datasets/" if listing.kind == "dataset" else ""
    return f"{constants.ENDPOINT}/{kind}{listing.repo}/resolve/{listing.commit}/{quote(file.path)}"


@contextmanager
def _alone(path: Path, what: str, patience: Patience) -> Iterator[IO[bytes]]:
    """The file at `path`, open, and nobody else's meanwhile."""
    try:
        out = _locked(path, what, patience)
    except OSError as error:
        why = f"{path.parent} cannot be written: {error.strerror or error}"
        raise FetchError(what, why, "set PAL_STORE to a folder that can") from None
    with out:
        yield out


def _locked(path: Path, what: str, patience: Patience) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        out = os.fdopen(handle, "r+b", buffering=0)
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            patience.say(f"{what}: another run is fetching it; waiting for that")
            fcntl.flock(out, fcntl.LOCK_EX)
        if _same(path, out):
            return out
        out.close()  # the other run was done, and moved it to its place


def _same(path: Path, out: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(out.fileno()))
    except FileNotFoundError:
        return False
