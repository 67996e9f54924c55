"""Images: decode untrusted bytes safely, prefetch on threads, resize and crop on uint8.

Only JPEG, PNG and WebP are opened, told by their content and not by their name. Pillow reads the header
first, and an image of too many pixels is refused before any is decoded. What comes out is what a browser
shows: EXIF's orientation is applied, transparency lies on white, and of an animation the first frame is taken
(of a PNG the picture that stands for it). 16 bits a sample become the upper 8; CMYK becomes RGB by the plain
formula, without colour profiles and gamma. What follows an image's end is ignored; one that ends early is
refused.
"""

import io
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from pal.errors import PalError

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 64_000_000
MAX_SCANS = 500  # a progressive JPEG of thousands of scans is small and takes minutes
LONGEST = 16  # times the short side, to which an image is cropped before it is resized
RGB = 3  # torchvision.io.ImageReadMode.RGB


@cache
def decode_jpeg() -> Callable[..., Tensor] | None:
    """The operator beneath torchvision.io.decode_jpeg, which warns that a later torchvision drops it."""
    import torchvision.io  # noqa: F401 - registers torch.ops.image, and takes seconds

    return getattr(torch.ops.image, "decode_jpeg", None)


def read(picture: bytes | Image.Image) -> Tensor:
    """Decode a JPEG, PNG or WebP file's bytes, or an image of Pillow's in memory.

    Gives RGB, uint8, (3, height, width), upright, not always contiguous; or a PalError with the reason alone,
    to be put beside the image's name: `damaged PNG: ...`.
    """
    if not picture:
        raise PalError("empty")
    data = picture if isinstance(picture, bytes) else b""
    kind = "file"
    try:
        if not data and picture.mode in ("F", "I"):
            raise PalError(f"its mode {picture.mode} does not say what white is; convert it to RGB")
        opened = Image.open(io.BytesIO(data), formats=FORMATS) if data else ImageOps.exif_transpose(picture)
        with opened as image:
            kind = (image.format or "picture").replace("MPO", "JPEG")
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width:,} x {image.height:,}"
                raise PalError(f"{size} pixels in its header, more than {MAX_PIXELS:,}")
            if image.info.get("progressive") and data.count(b"\xff\xda") > MAX_SCANS:
                raise PalError(f"a progressive JPEG of more than {MAX_SCANS} scans")
            return _decode(image, data)
    except PalError:
        raise
    except UnidentifiedImageError:
        raise PalError("no image, or damaged in its header; only JPEG, PNG and WebP are opened") from None
    # Pillow looks at the size while it opens a file: it warns from 89 million pixels and raises from 179.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PalError(f"more than {MAX_PIXELS:,} pixels in its header") from None
    except Exception as error:  # whatever a decoder raises is about this file
        reason = re.sub(r"^.*\.cpp:\d+, ", "", " ".join(str(error).split()))[:120]
        what = "truncated" if "truncated" in reason.lower() else "damaged"
        raise PalError(f"{what} {kind}: {reason or 'it cannot be decoded'}") from None


def _decode(image: Image.Image, data: bytes) -> Tensor:
    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB") and decode_jpeg():
        # The same pixels as Pillow's in 1 / 1.4 of the time.
        return decode_jpeg()(torch.frombuffer(bytearray(data), dtype=torch.uint8), RGB, True)
    ImageOps.exif_transpose(image, in_place=True)
    image.load()
    if image.mode.startswith("I"):  # 16 bits of grey
        values = np.asarray(image).astype(np.uint16)
        grey = (values >> 8).astype(np.uint8)
        if "transparency" in image.info:
            grey[values == image.info["transparency"]] = 255
        rgb = Image.fromarray(grey).convert("RGB")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        rgb = white.convert("RGB")
    else:
        rgb = image.convert("RGB")
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)


def small_jpeg(pixels: Tensor, size: int) -> bytes:
    """A picture as `read` gives it, as a JPEG of at most so many pixels a side."""
    image, out = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()), io.BytesIO()
    image.thumbnail((size, size))
    image.save(out, "JPEG", quality=80)
    return out.getvalue()


def prefetch(
    jobs: Iterable[Any], work: Callable[[Any], Any], workers: int = 1, depth: int = 64
) -> Generator[tuple[Any, Future[Any]], None, None]:
    """Do work on threads ahead of the caller, such as decoding: each job with its future, in their order.

    The caller's thread takes jobs from their iterator, which need not be safe for threads. At most `depth`
    are begun and not yet taken; when the caller stops early, what has not begun is dropped.
    """
    waiting: deque[tuple[Any, Future[Any]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
    try:
        for job in jobs:
            waiting.append((job, pool.submit(work, job)))
            if len(waiting) >= max(depth, workers):
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# Both functions below use torch's antialiased kernels on uint8, within 1/255 of Pillow's: Pillow's own
# bicubic takes longer than the decoder. Where the height shrinks much more than the width, Pillow takes the
# columns first from version 13 on; torch always takes the rows first.


def cropped(pixels: Tensor, size: int, interpolation: str = "bicubic") -> Tensor:
    """CLIP's transform: the shortest side resized to `size` (bicubic or bilinear), then a centre crop.

    Takes uint8, (3, height, width); gives uint8, (3, size, size), contiguous.
    """
    from torchvision.transforms.v2 import functional as F

    short = min(pixels.shape[-2:])
    height, width = (min(side, LONGEST * short) for side in pixels.shape[-2:])
    if (height, width) != tuple(pixels.shape[-2:]):
        # 1 x 65,000 pixels brought to 224 on the short side would be ten gigabytes.
        pixels = F.center_crop(pixels, [height, width])
    resized = F.resize(pixels, [size], F.InterpolationMode(interpolation), antialias=True)
    return F.center_crop(resized, [size, size]).contiguous()


def squashed(pixels: Tensor, size: int, interpolation: str = "bicubic") -> Tensor:
    """The whole image resized to `size` by `size`, whatever its shape; arguments as for `cropped`."""
    from torchvision.transforms.v2 import functional as F

    return F.resize(pixels, [size, size], F.InterpolationMode(interpolation), antialias=True).contiguous()
