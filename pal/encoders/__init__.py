"""Frozen encoders: texts and pictures in, vectors out. Heads never import this package.

`describe` says which weights an encoder name stands for and checks them, in a second and without torch;
`load` builds the encoder.
"""

from pal.encoders.base import ENCODING_VERSION, Described, ImageEncoder, TextEncoder
from pal.encoders.catalogue import check_name, describe, load, names

__all__ = [
    "ENCODING_VERSION",
    "Described",
    "ImageEncoder",
    "TextEncoder",
    "check_name",
    "describe",
    "load",
    "names",
]
