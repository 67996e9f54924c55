"""The encoders by name: each belongs to a family, a module that finds its files and builds it."""

from types import ModuleType

from pal.encoders.base import Described, ImageEncoder, TextEncoder
from pal.errors import PalError

HASHED_WORDS = "hashed-words"


def describe(
    name: str, weights: str = "package", *, precision: str = "float32", engine: str = "torch"
) -> Described:
    """Find an encoder's files and hold its weights to the published hash.

    Args:
        name: An encoder's name; `names()` lists those with pinned weights.
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


def names() -> tuple[str, ...]:
    """The encoders with a name of their own; any open_clip or sentence-transformers model has one too."""
    from pal.encoders import sentence_models

    return (*sentence_models.PUBLISHED, HASHED_WORDS)


def _family(name: str) -> ModuleType:
    if name == HASHED_WORDS:
        from pal.encoders import hashed as family
    else:
        from pal.encoders import sentence_models as family

        if name not in family.PUBLISHED:
            raise PalError(f"encoder must be one of {', '.join(names())}, got {name!r}")
    return family
