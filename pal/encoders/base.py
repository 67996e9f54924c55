"""What every encoder offers, and what identifies one."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

ENCODING_VERSION = 1
"""Part of the key under which finished vectors are stored. Raise it by one when a change of code changes the
vectors of any encoder beyond rounding (a tokeniser's limit, the decoding of images, a layer): everything is
then encoded again. `tests/test_golden.py` holds the vectors of this version."""


@dataclass(frozen=True)
class Described:
    """Which encoder, exactly: what is stored beside every vector that it made.

    Args:
        name: Its name in params.yaml. One without trained weights says so: `untrained-...`.
        dim: Width of its vectors.
        weights_sha256: Hash of its weights; empty for an encoder that has none, and for untrained ones.
        files_sha256: Hash over the weights, configuration and tokeniser files.
        preprocessing: In words: what happens to an item before and after the network.
        folder: Where its files lie on this machine; None for an encoder that has none.
        module: The module of this package that runs it, whose code shapes its vectors: `sentence`.
        modalities: What it reads: text, image, or both into one space.
        engine: What runs the network: torch, compile (torch.compile) or onnx (ONNX Runtime).
        precision: What the network computes in: float32, bfloat16 or float16.
    """

    name: str
    dim: int
    weights_sha256: str
    files_sha256: str
    preprocessing: str
    folder: Path | None
    module: str
    modalities: tuple[str, ...] = ("text",)
    engine: str = "torch"
    precision: str = "float32"


@runtime_checkable
class TextEncoder(Protocol):
    """A frozen map from texts to vectors."""

    def lengths(self, texts: list[str]) -> list[int]:
        """Tokens that each text makes, as encoded: cut to the encoder's limit."""

    def encode(self, texts: list[str]) -> Any:
        """Vectors of texts, encoded as one batch: a (len(texts), dim) float32 numpy array."""


@runtime_checkable
class ImageEncoder(Protocol):
    """A frozen map from pictures to vectors, in two steps: per picture on a worker, per batch on the device.

    Pictures are uint8 RGB tensors of shape (3, height, width); they stay uint8 until they are on the device.
    """

    def shrink(self, pixels: "Tensor") -> "Tensor":
        """One decoded picture as the network takes it: (3, size, size) uint8, the same size for all."""

    def encode_images(self, batch: "Tensor") -> Any:
        """Vectors of shrunk pictures: (n, 3, size, size) uint8 in, (n, dim) float32 numpy array out."""
