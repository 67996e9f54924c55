"""What the hub's own client left in its cache: files of a commit, named by the hashes that the hub lists."""

import re
from pathlib import Path

from pal.fetching.listing import COMMIT, SHA256, File, Listing


def snapshot(found: Listing) -> Path | None:
    """The cache's folder of a commit; None where it has none. What lies in it is not checked."""
    folder = _repo(found.repo) / "snapshots" / found.commit
    return folder if folder.is_dir() else None


def listing(repo: str, revision: str | None) -> Listing | None:
    """What the cache has of a revision, sizes and hashes from the names of the bytes; None for nothing.

    Nobody knows from it whether the commit has more files.
    """
    wanted = revision or "main"
    commit = wanted if COMMIT.fullmatch(wanted) else _named(repo, wanted)
    if commit is None:
        return None
    folder = _repo(repo) / "snapshots" / commit
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and path.is_file():
            blob, name = path.resolve(), path.relative_to(folder).as_posix()
            sha256 = blob.name if SHA256.fullmatch(blob.name) else None
            if sha256 or COMMIT.fullmatch(blob.name):
                files[name] = File(name, blob.stat().st_size, sha256, None if sha256 else blob.name)
    return Listing(repo, "model", wanted, commit, files) if files else None


def _named(repo: str, revision: str) -> str | None:
    """The commit that a branch or a tag named when it was last asked for."""
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", revision, re.ASCII):
        return None
    try:
        commit = (_repo(repo) / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return commit if COMMIT.fullmatch(commit) else None


def _repo(repo: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repo.replace('/', '--')}"
