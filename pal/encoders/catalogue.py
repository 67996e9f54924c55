"""The encoders by name: each belongs to a family, a module that finds its files and builds it."""

from types import ModuleType

from pal.encoders.base import Described, ImageEncoder, TextEncoder
from pal.errors import PalError

HASHED_WORDS = "hashed-words"
CLASSICAL = "classical"
SENTENCE = "sentence-transformers:"
PREFIXES = ("open_clip:", SENTENCE, "untrained-")


def describe(
    name: str, weights: str = "package", *, precision: str = "float32", engine: str = "torch"
) -> Described:
    """Find an encoder's files and hold its weights to the published hash.

    Args:
        name: One of `names()`; or any open_clip model, `open_clip:ViT-B-32/laion2b_s34b_b79k` or
            `open_clip:hf-hub:ORG/NAME`; any sentence-transformers model, `sentence-transformers:ORG/NAME`;
            or an open_clip architecture without trained weights, `untrained-vit-h-14`.
        weights: `package` (an installed package, found by its metadata, its code never imported), `hub`, or
            a folder that holds the model's files.
        precision: float32, bfloat16 or float16: what the network computes in.
        engine: torch, compile or onnx.

    Raises:
        PalError: If the name is unknown, the files are not there, or the weights are not the published ones.
    """
    return _family(name).describe(name, weights, precision=precision, engine=engine)


def load(described: Described, device: str = "cpu") -> TextEncoder | ImageEncoder:
    """Build a described encoder, ready to encode on a device."""
    return _family(described.name).load(described, device)


def check_name(name: str) -> None:
    """Hold an encoder's name to those that there are; cheap, no file is looked at.

    Raises:
        PalError: If the name is none of `names()` and starts with none of `PREFIXES`.
    """
    _family(name)


def names() -> tuple[str, ...]:
    """The encoders with a name of their own; `PREFIXES` lead to any others."""
    from pal.encoders import clip_models, sentence_models

    return (*sentence_models.PUBLISHED, *clip_models.PUBLISHED, HASHED_WORDS, CLASSICAL)


def _family(name: str) -> ModuleType:
    from pal.encoders import clip_models, sentence_models

    if name == HASHED_WORDS:
        from pal.encoders import hashed

        return hashed
    if name == CLASSICAL:
        from pal.encoders import classical

        return classical
    if name in clip_models.PUBLISHED or name.startswith(clip_models.PREFIXES):
        return clip_models
    if name in sentence_models.PUBLISHED or name.startswith(SENTENCE):
        return sentence_models
    raise PalError(
        f"encoder must be one of {', '.join(names())}, or start with {', '.join(PREFIXES)}, got {name!r}"
    )
