"""Frozen encoders: texts and images in, vectors out. Their registry, and what every encoder offers.

`describe` says which weights an encoder name stands for and checks them, in a second and without torch;
`load` builds the encoder. To add one: a line in `ENCODERS`, and a module with
    NAMES        the encoders with a name of their own
    PREFIXES     how any other of its names starts: `open_clip:`
    describe(name, weights, *, precision, engine) -> Described
    load(described, device) -> TextEncoder | ImageEncoder
and, if it has them,
    OPTIONS      what a name may say, as `NAME+instruction=query: `: given as texts to `describe` and `load`
    IN_PACKAGES  the names whose weights come with this library's own dependencies
    READS        modalities by name, for what is refused before any file is looked at; "" is all other names
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from pal.errors import PalError

if TYPE_CHECKING:
    from torch import Tensor

# Named and not imported: each module imports this one, and a program needs one of them at most.
ENCODERS = {
    "sentence-transformers": "pal.encoders.sentence_transformers",
    "transformers": "pal.encoders.transformers",
    "open_clip": "pal.encoders.open_clip",
    "model-free": "pal.encoders.model_free",
}

ENCODING_VERSION = 1
"""Part of the key under which finished vectors are stored. Raise it by one when a change of code changes the
vectors of any encoder beyond rounding (a tokeniser's limit, the decoding of images, a layer): everything is
then encoded again. `tests/test_golden.py` holds the vectors of this version."""

PRECISIONS = ("float32", "bfloat16", "float16")
# A model of the hub, `ORG/NAME` or `ORG/NAME@REVISION`.
REPO = r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w-][\w./-]*))?"
# What a name may say behind itself; a text of an instruction may hold plus signs of its own.
OPTION = re.compile(r"\+(?=(?:layer|pooling|instruction)=)")
MEASURED = "+measures"  # at the end of a name
MEASURES = "log characters", "log sentences", "letters a word", "log commas", "log questions", "capitals"
MEASURES_SPREAD = 0.3  # what they are multiplied by: their share of the length of a vector of unit length
SENTENCE_END = re.compile(r"[.!?]+")
LONGEST = 2_000_000  # characters of the longest text that is read; all but its first tokens are cut anyway
INVISIBLE = {"Cc", "Cf", "Cn", "Co", "Zs", "Zl", "Zp"}
"""Unicode categories without a glyph: controls, marks of direction, unassigned and private ones, spaces."""


@dataclass(frozen=True)
class Described:
    """Which encoder, exactly: what is stored beside every vector that it made."""

    name: str  # in params.yaml; one without trained weights says so: `untrained-...`
    dim: int  # width of its vectors
    weights_sha256: str  # empty for an encoder that has no weights, and for untrained ones
    files_sha256: str  # over the weights, configuration and tokeniser files
    preprocessing: str  # in words: what happens to an item before and after the network
    folder: Path | None  # of its files on this machine, if it has any
    family: str  # its module's key in `ENCODERS`
    modalities: tuple[str, ...] = ("text",)  # that it reads: text, image, or both into one space
    engine: str = "torch"  # that runs the network: torch, or onnx (ONNX Runtime)
    precision: str = "float32"  # that the network computes in: one of `PRECISIONS`
    libraries: tuple[str, ...] = ()  # another version of one of these has everything encoded again


@runtime_checkable
class TextEncoder(Protocol):
    """A frozen map from texts to vectors."""

    def lengths(self, texts: list[str]) -> list[int]:
        """Tokens that each text makes, as encoded: cut to the encoder's limit."""

    def encode(self, texts: list[str]) -> Any:
        """Vectors of texts, encoded as one batch: a (len(texts), dim) float32 numpy array."""


@runtime_checkable
class ImageEncoder(Protocol):
    """A frozen map from images to vectors, in two steps: per image on a worker, per batch on the device.

    Images are uint8 RGB tensors of shape (3, height, width); they stay uint8 until they are on the device.
    """

    def shrink(self, pixels: "Tensor") -> "Tensor":
        """One decoded image as the network takes it: (3, size, size) uint8, the same size for all."""

    def encode_images(self, batch: "Tensor") -> Any:
        """Vectors of shrunk images: (n, 3, size, size) uint8 in, (n, dim) float32 numpy array out."""


def describe(
    name: str, weights: str = "package", *, precision: str = "float32", engine: str = "torch"
) -> Described:
    """Find an encoder's files and hold its weights to the published hash.

    Args:
        name: One of `names()`; or any open_clip model, `open_clip:ViT-B-32/laion2b_s34b_b79k` or
            `open_clip:hf-hub:ORG/NAME`; any sentence-transformers model, `sentence-transformers:ORG/NAME`;
            an open_clip architecture without trained weights, `untrained-vit-h-14`; or hidden states of a
            language model, `transformers:ORG/NAME+layer=20+pooling=mean`. `+instruction=TEXT` puts a text
            before every one; `+measures` at the end lets six measures of a text follow its vector.
        weights: `package` (an installed package, found by its metadata, its code never imported), `hub`, or
            a folder that holds the model's files.
        precision: One of `PRECISIONS`: what the network computes in.
        engine: torch or onnx.
    """
    plain, options, with_measures = split_name(name)
    described = check_name(name).describe(plain, weights, precision=precision, engine=engine, **options)
    if not with_measures:
        return replace(described, name=name)
    if "text" not in described.modalities:
        raise PalError(f"encoder must read texts to take their measures, got {name!r}")
    words = f"{described.preprocessing}; {len(MEASURES)} measures of the text added"
    dim = described.dim + len(MEASURES)
    return replace(described, name=name, dim=dim, preprocessing=words, modalities=("text",))


def load(described: Described, device: str = "cpu") -> TextEncoder | ImageEncoder:
    """Build a described encoder, ready to encode on a device."""
    plain, options, with_measures = split_name(described.name)
    dim = described.dim - len(MEASURES) * with_measures
    try:
        if "image" in described.modalities:
            import_module("torchvision")  # by which pictures are read
        module = import_module(ENCODERS[described.family])
        encoder = module.load(replace(described, name=plain, dim=dim), device, **options)
    except ModuleNotFoundError as error:
        install = "pip install 'pal-pluralistic-alignment[images]'"
        raise PalError(f"{described.name} needs the package {error.name}; run `{install}`") from None
    return MeasuredTexts(encoder) if with_measures else encoder


def names() -> tuple[str, ...]:
    """The encoders with a name of their own; prefixes lead to any others."""
    return tuple(name for path in ENCODERS.values() for name in import_module(path).NAMES)


def split_name(name: str) -> tuple[str, dict[str, str], bool]:
    """An encoder's name alone, the options in it, and whether measures of the text follow its vectors."""
    whole = name.removesuffix(MEASURED)
    plain, *options = OPTION.split(whole)
    return plain, dict(option.split("=", 1) for option in options), whole != name


def plain_name(name: str) -> str:
    """An encoder's name without what it says of how texts are encoded: by it weights are found."""
    return split_name(name)[0]


def check_name(name: str) -> Any:
    """The module of an encoder's name; a PalError if none knows it. No file is looked at."""
    prefixes: list[str] = []
    plain, options, _ = split_name(name)
    for path in ENCODERS.values():
        module = import_module(path)
        if plain in module.NAMES or plain.startswith(tuple(module.PREFIXES)):
            for option in options:
                if option not in getattr(module, "OPTIONS", ()):
                    raise PalError(
                        f"encoder must be {plain} without +{option}=, which it does not take, got {name!r}"
                    )
            return module
        prefixes += module.PREFIXES
    known = f"one of {', '.join(names())}, or start with {', '.join(prefixes)}"
    raise PalError(f"encoder must be {known}, got {name!r}")


def default_weights(name: str) -> str:
    """Where an encoder's weights come from unless the user says: its package where it is installed anyway."""
    packaged = getattr(check_name(name), "IN_PACKAGES", ())
    return "package" if plain_name(name) in packaged else "hub"


def modalities(name: str) -> tuple[str, ...]:
    """What an encoder reads, without a look at its files; empty where its module's READS does not say."""
    if name == "none":
        return ()
    reads = getattr(check_name(name), "READS", {})
    return reads.get(plain_name(name), reads.get("", ()))


def complaint(text: str) -> str | None:
    """What is wrong with a text as an encoder's input, such as "is empty"; None where nothing is.

    Callers ask it before they encode. Nothing is refused that an encoder copes with: long texts are cut to
    its limit, and a text of which a tokeniser keeps nothing, such as a lone accent, has that of no text.
    """
    if len(text) > LONGEST:
        return f"is longer than {LONGEST:,} characters (got {len(text):,})"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no character"
    if not text:
        return "is empty"
    if all(unicodedata.category(character) in INVISIBLE for character in text):
        return "holds nothing but spaces and invisible characters"
    return None


def batches(lengths: Sequence[int], budget: int) -> list[int]:
    """Where batches of texts of these lengths begin, ascending in tokens, and where the last ends.

    With padding a batch has at most `budget` tokens, or is one long text.
    """
    edges: list[int] = []
    for row, length in enumerate(lengths):
        if not edges or length * (row + 1 - edges[-1]) > budget:
            edges.append(row)
    return [*edges, len(lengths)]


def measure(text: str) -> list[float]:
    """Length and punctuation of a text, each number shifted and scaled by what is usual in English.

    A text longer than the encoder's limit is cut before it is encoded; how long it was is in no vector. On
    real people's choices between two arguments these numbers were worth as much as the embedding itself.
    """
    words = text.split()
    capitals = sum(character.isupper() for character in text) / max(1, len(text))
    numbers = (
        np.log1p(len(text)) - 5,
        np.log1p(len(SENTENCE_END.findall(text))) - 1,
        sum(map(len, words)) / max(1, len(words)) / 5 - 1,
        np.log1p(text.count(",")),
        np.log1p(text.count("?")),
        10 * capitals - 0.3,
    )
    return [MEASURES_SPREAD * float(number) for number in numbers]


class MeasuredTexts:
    """An encoder of texts whose vectors end with the text's measures."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def lengths(self, texts: list[str]) -> list[int]:
        """See `TextEncoder`."""
        return self.encoder.lengths(texts)

    def encode(self, texts: list[str]) -> np.ndarray:
        """See `TextEncoder`."""
        measures = np.array([measure(text) for text in texts], np.float32).reshape(len(texts), len(MEASURES))
        return np.concatenate([self.encoder.encode(texts), measures], 1)
