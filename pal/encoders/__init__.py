"""Frozen encoders: texts in, vectors out. Heads never import this package.

`describe` says which weights an encoder name stands for and checks them, in a second and without torch;
`load` builds the encoder.
"""

from pal.encoders.base import Described, TextEncoder
from pal.encoders.catalogue import NAMES, describe, load

__all__ = ["NAMES", "Described", "TextEncoder", "describe", "load"]
