"""What a repository of the hub holds: its revision pinned to a commit, its files with sizes and hashes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pal.fetching.patience import MIRROR, PATIENCE, FetchError, Patience, failures, host

COMMIT = re.compile("[0-9a-f]{40}")
SHA256 = re.compile("[0-9a-f]{64}")
MOST_FILES = 50_000  # beyond these the hub does not list all of them in one answer


@dataclass(frozen=True)
class File:
    """One file as the hub lists it; nothing of it has been believed yet.

    Args:
        path: Within the repository, relative, without `..`.
        size: Bytes.
        sha256: Of its bytes, which the hub lists of files in Git LFS; None of others.
        blob_id: Git's hash of its bytes, listed of the others; None of those in LFS.
    """

    path: str
    size: int
    sha256: str | None
    blob_id: str | None

    @property
    def key(self) -> str:
        """A name for the bytes, from their hash alone: safe as a file name whatever the repository says."""
        return self.sha256 or f"git-{self.blob_id}"


@dataclass(frozen=True)
class Listing:
    """A repository at one commit.

    Args:
        repo: Its name.
        kind: `dataset` or `model`.
        revision: What was asked for.
        commit: What that stood for when it was asked.
        files: By their paths.
    """

    repo: str
    kind: str
    revision: str
    commit: str
    files: dict[str, File]


def listing(repo: str, kind: str, revision: str | None, patience: Patience = PATIENCE) -> Listing:
    """Ask the hub what a revision stands for and which files it has.

    Args:
        repo: `ORG/NAME`.
        kind: `dataset` or `model`.
        revision: A commit, a tag or a branch; None is main.
        patience: How often and how long to try.

    Raises:
        FetchError: If there is no such repository or revision, or no access.
        UnreachableError: If the hub does not answer.
    """
    wanted = revision or "main"
    what, failed = f"{repo} at {wanted}", 0
    while True:
        try:
            answer = _ask(repo, kind, wanted, patience.seconds())
            break
        except failures() as error:
            failed += 1
            patience.after(error, what, failed)
        except (KeyError, TypeError, AttributeError) as error:
            raise FetchError(what, f"{host()} does not answer as a hub: {error!r}", MIRROR) from None
    commit = getattr(answer, "sha", None)
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise FetchError(what, f"{host()} names no commit", MIRROR)
    listed = answer.siblings or []
    if len(listed) >= MOST_FILES:
        raise FetchError(what, f"it has {len(listed):,} files or more", f"at most {MOST_FILES:,} are read")
    return Listing(repo, kind, wanted, commit, dict(_files(listed)))


def _ask(repo: str, kind: str, revision: str, timeout: float) -> Any:
    from huggingface_hub import HfApi, constants

    # Of the client's ways this is the one with a timeout and without waits of its own.
    return HfApi(endpoint=constants.ENDPOINT).repo_info(
        repo, repo_type=kind, revision=revision, files_metadata=True, timeout=timeout
    )


def _files(listed: Iterable[Any]) -> Iterable[tuple[str, File]]:
    """The files that can be fetched; what is wrong with another is said when it is asked for."""
    for one in listed:
        path, sha256 = one.rfilename, one.lfs and one.lfs.sha256
        size = one.lfs.size if one.lfs else one.size
        if not isinstance(path, str):
            continue
        blob_id = None if one.lfs else one.blob_id
        good = SHA256.fullmatch(str(sha256)) if one.lfs else COMMIT.fullmatch(str(blob_id))
        if good and isinstance(size, int) and size >= 0:
            yield path, File(path, size, sha256, blob_id)
        else:
            yield path, File(path, -1, None, None)


def check(file: File, repo: str) -> None:
    """Hold what is to be fetched to what can be.

    Raises:
        FetchError: If its name leads elsewhere, or the hub lists no size or no hash of it.
    """
    parts = file.path.split("/")
    bad = any(part in ("", ".", "..") for part in parts) or re.search(r"[\\:\x00-\x1f\x7f]", file.path)
    what = f"{file.path!r} of {repo}"
    if bad or len(file.path.encode("utf-8", "replace")) > 1024 or max(map(len, parts)) > 200:
        raise FetchError(what, "its name may lead out of the folder", "do not trust this repository")
    if file.size < 0:
        raise FetchError(what, f"{host()} lists neither its size nor its hash", MIRROR)
