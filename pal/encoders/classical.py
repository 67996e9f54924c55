"""A picture encoder without a model: statistics of colour and texture, for trying things out and for tests.

It sees tints, brightness, contrast, sharpness, noise, and roughly what colour is where; it knows nothing of
what a picture shows. All its numbers are means of fixed functions of the pixels, scaled by constants to
about 1, so that a linear head can read them as they are.
"""

from typing import TYPE_CHECKING, Any

from pal.encoders.base import Described

if TYPE_CHECKING:
    from torch import Tensor

SIZE = 96
BLOCK = 8  # local contrast is that within BLOCK x BLOCK pixels
SCALES = 3  # each half as wide as the one before
CELLS = 4  # the grid of coarse colours has CELLS x CELLS
CHUNK = 16  # pictures at a time: more do not fit the processor's cache
# 9 planes' 3 moments, 3 planes' grids, 3 histograms, 5 quantiles of luma, 9 texture figures a scale.
DIM = 27 + 3 * CELLS**2 + (8 + 8 + 16) + 5 + 9 * SCALES
WHAT = (
    f"whole picture to {SIZE} x {SIZE}; moments, histograms and a coarse grid of colour, gradients, "
    "Laplacians and local contrast at three scales"
)


def describe(name: str, weights: str, *, precision: str, engine: str) -> Described:
    """It has no files: weights, precision and engine change nothing."""
    return Described(name, DIM, "", "", WHAT, None, "classical", modalities=("image",))


def load(described: Described, device: str) -> "Classical":
    """Ready to encode."""
    return Classical(device)


class Classical:
    """Statistics of colour and texture.

    Args:
        device: Where to compute.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = device

    def shrink(self, pixels: "Tensor") -> "Tensor":
        """The whole picture, squashed: (3, 128, 96) uint8."""
        from pal.encoders.shrinking import squashed

        return squashed(pixels, SIZE)

    def encode_images(self, batch: "Tensor") -> Any:
        """Statistics of shrunk pictures: (n, 139) float32, each number of order 1."""
        import torch

        if not len(batch):
            return torch.zeros(0, DIM).numpy()
        with torch.inference_mode():
            parts = [_statistics(part.to(self._device).float() / 255) for part in batch.split(CHUNK)]
            return torch.cat(parts).cpu().numpy()


def _statistics(rgb: "Tensor") -> "Tensor":
    """(n, DIM) from pictures in [0, 1] of shape (n, 3, SIZE, SIZE)."""
    import torch

    red, green, blue = rgb.unbind(1)
    luma = (0.299 * red + 0.587 * green + 0.114 * blue).clamp(0, 1)
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    saturation = rgb.amax(1) - rgb.amin(1)
    warmth = red - blue
    planes = [red, green, blue, luma, red_green, yellow_blue, saturation, warmth, (luma - 0.5).abs()]
    opponents = torch.stack([luma - 0.5, red_green, yellow_blue], 1)
    return torch.cat(
        [
            _moments(torch.stack(planes, 1)),
            4 * torch.nn.functional.adaptive_avg_pool2d(opponents, CELLS).flatten(1),
            _histogram((8 * luma).long().clamp(0, 7), 8),
            _histogram((8 * saturation).long().clamp(0, 7), 8),
            _histogram(_quarter(red_green) * 4 + _quarter(yellow_blue), 16),
            4 * (_quantiles(luma) - 0.5),
            *_textures(opponents),
        ],
        1,
    )


def _moments(planes: "Tensor") -> "Tensor":
    """Mean, spread and the cube root of the third moment of each plane: (n, 3 * planes)."""
    import torch

    flat = planes.flatten(2)
    mean = flat.mean(2)
    away = flat - mean[..., None]
    square = away.square()
    third = (square * away).mean(2)
    return 4 * torch.hstack([mean, square.mean(2).sqrt(), third.sign() * third.abs().pow(1 / 3)])


def _quarter(opponent: "Tensor") -> "Tensor":
    """Which of four parts of [-1, 1]: most pictures' colours lie within 0.15 of grey."""
    import torch

    return torch.bucketize(opponent.contiguous(), opponent.new_tensor([-0.15, 0.0, 0.15]))


def _histogram(bins: "Tensor", n_bins: int) -> "Tensor":
    """Root of the share of pixels in each bin, 1 where all bins are alike: (n, n_bins)."""
    import torch

    flat = bins.flatten(1)
    counts = torch.zeros(len(flat), n_bins, device=flat.device)
    counts.scatter_add_(1, flat, torch.ones_like(flat, dtype=counts.dtype))
    return (counts * n_bins / flat.shape[1]).sqrt()


def _quantiles(luma: "Tensor") -> "Tensor":
    """Brightness that 5, 25, 50, 75 and 95 % of every fourth pixel stay under: (n, 5)."""
    ordered = luma[:, ::2, ::2].flatten(1).sort(1).values
    return ordered[:, [int(share * ordered.shape[1]) for share in (0.05, 0.25, 0.5, 0.75, 0.95)]]


def _textures(planes: "Tensor") -> "list[Tensor]":
    """At each scale gradients in 4 directions, Laplacians, local contrast, how sparse edges are: (n, 9)."""
    import torch

    parts = []
    for scale in range(SCALES):
        at = torch.nn.functional.avg_pool2d(planes, 2**scale) if scale else planes
        luma = at[:, 0]
        inner = at[..., 1:-1, 1:-1]
        laplacian = (
            at[..., :-2, 1:-1] + at[..., 2:, 1:-1] + at[..., 1:-1, :-2] + at[..., 1:-1, 2:] - 4 * inner
        )
        steps = [
            luma[:, :, 1:] - luma[:, :, :-1],
            luma[:, 1:] - luma[:, :-1],
            luma[:, 1:, 1:] - luma[:, :-1, :-1],
            luma[:, 1:, :-1] - luma[:, :-1, 1:],
        ]
        side = SIZE // 2**scale // BLOCK
        blocks = luma.reshape(-1, side, BLOCK, side, BLOCK)
        local = blocks.std((2, 4), correction=0).mean((1, 2))
        rms = laplacian.square().mean((2, 3)).sqrt()
        sparse = laplacian[:, 0].abs().mean((1, 2)) / (rms[:, 0] + 1e-3)
        energies = torch.stack([step.square().mean((1, 2)).sqrt() for step in steps], 1)
        parts += [_decades(energies), _decades(rms), _decades(local)[:, None], 4 * sparse[:, None] - 2]
    return parts


def _decades(energy: "Tensor") -> "Tensor":
    """Powers of ten above 1/100, flat below 1/1000: a blur or a contrast is the same step everywhere."""
    return (energy + 1e-3).log10() + 2
