"""Whether a PNG holds all its rows: Pillow shows black where the compressed data end early."""

import struct
import zlib
from collections.abc import Iterator

CHANNELS = {
    0: 1,
    2: 3,
    3: 1,
    4: 2,
    6: 4,
}  # by colour type: grey, colour, palette, grey + alpha, colour + alpha
# First row and column, and steps between them, of the seven passes of an interlaced picture.
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
STEP = 1 << 20  # decompressed at a time, bytes


def all_there(png: bytes) -> bool:
    """Whether a well-formed PNG's pixel data are as long as its header asks.

    Args:
        png: Its chunks, their lengths and order known to be right.
    """
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", png, 16)
    bits *= CHANNELS.get(colour, 0)
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    missing = 0
    for row, column, down, across in passes:
        rows, columns = -(-(height - row) // down), -(-(width - column) // across)
        # Each row begins with the byte that names its filter; a pass without columns has no rows.
        missing += rows * (1 + (columns * bits + 7) // 8) if rows > 0 and columns > 0 else 0
    stream = zlib.decompressobj()
    for data in _pixels(png):
        while data and missing > 0 and not stream.eof:
            missing -= len(stream.decompress(data, STEP))
            data = stream.unconsumed_tail
    return missing <= 0


def _pixels(png: bytes) -> Iterator[bytes]:
    at = 8
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        if kind == b"IDAT":
            yield png[at + 8 : at + 8 + length]
        at += 12 + length
