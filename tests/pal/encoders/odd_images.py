"""Odd image files, built by code, each with what must come of it: a shape, or a part of the reason."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms

RED, BLUE = (255, 0, 0), (0, 0, 255)


def saved(image, kind, **options):
    """An image as a file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def flat(colour, size=(30, 20), mode="RGB"):
    return Image.new(mode, size, colour)


def drawn(size=(48, 32), seed=0):
    """A smooth image of many colours: nothing in it is its own mirror image."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def chunk(kind, content=b""):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, bits, colour, rows, *extra, interlaced=0):
    """A PNG of raw rows; `extra` chunks stand before the pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", pixels) + chunk(b"IEND")


def with_frame(jpeg, width, height):
    """A JPEG that claims another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def overwritten(data, at, bytes_):
    return data[:at] + bytes_ + data[at + len(bytes_) :]


def turned(image, turn, kind, **options):
    """The image stored so that EXIF orientation `turn` brings it back upright."""
    away = (
        "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_90", "TRANSVERSE", "ROTATE_270",
    )  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = image.transpose(Image.Transpose[away[turn - 2]]) if turn > 1 else image
    return saved(stored, kind, exif=exif, **options)


JPEG, PNG = saved(drawn(), "JPEG", quality=90), saved(drawn(), "PNG")
WEBP = saved(drawn(), "WEBP", lossless=True)
PROGRESSIVE = saved(drawn(), "JPEG", quality=90, progressive=True)
SCAN = JPEG.index(b"\xff\xda") + 30  # within the first scan's data
ANIMATION = {"save_all": True, "append_images": [flat(BLUE)], "duration": 100}
HALF_RED = flat((255, 0, 0, 128), (1, 1), "RGBA")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# By Adam7 a 2 x 2 image is its first pixel, the one beside it, then the row below.
INTERLACED = png(2, 2, 8, 0, [b"\x10", b"\x20", b"\x30\x40"], interlaced=1)
WHOLE, SMALL, ONE = (3, 32, 48), (3, 20, 30), (3, 1, 1)
OTHER, BOMB = "only JPEG, PNG and WebP are opened", "pixels in its header"

# What it is: the bytes, and the shape that comes out or a part of the reason why nothing does.
ODD = {
    "zero bytes": (b"", "^empty$"),
    "HTML named .jpg": (b"<!DOCTYPE html><html>404</html>", OTHER),
    "GIF, animated": (saved(flat(RED), "GIF", **ANIMATION), OTHER),
    "JPEG, cut before its end marker": (JPEG[:-2], "truncated JPEG"),
    "progressive JPEG": (PROGRESSIVE, WHOLE),
    "JPEG of 501 scans": (PROGRESSIVE[:-2] + b"\xff\xda" * 501, "more than 500 scans"),
    "lossless JPEG": (JPEG.replace(b"\xff\xc0", b"\xff\xc3"), "damaged JPEG"),
    "JPEG damaged within its data": (overwritten(JPEG, SCAN + 50, b"\x55" * 20), WHOLE),
    "JPEG that claims no height": (with_frame(JPEG, 48, 0), OTHER),
    "JPEG bomb": (with_frame(JPEG, 65_500, 65_500), BOMB),
    "JPEG with another JPEG behind it": (JPEG + JPEG, WHOLE),
    "PNG, cut": (PNG[: len(PNG) // 2], "truncated PNG"),
    "PNG with junk behind it": (PNG + b"junk", WHOLE),
    "PNG bomb": (png(30_000, 30_000, 8, 2, []), BOMB),
    "PNG with a wrong checksum": (overwritten(PNG, len(PNG) - 20, b"\0\1\2\3"), "damaged PNG"),
    "PNG whose text is a bomb": (
        png(1, 1, 8, 0, [b"\7"], chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**8)))),
        "Decompressed data too large",
    ),
    "PNG with a broken profile": (png(1, 1, 8, 0, [b"\7"], chunk(b"iCCP", b"p\0\0broken")), ONE),
    "PNG, palette without colours": (png(1, 1, 8, 3, [b"\7"]), "damaged PNG"),
    "PNG, 1 bit": (saved(flat(1, mode="1"), "PNG"), SMALL),
    "PNG, interlaced": (INTERLACED, (3, 2, 2)),
    "WebP, cut": (WEBP[:-1], "damaged"),
    "WebP, damaged": (overwritten(WEBP, 40, b"\xff" * 60), "damaged WEBP"),
    "1 x 65,501": (saved(flat(128, (1, 65_501), "L"), "PNG"), (3, 65_501, 1)),
}
# Chunks by hand: Pillow writes no 16-bit colour. Each sample's upper byte is what remains; alpha is on white.
PIXELS = {
    "16-bit grey": (png(1, 1, 16, 0, [b"\x80\x40"]), (0x80, 0x80, 0x80)),
    "16-bit grey, transparent": (png(1, 1, 16, 0, [b"\x80\x40"], chunk(b"tRNS", b"\x80\x40")), (255,) * 3),
    "16-bit colour": (png(1, 1, 16, 2, [b"\x80\x40\x01\xff\xff\xff"]), (0x80, 0x01, 0xFF)),
    # 128/255 of red on white: 255 * (1 - 128/255) = 127 in the other channels.
    "half transparent": (saved(HALF_RED, "PNG"), (255, 127, 127)),
    "half transparent WebP": (saved(HALF_RED, "WEBP", lossless=True), (255, 127, 127)),
    "grey and alpha": (saved(flat((0, 128), (1, 1), "LA"), "PNG"), (127, 127, 127)),
    "palette, half transparent": (
        png(1, 1, 8, 3, [b"\0"], chunk(b"PLTE", bytes(RED)), chunk(b"tRNS", b"\x80")),
        (255, 127, 127),
    ),
    # No cyan, full magenta and yellow, by the plain formula: red, to within JPEG's rounding.
    "CMYK JPEG": (saved(flat((0, 255, 255, 0), mode="CMYK"), "JPEG"), RED, 3),
    # A profile changes no pixel.
    "grey JPEG with a colour profile": (saved(flat(128, mode="L"), "JPEG", icc_profile=SRGB), (128,) * 3),
    "colour key": (png(1, 1, 8, 2, [b"\1\2\3"], chunk(b"tRNS", b"\0\1\0\2\0\3")), (255, 255, 255)),
    "animated PNG": (saved(flat(RED), "PNG", **ANIMATION), RED),
    "animated WebP": (saved(flat(RED), "WEBP", lossless=True, **ANIMATION), RED),
}
