"""Colour filters over decoded pictures, in linear light: what a lens of that colour would do.

A filter is a short text, `mix #1f5fff 0.35` or `multiply #1f5fff 0.35`, which stands in the items table and
goes into the item's id. Each channel passes through a table of 256 entries, so that the same filter gives
the same bytes everywhere.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pal.errors import shorten
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from torch import Tensor

FORM = re.compile(r"(mix|multiply) #([0-9a-f]{6}) (\d+(?:\.\d+)?)")
MAX_LENGTH = 40


@dataclass(frozen=True)
class Colouring:
    """A filter.

    Args:
        blend: mix: towards the colour. multiply: by the colour, as glass of that colour does.
        colour: Red, green and blue as sRGB values from 0 to 255.
        strength: How far, above 0 (not at all) and at most 1 (all the way).
    """

    blend: str
    colour: tuple[int, int, int]
    strength: float


def spec(blend: str, colour: str, strength: float) -> str:
    """A filter as the text that items carry; a colour's upper and lower case are one filter."""
    text = f"{blend} {colour.lower()} {strength:.6f}".rstrip("0").rstrip(".")
    parse(text)
    return text


def parse(text: str) -> Colouring:
    """Read a filter's text.

    Raises:
        PipelineError: If it is none.
    """
    match = FORM.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None or not 0 < float(match[3]) <= 1:
        raise PipelineError(
            "a colour filter must be `mix` or `multiply`, a colour as #rrggbb and a strength above 0 and at "
            f"most 1, got {shorten(text)}; run `dvc repro -f recolour`"
        )
    red, green, blue = bytes.fromhex(match[2])
    return Colouring(match[1], (red, green, blue), float(match[3]))


def apply(pixels: "Tensor", text: str) -> "Tensor":
    """Put a filter over a picture.

    Args:
        pixels: Red, green and blue, uint8 of shape (3, height, width), sRGB.
        text: The filter.

    Returns:
        The same shape and type.

    Raises:
        PipelineError: If the text is no filter.
        ValueError: If the pixels are not as above.
    """
    import torch

    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(
            f"pixels must be uint8 of shape (3, height, width), got {pixels.dtype} of {tuple(pixels.shape)}"
        )
    table = torch.tensor(tables(text), dtype=torch.uint8)
    return torch.stack([table[channel][pixels[channel].int()] for channel in range(3)])


@lru_cache(maxsize=64)
def tables(text: str) -> tuple[tuple[int, ...], ...]:
    """What each of the 256 values becomes, for red, green and blue."""
    how = parse(text)
    return tuple(
        tuple(to_srgb(_blend(how, to_linear(value), to_linear(colour))) for value in range(256))
        for colour in how.colour
    )


def _blend(how: Colouring, light: float, colour: float) -> float:
    if how.blend == "mix":
        return (1 - how.strength) * light + how.strength * colour
    return light * (1 - how.strength + how.strength * colour)


def to_linear(value: int) -> float:
    """The light, from 0 to 1, that an sRGB value from 0 to 255 stands for (IEC 61966-2-1)."""
    share = value / 255
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


def to_srgb(light: float) -> int:
    """The sRGB value from 0 to 255 nearest to an amount of light from 0 to 1."""
    share = light * 12.92 if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    return min(255, max(0, int(share * 255 + 0.5)))
