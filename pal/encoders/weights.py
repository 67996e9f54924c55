"""Weights on disk: fetched from the hub at a pinned revision, and hashed."""

import hashlib
from pathlib import Path

from pal.errors import PalError


def from_hub(name: str, repo: str, revision: str | None, wanted: list[str]) -> Path:
    """A folder with a model's files from the Hugging Face hub, which the hub's client keeps in its cache.

    Args:
        name: The encoder, for messages.
        repo: The model's name on the hub.
        revision: A commit; None takes what the hub has now.
        wanted: Patterns of the files to fetch.

    Raises:
        PalError: If the hub cannot be reached or has no such files.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    # Its bases: OSError, and the error of the HTTP library, which the hub's client has changed before.
    no_answer = HfHubHTTPError.__bases__
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))
    except (*no_answer, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PalError(
            f"the weights of {name} could not be downloaded from {repo} ({reason}); check the network, or "
            "set encode.weights to package or a folder"
        ) from None


def sha256_of(path: Path) -> str:
    """The file's sha256, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_folder(folder: Path) -> str:
    """Over everything that shapes a vector: weights, configuration, tokeniser."""
    names = sorted(p for p in folder.rglob("*") if p.suffix in {".json", ".txt", ".safetensors"})
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
