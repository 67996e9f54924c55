"""Files of Hugging Face hub repositories: `snapshot_download` at one commit, then `verify_repo_checksums`.

The hub's own client retries, resumes, waits when the hub asks for it and keeps a cache. It compares sizes
alone, so what was downloaded is held to the hashes that the hub lists. Errors become one sentence.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from pal.errors import PalError, reason

COMMIT = re.compile("[0-9a-f]{40}")


def list_files(
    repo: str, revision: str, *, repo_type: str = "model", advice: str
) -> tuple[str, dict[str, str | None]]:
    """Ask the hub which commit a branch, tag or commit stands for, and which files it has.

    Args:
        repo: `ORG/NAME`.
        revision: A commit, a tag or a branch.
        repo_type: model or dataset.
        advice: What else the user can do: the end of the sentence of an error.

    Returns:
        The commit's hash, and the sha256 of each file by its path; None for small files, of which the hub
        lists Git's hash alone.

    Raises:
        PalError: If the hub cannot be reached, or has no such repository or revision.
    """
    from huggingface_hub import HfApi

    try:
        about = HfApi().repo_info(repo, repo_type=repo_type, revision=revision, files_metadata=True)
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
    """Download files of one commit and compare each with the hash that the hub lists.

    A commit that the client's cache holds is used without asking the hub; where the hub does not answer, a
    branch or tag is what the cache last saw of it.

    Args:
        repo: `ORG/NAME`.
        revision: A commit, a tag or a branch; None is main.
        patterns: Which files: `*.json`.
        repo_type: model or dataset.
        folder: Where to put them, for a commit; None is the client's cache.
        advice: What else the user can do: the end of the sentence of an error.

    Returns:
        The folder that holds them.

    Raises:
        PalError: If they cannot be had, or are others than the hub lists; such files are removed.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    revision = revision or "main"
    what = f"{repo} at {revision}"
    where = {"repo_type": repo_type, "local_dir": folder}
    cached = None
    if folder is None:
        with suppress(LocalEntryNotFoundError):
            cached = snapshot_download(
                repo, revision=revision, allow_patterns=patterns, local_files_only=True
            )
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
        local = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, **where))
        # A folder of the cache is named after its commit; the branch may have moved by now.
        commit = revision if folder else local.name
        wrong = HfApi().verify_repo_checksums(repo, revision=commit, **where).mismatches
    except client_errors() as error:
        _refuse(error, what, advice)
    for file in wrong:
        (local / file["path"]).resolve().unlink(missing_ok=True)
    if wrong:
        path, algorithm, expected, actual = map(wrong[0].get, ("path", "algorithm", "expected", "actual"))
        raise PalError(
            f"{path} of {what} must have the {algorithm} {expected} that the hub lists, got {actual}; "
            f"try again, check HF_ENDPOINT, or {advice}"
        )
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

    status = _status(error)
    host = constants.ENDPOINT.partition("://")[2]
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
        remedy = "run `hf auth login`" if status in (401, 403) else "try again later"
        why = f"{host} answered {status}"
    elif isinstance(error, OSError) and error.filename:
        why, remedy = f"{error.filename}: {error.strerror}", "make room there"
    else:
        why, remedy = reason(error), "check the network"
    raise PalError(f"{what} could not be downloaded ({why}); {remedy}, or {advice}") from None
