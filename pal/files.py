"""Files: atomic writes, sha256, and downloads from the Hugging Face hub that are held to its hashes.

A file or a folder appears under its name whole, or not at all: what is written goes to a temporary name
beside the final one, is synced to the disk (fsync) and renamed. Killed at any moment this leaves what was
there before, or the new. A folder needs two renames; a kill between them leaves the former content beside its
place, and `sweep` puts it back.

The hub's own client retries, resumes, waits when the hub asks for it and keeps a cache. It compares sizes
alone, so what was downloaded is held to the hashes that the hub lists. Errors become one sentence.
"""

import csv
import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from platformdirs import user_cache_path

from pal.errors import PalError, reason

TEMPORARY = re.compile(r"\.(.*)\.[0-9a-f]{16}\.(new|old)", re.DOTALL)
ABANDONED = 7 * 24 * 3600  # seconds without a change: longer than any stage takes between two files
ADVICE = {
    errno.ENOSPC: "free space on that disk and run it again",
    errno.EDQUOT: "free space within your quota and run it again",
    errno.EFBIG: "the file system allows no larger files, so choose another place",
    errno.EIO: "the disk may be failing, so look at the system's log or choose another place",
    errno.EMFILE: "allow more open files (ulimit -n) and run it again",
    errno.EPIPE: "whoever read it has ended",
}


def sentence(error: OSError, what: str = "") -> str:
    """What could not be done, why, and what to do about it, as one sentence; by default it names the file."""
    what = what or (f"{error.filename} cannot be used" if error.filename else "the system refused a call")
    why = error.strerror or " ".join(str(error).split()) or type(error).__name__
    return f"{what} ({why}); {ADVICE.get(error.errno or 0, 'choose another place')}"


def forget_output() -> None:
    """Redirect standard output to nowhere: what is still in its buffer would raise again when Python ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def store() -> Path:
    """The store outside the repository: PAL_STORE, an absolute path, or the user's cache folder for `pal`."""
    if not (named := os.environ.get("PAL_STORE")):
        return user_cache_path("pal")
    folder = expanded(named)
    if not folder.is_absolute():
        raise PalError(f"PAL_STORE must be an absolute path or begin with ~, got {named!r}; write it in full")
    return folder


def expanded(path: Path | str) -> Path:
    """A path with ~ as the home folder, for files and programs without a shell; a PalError without one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        advice = "write the path in full"
        raise PalError(f"the home folder in {str(path)!r} must exist, got none; {advice}") from None


def make_folder(path: Path) -> None:
    """Make a folder and those above it; see `share` for their permissions."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in reversed(missing):
        share(each)


def share(path: Path) -> None:
    """Give what was made in a group's folder that folder's permissions, whatever the umask of who made it.

    A group's folder is one that hands its group on (`chmod g+ws`), as a store of several people should be.
    """
    mode = path.parent.stat().st_mode
    if mode & stat.S_ISGID:
        with suppress(OSError):  # somebody else's
            path.chmod(stat.S_IMODE(mode) if path.is_dir() else path.stat().st_mode | mode & 0o666)


def sha256_of(path: Path) -> str:
    """The file's sha256, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: Path, advice: str) -> bytes:
    """A file's bytes; `advice` says what to do where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise PalError(f"{path} cannot be read ({error.strerror}); {advice}", file=path) from None


class OutFile(io.BufferedWriter):
    """An open temporary file whose errors name the file that it will become."""

    path: Path

    def write(self, data: Any) -> int:
        """Write all bytes."""
        with _as_sentence(self.path):
            return super().write(data)


@contextmanager
def new_file(path: Path) -> Iterator[OutFile]:
    """A file to write bytes to, which takes the name `path` when the block ends without an error.

    What cannot be written, here and below, is a PalError.
    """
    with _as_sentence(path):
        if path.exists() and not path.is_file():  # a device or a pipe is no file to replace, nor is a folder
            code = errno.EISDIR if path.is_dir() else errno.EEXIST
            raise OSError(code, os.strerror(code))
        temporary = _temporary(path)
        out = OutFile(io.FileIO(temporary, "x"))
        share(temporary)
        out.path = path
    try:
        yield out
        with _as_sentence(path):
            out.close()
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        with suppress(OSError, PalError):  # closing writes what is left in the buffer
            out.close()
        _remove(temporary)


@contextmanager
def new_folder(path: Path, *, replace: bool = True, advice: str = "") -> Iterator[Path]:
    """A folder to fill, which takes the place of `path` when the block ends without an error.

    Without `replace` a folder that has come meanwhile stays. Where it cannot be written, the sentence ends
    with `advice`.
    """
    with _as_sentence(path, advice):
        temporary = _temporary(path)
        temporary.mkdir()
        share(temporary)
    try:
        yield temporary
        with _as_sentence(path, advice):
            for each in [*temporary.rglob("*"), temporary]:
                if each.is_dir() or (each.is_file() and not each.is_symlink()):
                    share(each)
                    _sync(each)
            if replace or not path.is_dir():
                _exchange(temporary, path)
    finally:
        _remove(temporary)


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file."""
    with new_file(path) as out:
        out.write(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON; NaN is refused, since other readers refuse it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of the same keys as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, out.getvalue())


def copy_file(source: Path, path: Path) -> None:
    """Copy a file's bytes."""
    with new_file(path) as out, source.open("rb") as file:
        shutil.copyfileobj(file, out, 1 << 20)


def move_file(source: Path, path: Path) -> None:
    """Rename a finished file on the same disk, once its bytes are on the disk."""
    with _as_sentence(path):
        make_folder(path.parent)
        _sync(source)
        source.replace(path)
        share(path)
        _sync(path.parent)


