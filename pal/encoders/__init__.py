"""Frozen encoders: texts and images in, vectors out.

`describe` says which weights an encoder name stands for and checks them, in a second and without torch;
`load` builds the encoder. `registry.ENCODERS` lists the modules.
"""

from pal.encoders.registry import (
    ENCODING_VERSION,
    Described,
    ImageEncoder,
    TextEncoder,
    check_name,
    default_weights,
    describe,
    load,
    modalities,
    names,
    plain_name,
)

__all__ = [
    "ENCODING_VERSION",
    "Described",
    "ImageEncoder",
    "TextEncoder",
    "check_name",
    "default_weights",
    "describe",
    "load",
    "modalities",
    "names",
    "plain_name",
]
