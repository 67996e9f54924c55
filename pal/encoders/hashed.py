"""A text encoder without a model: a bag of hashed words, for trying things out and for tests.

Its vectors know spelling and nothing of meaning; the name that artefacts carry says so.
"""

import hashlib
import re
from functools import cache
from typing import Any

from pal.encoders.base import Described

DIM = 256
WORD = re.compile(r"\w+")


def describe(name: str, weights: str, *, precision: str, engine: str) -> Described:
    """It has no files: precision and engine change nothing."""
    words = "casefolded words, hashed into signed buckets, unit length"
    return Described(name, DIM, "", "", words, None, "hashed")


def load(described: Described, device: str) -> "HashedWords":
    """Ready to encode, on the CPU alone."""
    return HashedWords()


class HashedWords:
    """Feature hashing (Weinberger et al. 2009): each word adds +1 or -1 to the bucket that its hash names."""

    def lengths(self, texts: list[str]) -> list[int]:
        """Words in each text, at least 1."""
        return [max(1, len(WORD.findall(text))) for text in texts]

    def encode(self, texts: list[str]) -> Any:
        """Vectors of texts: (len(texts), 256) float32, of unit length, or zero where there is no word."""
        import numpy as np

        out = np.zeros((len(texts), DIM), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in WORD.findall(text.casefold()):
                bucket, sign = _bucket(word)
                out[row, bucket] += sign
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)


@cache
def _bucket(word: str) -> tuple[int, int]:
    digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "little") % DIM, 1 if digest[4] & 1 else -1