def sweep(folder: Path) -> None:
    """Put back what a killed `new_folder` had moved aside; remove temporary files untouched for a week."""
    with suppress(OSError):
        for entry in list(folder.iterdir()):
            match = TEMPORARY.fullmatch(entry.name)
            if match is None:
                continue
            with suppress(OSError):
                if match[2] == "old" and not os.path.lexists(folder / match[1]):
                    entry.rename(folder / match[1])
                elif match[2] == "old" or time.time() - entry.lstat().st_mtime > ABANDONED:
                    _remove(entry)


_sweep_once = cache(sweep)  # on the first write into a folder by this process: it may hold thousands of files


def _exchange(new: Path, path: Path) -> None:
    """Rename `new` to `path`, where a folder may stand; where that fails, the former folder stays."""
    former: Path | None = None
    while True:
        if os.path.lexists(path):
            former = _temporary(path, "old")
            path.rename(former)
        try:
            new.rename(path)
            break
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                continue  # another process was first
            if former is not None:
                former.rename(path)
            raise
    _sync(path.parent)
    if former is not None:
        _remove(former)


def _temporary(path: Path, end: str = "new") -> Path:
    make_folder(path.parent)
    _sweep_once(path.parent)
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.{end}")


def _sync(path: Path) -> None:
    """Return once a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    """Remove a file, a link (never what it leads to) or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@contextmanager
def _as_sentence(path: Path, advice: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PalError(sentence(error, f"{path} cannot be written") + advice) from None


COMMIT = re.compile("[0-9a-f]{40}")


def list_files(repo: str, revision: str, *, advice: str) -> tuple[str, dict[str, str | None]]:
    """A data set's commit at a branch, tag or commit, and the sha256 of its files by their paths.

    Of small files that is None, since the hub lists Git's hash alone. A PalError ends with `advice`.
    """
    from huggingface_hub import HfApi

    try:
        about = HfApi().repo_info(repo, repo_type="dataset", revision=revision, files_metadata=True)
    except client_errors() as error:
        _refuse(error, f"{repo} at {revision}", advice)
    return about.sha, {file.rfilename: file.lfs and file.lfs.sha256 for file in about.siblings or []}


def download(
    repo: str,
    revision: str | None,
    patterns: list[str],
    *,
    repo_type: str = "model",
    folder: Path | None = None,
    advice: str,
) -> Path:
    """Download files of one commit, by patterns, and compare each with the hash that the hub lists.

    A commit that the client's cache holds is used without asking the hub; where the hub does not answer, a
    branch or tag is what the cache last saw of it. Files of a commit may go to a `folder` instead.

    Files that cannot be had, or are others than the hub lists, are a PalError, whose sentence ends with
    `advice` on what else the user can do; wrong ones are removed.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    revision, cached = revision or "main", None
    what, where = f"{repo} at {revision}", {"repo_type": repo_type, "local_dir": folder}
    options = {"revision": revision, "allow_patterns": patterns, **where}
    if folder is None:
        with suppress(LocalEntryNotFoundError):
            cached = snapshot_download(repo, **options, local_files_only=True)
    if cached and COMMIT.fullmatch(revision):
        return Path(cached)
    try:
        HfApi().repo_info(repo, repo_type=repo_type, revision=revision)
    except client_errors() as error:
        status = _status(error)
        if cached and (status is None or status in (408, 429) or status >= 500):  # the hub gave no answer
            return Path(cached)
        _refuse(error, what, advice)
    try:
        local = Path(snapshot_download(repo, **options))
        # A folder of the cache is named after its commit; the branch may have moved by now.
        commit = revision if folder else local.name
        wrong = HfApi().verify_repo_checksums(repo, revision=commit, **where).mismatches
    except client_errors() as error:
        _refuse(error, what, advice)
    for file in wrong:
        (local / file["path"]).resolve().unlink(missing_ok=True)
    if wrong:
        path, algorithm, expected, actual = map(wrong[0].get, ("path", "algorithm", "expected", "actual"))
        rule = f"{path} of {what} must have the {algorithm} {expected} that the hub lists"
        raise PalError(f"{rule}, got {actual}; try again, check HF_ENDPOINT, or {advice}")
    return local


def client_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises for what is not a defect."""
    from huggingface_hub.errors import HfHubHTTPError

    # Its bases are OSError and the error of the HTTP library, which the client has changed before.
    return (*HfHubHTTPError.__bases__, ValueError, RuntimeError)


def _status(error: Exception) -> int | None:
    """The HTTP status that the hub answered with; None where it did not answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _refuse(error: Exception, what: str, advice: str) -> NoReturn:
    from huggingface_hub import constants, errors

    status, host = _status(error), constants.ENDPOINT.partition("://")[2]
    if isinstance(error, errors.GatedRepoError):
        why, remedy = "its owner must grant access", "accept its terms there and log in"
    elif isinstance(error, errors.RepositoryNotFoundError):
        why = f"there is no such repository at {host}, or it is private"
        remedy = "check its name, or run `hf auth login`"
    elif isinstance(error, errors.RevisionNotFoundError):
        why, remedy = "there is no such revision", "check the revision"
    elif isinstance(error, errors.OfflineModeIsEnabled):
        why, remedy = "HF_HUB_OFFLINE is set", "unset it"
    elif status is not None:
        why = f"{host} answered {status}"
        remedy = "run `hf auth login`" if status in (401, 403) else "try again later"
    elif isinstance(error, OSError) and error.filename:
        why, remedy = f"{error.filename}: {error.strerror}", "make room there"
    else:
        why, remedy = reason(error), "check the network"
    raise PalError(f"{what} could not be downloaded ({why}); {remedy}, or {advice}") from None
