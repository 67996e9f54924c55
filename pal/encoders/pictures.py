"""Pictures from bytes that nobody vouches for: pixels, or one reason why not.

Only JPEG, PNG and WebP are opened, told by their content and not by their name, and only after their header
has named an acceptable size (`picture_files`). What comes out is what a browser shows, with these choices:

- EXIF's orientation is applied.
- Transparency lies on white.
- Of an animation the first frame is taken (of a PNG the picture that stands for it).
- 16 bits a sample become the upper 8.
- CMYK becomes RGB by the plain formula. Colour profiles and gamma are not applied, to grey pictures neither.
- Whatever follows a picture's end is ignored; a picture that ends early is refused.
- A JPEG damaged within its data is shown as far as the decoder makes it out, as everywhere.
"""

import io
import re
from functools import cache
from typing import TYPE_CHECKING

from pal.encoders import picture_files, png_rows
from pal.encoders.picture_files import Header
from pal.errors import PalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image
    from torch import Tensor

RGB = 3  # torchvision.io.ImageReadMode.RGB


def read(data: bytes) -> "Tensor":
    """Decode a picture.

    Args:
        data: A JPEG, PNG or WebP file's bytes.

    Returns:
        RGB, uint8, of shape (3, height, width), upright; not always contiguous.

    Raises:
        PalError: With the reason alone, to be listed beside the picture's name: `truncated PNG: ...`.
    """
    found = picture_files.header(data)
    # Whatever a decoder raises is about this file: the size is known to fit in memory.
    try:
        pixels = _jpeg(data, found) if found.kind == "JPEG" and found.components != 4 else _by_pillow(found)
    except Exception as error:
        reason = " ".join(str(error).split())
        what = "truncated" if "truncated" in reason else "damaged"
        raise PalError(f"{what} {found.kind}: {_short(reason)}") from None
    if tuple(pixels.shape) != (3, found.height, found.width):
        raise PalError(f"damaged {found.kind}: other pixels than its header says")
    return _upright(pixels, found.turn)


def _jpeg(data: bytes, found: Header) -> "Tensor":
    """Grey or colour, by torchvision: 1.4 times as fast as Pillow, and the same pixels."""
    import torch

    if (decoder := _decoder()) is None:
        return _by_pillow(found)
    return decoder(torch.frombuffer(bytearray(data), dtype=torch.uint8), RGB)


@cache
def _decoder() -> "Callable[[Tensor, int], Tensor] | None":
    """Torchvision's operator, beneath a function that warns that a later torchvision will be without."""
    import torch
    import torchvision.io  # noqa: F401

    return getattr(torch.ops.image, "decode_jpeg", None)


def _by_pillow(found: Header) -> "Tensor":
    import numpy as np
    import torch
    from PIL import Image

    if found.kind == "PNG" and not png_rows.all_there(found.lean):
        raise ValueError("truncated pixel data")
    with Image.open(io.BytesIO(found.lean), formats=[found.kind]) as image:
        return torch.from_numpy(np.array(_rgb(image))).permute(2, 0, 1)


def _rgb(image: "Image") -> "Image":
    """RGB, on white where it is transparent."""
    from PIL import Image

    image.load()
    if image.mode.startswith("I"):
        image = _upper_byte(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return white.convert("RGB")


def _upper_byte(image: "Image") -> "Image":
    """A 16-bit grey picture in 8 bits, white where it is transparent."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(np.uint16)
    grey = (values >> 8).astype(np.uint8)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def _upright(pixels: "Tensor", turn: int) -> "Tensor":
    """EXIF orientations 5 to 8 swap the axes; then 2, 3, 6 and 7 mirror rows, and 3, 4, 7 and 8 columns."""
    if turn >= 5:
        pixels = pixels.transpose(1, 2)
    mirrored = [axis for axis, turns in ((2, (2, 3, 6, 7)), (1, (3, 4, 7, 8))) if turn in turns]
    return pixels.flip(mirrored) if mirrored else pixels


def _short(reason: str) -> str:
    """The decoder's words without where in its own source they come from."""
    return re.sub(r"^.*\.cpp:\d+, ", "", reason)[:120] or "it cannot be decoded"
