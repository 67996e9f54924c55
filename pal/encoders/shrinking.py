"""Pictures made small, on uint8 throughout: torch's antialiased kernels, within 1/255 of Pillow's.

Pillow's own bicubic takes longer than the decoder; torch's does the same in a fraction of that. Both round to
uint8 between a pass along the rows and one along the columns, so that where one of them rounds the other way,
a value in a million is off by 2 (of noise, one in ten thousand). From version 13 on Pillow takes the columns
first where the height shrinks much more than the width; torch always takes the rows first, as Pillow did
before, and sharp noise then comes out differently by more.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Beyond this, a picture's middle is cut out before resizing: 1 x 65,000 pixels brought to 224 on the short
# side would be ten gigabytes.
LONGEST = 16


def cropped(pixels: "Tensor", size: int, interpolation: str = "bicubic") -> "Tensor":
    """The shortest side brought to `size`, then the middle cut out: CLIP's transform.

    Args:
        pixels: uint8, (3, height, width).
        size: Side of the result, pixels.
        interpolation: bicubic or bilinear.

    Returns:
        uint8, (3, size, size), contiguous.
    """
    from torchvision.transforms.v2 import functional as F

    short = min(pixels.shape[-2:])
    height, width = (min(side, LONGEST * short) for side in pixels.shape[-2:])
    if (height, width) != tuple(pixels.shape[-2:]):
        pixels = F.center_crop(pixels, [height, width])
    return F.center_crop(_resized(pixels, [size], interpolation), [size, size]).contiguous()


def squashed(pixels: "Tensor", size: int, interpolation: str = "bicubic") -> "Tensor":
    """The whole picture brought to `size` by `size`, whatever its shape; arguments as for `cropped`."""
    return _resized(pixels, [size, size], interpolation).contiguous()


def _resized(pixels: "Tensor", size: list[int], interpolation: str) -> "Tensor":
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    return F.resize(pixels, size, interpolation=InterpolationMode(interpolation), antialias=True)
