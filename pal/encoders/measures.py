"""Measures of a text beside its vector: length and punctuation, which encoders tell badly and people mind.

A text longer than the encoder's limit is cut before it is encoded; how long it was is in no vector. On real
people's choices between two arguments six such numbers were worth as much as the embedding itself.
"""

import re
from typing import Any

import numpy as np

SUFFIX = "+measures"
SPREAD = 0.3  # what the measures are multiplied by: their share of the length of a vector of unit length
SENTENCE_END = re.compile(r"[.!?]+")
NAMES = ("log characters", "log sentences", "letters a word", "log commas", "log question marks", "capitals")
"""The measures, in order; each is shifted and scaled by what is usual in English, so as to lie around 0."""


def measure(text: str) -> list[float]:
    """The measures of a text, by which its vector is longer."""
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
    return [SPREAD * float(number) for number in numbers]


class MeasuredTexts:
    """An encoder of texts whose vectors end with the text's measures.

    Args:
        encoder: The encoder that makes the rest of each vector.
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    def lengths(self, texts: list[str]) -> list[int]:
        """See `TextEncoder`."""
        return self.encoder.lengths(texts)

    def encode(self, texts: list[str]) -> np.ndarray:
        """See `TextEncoder`."""
        measures = np.array([measure(text) for text in texts], np.float32).reshape(len(texts), len(NAMES))
        return np.concatenate([self.encoder.encode(texts), measures], 1)
