"""What every text encoder offers, and what identifies one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class Described:
    """Which encoder, exactly: what is stored beside every vector that it made.

    Args:
        name: Its name in params.yaml.
        dim: Width of its vectors.
        weights_sha256: Hash of its weights; empty for an encoder that has none.
        files_sha256: Hash over the weights, configuration and tokeniser files.
        preprocessing: In words: what happens to a text before and after the network.
        folder: Where its files lie on this machine; None for an encoder that has none.
    """

    name: str
    dim: int
    weights_sha256: str
    files_sha256: str
    preprocessing: str
    folder: Path | None


@runtime_checkable
class TextEncoder(Protocol):
    """A frozen map from texts to vectors."""

    def lengths(self, texts: list[str]) -> list[int]:
        """Tokens that each text makes, as encoded: cut to the encoder's limit."""

    def encode(self, texts: list[str]) -> Any:
        """Vectors of texts, encoded as one batch: a (len(texts), dim) float32 numpy array."""
