"""What a picture's file says of itself before anything is decoded: its format, size and turn.

Read from the headers of JPEG, PNG and WebP in plain Python: a decoder is only let at a file whose size is
known to be acceptable, and gets no more of it than shapes the pixels. Errors are `PalError`s whose text is
a reason that can stand in a list beside the picture's name.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pal.errors import PalError

MAX_PIXELS = 64_000_000
MAX_SIDE = 65_500  # JPEG's own limit, in libjpeg
MAX_SCANS = 500  # a progressive JPEG of thousands of scans is small and takes minutes
EXIF, ORIENTATION = b"Exif\0\0", 0x0112
PNG = b"\x89PNG\r\n\x1a\n"
# The chunks that shape PNG pixels. Text may be a zip bomb; profiles, gamma and animation are not applied.
PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
OTHERS = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive",
    b"\0\0\x01\0": "an icon",
    b"\0\0\0\x0cjP": "a JPEG 2000",
    b"8BPS": "a Photoshop file",
    b"version https://git-lfs": "a Git LFS pointer",
}


@dataclass(frozen=True)
class Header:
    """What a picture's file says before it is decoded.

    Args:
        kind: JPEG, PNG or WEBP.
        width: Of the pixels as stored, before the turn.
        height: Of the pixels as stored, before the turn.
        turn: EXIF orientation, 1 (upright) to 8; whatever is malformed there counts as upright.
        components: Of a JPEG: 1 grey, 3 colour, 4 CMYK; 0 for the other formats.
        lean: The file without what does not shape its pixels.
    """

    kind: str
    width: int
    height: int
    turn: int
    components: int
    lean: bytes


def header(data: bytes) -> Header:
    """Read a picture's header and hold its size to the limits.

    Raises:
        PalError: If it is no JPEG, PNG or WebP, if it is cut short, damaged, or has too many pixels.
    """
    if not data:
        raise PalError("empty")
    if data.startswith(b"\xff\xd8\xff"):
        found = _jpeg(data)
    elif data.startswith(PNG):
        found = _png(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        found = _webp(data)
    else:
        raise PalError(f"{_other(data)}; only JPEG, PNG and WebP are opened")
    width, height = found.width, found.height
    if min(width, height) < 1:
        raise PalError(f"{width:,} x {height:,} pixels in its header; each side must be at least 1")
    if width * height > MAX_PIXELS:
        raise PalError(f"{width:,} x {height:,} pixels in its header, more than {MAX_PIXELS:,}")
    if max(width, height) > MAX_SIDE:
        raise PalError(f"{width:,} x {height:,} pixels in its header; a side has at most {MAX_SIDE:,}")
    return found


def _other(data: bytes) -> str:
    for start, what in OTHERS.items():
        if data.startswith(start):
            return what
    if data[4:8] == b"ftyp":
        return "an AVIF, HEIF or video file"
    text = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if b"<svg" in text:
        return "an SVG"
    return "an XML file" if text.startswith(b"<?xml") else "no known picture format"


def _jpeg(data: bytes) -> Header:
    frame, turn, kept, tail = None, 1, [data[:2]], 2
    for marker, start, body, end in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = frame or _frame(marker, data[body:end])
        if marker == 0xE1 and turn == 1 and data[body:end].startswith(EXIF):
            turn = _turn(data[body + len(EXIF) : end])
        # Of the application's segments only Adobe's says how the colours are stored; the rest are
        # profiles, thumbnails and text, and a second picture that Pillow would warn of.
        if marker == 0xEE or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[start:end])
        tail = end
    if frame is None:
        raise PalError("damaged JPEG: no frame header before the picture")
    height, width, components, progressive = frame
    if progressive and data.count(b"\xff\xda") > MAX_SCANS:
        raise PalError(f"a progressive JPEG of more than {MAX_SCANS} scans")
    return Header("JPEG", width, height, turn, components, b"".join([*kept, data[tail:]]))


def _segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Marker, start, content's start and end of each segment up to the first scan, as libjpeg finds them."""
    at = 2
    while True:
        start = data.find(b"\xff", at)
        at = start
        while 0 <= at < len(data) and data[at] == 0xFF:
            at += 1
        if start < 0 or at + 3 > len(data):
            raise PalError("truncated JPEG: it ends within its header")
        marker = data[at]
        at += 1
        if marker == 0 or marker == 0x01 or 0xD0 <= marker <= 0xD7:
            continue
        if marker in (0xD8, 0xD9):
            raise PalError("damaged JPEG: no picture after its header")
        length = int.from_bytes(data[at : at + 2])
        if length < 2:
            raise PalError("damaged JPEG: a segment shorter than its own length")
        if at + length > len(data):
            raise PalError("truncated JPEG: it ends within its header")
        yield marker, start, at + 2, at + length
        if marker == 0xDA:
            return
        at += length


def _frame(marker: int, content: bytes) -> tuple[int, int, int, bool]:
    """Height, width, components, and whether it is progressive."""
    if marker not in (0xC0, 0xC1, 0xC2):
        raise PalError(f"a lossless, arithmetic or hierarchical JPEG ({marker:#x}), which is not opened")
    if len(content) < 6:
        raise PalError("damaged JPEG: a frame header that is too short")
    bits, height, width, components = struct.unpack(">BHHB", content[:6])
    if bits != 8:
        raise PalError(f"a JPEG of {bits} bits a sample; only 8 are opened")
    if components not in (1, 3, 4):
        raise PalError(f"a JPEG of {components} components; only 1, 3 and 4 are opened")
    return height, width, components, marker == 0xC2


def _png(data: bytes) -> Header:
    at, kept, turn, size = len(PNG), [PNG], 1, None
    while True:
        if at + 12 > len(data):
            raise PalError("truncated PNG: it ends without its end chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise PalError(f"truncated PNG: it ends within a chunk {kind!r}")
        if size is None and (kind != b"IHDR" or length != 13):
            raise PalError("damaged PNG: its first chunk is not its header")
        if kind in PNG_PIXELS:
            if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
                raise PalError(f"damaged PNG: the checksum of a chunk {kind!r} does not fit")
            kept.append(data[at:end])
        elif not kind[:1].islower():
            raise PalError(f"damaged PNG: a critical chunk {kind!r} that nobody knows")
        elif kind == b"eXIf":
            turn = _turn(data[at + 8 : end - 4])
        size = size or struct.unpack_from(">II", data, at + 8)
        if kind == b"IEND":
            return Header("PNG", *size, turn, 0, b"".join(kept))
        at = end


def _webp(data: bytes) -> Header:
    end = int.from_bytes(data[4:8], "little") + 8
    if end > len(data) or len(data) < 30:
        raise PalError("truncated WebP: it is shorter than its header says")
    first, turn, at = data[12:16], 1, 12
    if first == b"VP8X":
        width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (24, 27))
    elif first == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif first == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(data[i : i + 2], "little") & 0x3FFF for i in (26, 28))
    else:
        raise PalError("damaged WebP: no picture after its header")
    while at + 8 <= end:
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"EXIF":
            turn = _turn(data[at + 8 : at + 8 + length].removeprefix(EXIF))
        at += 8 + length + length % 2
    return Header("WEBP", width, height, turn, 0, data[:end])


def _turn(tiff: bytes) -> int:
    """The orientation in the first directory of EXIF data; 1 where there is none, or nothing sensible."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, first)
        for entry in range(entries):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, first + 2 + 12 * entry)
            if tag == ORIENTATION:
                return value if (kind, count) == (3, 1) and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
