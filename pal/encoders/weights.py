"""Weights on disk: fetched from the hub at a pinned revision, checked, and hashed."""

import hashlib
from pathlib import Path

from pal.encoders import cache
from pal.errors import PalError
from pal.fetching import PATIENCE, FetchError, fetch_folder, sha256_of

__all__ = ["from_hub", "sha256_of", "sha256_of_folder"]


def from_hub(name: str, repo: str, revision: str | None, wanted: list[str]) -> Path:
    """A folder with a model's files from the Hugging Face hub, every one with the bytes that it lists.

    The cache of the hub's own client is used where it has them; what is missing comes into PAL's.

    Args:
        name: The encoder, for messages.
        repo: The model's name on the hub.
        revision: A commit; None takes what the hub has now.
        wanted: Patterns of the files to fetch.

    Raises:
        PalError: If the hub cannot be reached or has no such files, or others than it lists.
    """
    try:
        return fetch_folder(repo, revision, wanted, cache.folder() / "weights" / "hub", PATIENCE)
    except FetchError as error:
        raise PalError(
            f"the weights of {name} could not be downloaded from {repo} ({error.why}); {error.mend}, or "
            "set encode.weights to package or a folder"
        ) from None


def sha256_of_folder(folder: Path) -> str:
    """Over everything that shapes a vector: weights, configuration, tokeniser."""
    names = sorted(p for p in folder.rglob("*") if p.suffix in {".json", ".txt", ".safetensors"})
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
