"""CLIP models by name: which files they are made of, and whether these are the published ones.

`clip-vit-h-14` is held to the published hash of its weights. Of `pickscore`, whose revision is pinned, and
of any other model no published hash is known here: what was found is recorded beside every vector, and not
compared with anything. Weights are safetensors, never a pickle. Names that start with `untrained-` are
architectures with random weights of a fixed seed; no other name ever runs without its weights.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pal.encoders.base import Described
from pal.encoders.clip_configs import (
    CONFIG,
    OPEN_CLIP,
    PICKSCORE,
    UNTRAINED,
    Config,
    check_name,
    config_of,
    hub_repo,
)
from pal.encoders.weights import from_hub, sha256_of
from pal.errors import PalError

if TYPE_CHECKING:
    from pal.encoders.clip import ClipEncoder

PREFIXES = (OPEN_CLIP, UNTRAINED)
WEIGHTS = ("open_clip_model.safetensors", "model.safetensors")
PRECISIONS = ("float32", "bfloat16", "float16")
ENGINES = ("torch", "compile")


@dataclass(frozen=True)
class Published:
    """A CLIP model with a name of its own.

    Args:
        repo: Its name on the Hugging Face hub.
        revision: The hub's commit.
        weights: The file of its weights.
        weights_sha256: Hash of that file at that commit; None where none is known, and none is checked.
    """

    repo: str
    revision: str
    weights: str
    weights_sha256: str | None


PUBLISHED = {
    "clip-vit-h-14": Published(
        repo="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        revision="1c2b8495b28150b8a4922ee1c8edee224c284c0c",
        weights="open_clip_model.safetensors",
        weights_sha256="0084e75319a50ad85ef45377bad5bc38f2f58824459eb690048d51c9f8863be5",
    ),
    PICKSCORE: Published(
        repo="yuvalkirstain/PickScore_v1",
        revision="a4e4367c6dfa7288a00c550414478f865b875800",
        weights="model.safetensors",
        weights_sha256=None,
    ),
}


def describe(name: str, weights: str, *, precision: str, engine: str) -> Described:
    """Find a model's files and hold them to the published hash, where there is one: see `catalogue.describe`.

    Untrained architectures have no files: `weights` changes nothing for them.
    """
    if engine not in ENGINES:
        raise PalError(
            f"engine must be one of {', '.join(ENGINES)} for {name}, got {engine!r}; "
            "ONNX Runtime runs text encoders alone"
        )
    if precision not in PRECISIONS:
        raise PalError(f"precision must be one of {', '.join(PRECISIONS)} for {name}, got {precision!r}")
    check_name(name)
    folder = None if name.startswith(UNTRAINED) else _folder(name, weights)
    config = config_of(name, folder)
    found = "" if folder is None else _checked(name, weights_in(name, folder))
    return Described(
        name, config.dim, found, _hash(config, found), _words(name, config), folder,
        "pickscore" if name == PICKSCORE else "clip",
        modalities=("text", "image") if config.reads_text else ("image",),
        engine=engine, precision=precision,
    )  # fmt: skip


def load(described: Described, device: str) -> "ClipEncoder":
    """Build a described model, ready to encode on a device.

    Raises:
        PalError: If its name says untrained and it has files, or the other way round; if float16 is asked
            for on a CPU.
    """
    name, folder = described.name, described.folder
    if name.startswith(UNTRAINED) != (folder is None):
        raise PalError(
            f"{name} must have weights exactly where its name does not say untrained, "
            f"got {'no files' if folder is None else str(folder)}"
        )
    if described.precision == "float16" and device == "cpu":
        raise PalError(f"precision must be float32 or bfloat16 for {name} on a CPU, got 'float16'")
    config = config_of(name, folder)
    if name == PICKSCORE:
        from pal.encoders.pickscore import PickScoreEncoder

        return PickScoreEncoder(described, config, device)
    from pal.encoders.clip import ClipEncoder

    return ClipEncoder(described, config, device)


def weights_in(name: str, folder: Path) -> Path:
    """The file of a model's weights in its folder.

    Raises:
        PalError: If there is none that is safetensors; pickles are not opened.
    """
    wanted = (PUBLISHED[name].weights,) if name in PUBLISHED else WEIGHTS
    for file in wanted:
        if (folder / file).is_file():
            return folder / file
    raise PalError(
        f"encode.weights must lead to a folder with {' or '.join(wanted)} of {name}, got {str(folder)!r} "
        "without; a pickle is not opened"
    )


def _folder(name: str, weights: str) -> Path:
    if weights == "package":
        raise PalError(f"encode.weights must be hub or a folder for {name}, got 'package': none carries it")
    if weights != "hub":
        return Path(weights).expanduser()
    if name in PUBLISHED:
        published = PUBLISHED[name]
        return from_hub(published.repo, published.revision, ["*.json", published.weights])
    # A tag's weights move with its repository: the hash found is recorded, and a new one encodes anew.
    return from_hub(hub_repo(name), None, [CONFIG, *WEIGHTS])


def _checked(name: str, path: Path) -> str:
    """The weights' sha256, held to the published one where that is known."""
    found = sha256_of(path)
    published = PUBLISHED[name].weights_sha256 if name in PUBLISHED else None
    if published and found != published:
        raise PalError(
            f"the weights of {name} in {path} must have the published sha256 {published}, got {found}; "
            "get them again, or set encode.weights to hub"
        )
    return found


def _hash(config: Config, weights: str) -> str:
    """Over everything that shapes a vector and is a file: the configuration as read, and the weights."""
    whole = json.dumps([config.model, config.preprocess, weights], sort_keys=True, default=list)
    return hashlib.sha256(whole.encode()).hexdigest()


def _words(name: str, config: Config) -> str:
    of = config.preprocess
    fit = "shortest side and centre crop" if of["resize_mode"] == "shortest" else "squashed"
    start = "UNTRAINED weights of seed 0; " if name.startswith(UNTRAINED) else ""
    return f"{start}{of['interpolation']} to {config.size} px, {fit}; texts to 77 tokens; not normalised"
