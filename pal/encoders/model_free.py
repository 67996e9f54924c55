"""Encoders without a model, for trying things out and for tests: hashed words, statistics of images.

`hashed-words` knows spelling and nothing of meaning. `classical` sees tints, brightness, contrast, sharpness,
noise, and roughly what colour is where; it knows nothing of what an image shows. All its numbers are means
of fixed functions of the pixels, scaled by constants to about 1, so that a linear head can read them.
"""

import hashlib
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pal.encoders import Described

if TYPE_CHECKING:
    from torch import Tensor

NAMES, PREFIXES = ("hashed-words", "classical"), ()
READS = {"hashed-words": ("text",), "classical": ("image",)}
WORD = re.compile(r"\w+")
WORDS_DIM = 256

SIZE = 96
BLOCK = 8  # local contrast is that within BLOCK x BLOCK pixels
SCALES = 3  # each half as wide as the one before
CELLS = 4  # the grid of coarse colours has CELLS x CELLS
CHUNK = 16  # images at a time: more do not fit the processor's cache
# 9 planes' 3 moments, 3 planes' grids, 3 histograms, 5 quantiles of luma, 9 texture figures a scale.
CLASSICAL_DIM = 27 + 3 * CELLS**2 + (8 + 8 + 16) + 5 + 9 * SCALES


def describe(name: str, weights: str, *, precision: str, engine: str) -> Described:
    """Describe one of the two; they have no files: weights, precision and engine change nothing."""
    if name == "hashed-words":
        words = "casefolded words, hashed into signed buckets, unit length"
        return Described(name, WORDS_DIM, "", "", words, None, "model-free", libraries=("numpy",))
    words = (
        f"whole picture to {SIZE} x {SIZE}; moments, histograms and a coarse grid of colour, gradients, "
        "Laplacians and local contrast at three scales"
    )
    return Described(
        name, CLASSICAL_DIM, "", "", words, None, "model-free",
        modalities=("image",), libraries=("torch", "torchvision", "pillow"),
    )  # fmt: skip


def load(described: Described, device: str) -> "HashedWords | Classical":
    """Build a described encoder; hashed words are made on the CPU alone."""
    return HashedWords() if described.name == "hashed-words" else Classical(device)


class HashedWords:
    """Feature hashing (Weinberger et al. 2009): each word adds +1 or -1 to the bucket that its hash names."""

    def lengths(self, texts: list[str]) -> list[int]:
        """Words in each text, at least 1."""
        return [max(1, len(WORD.findall(text))) for text in texts]

    def encode(self, texts: list[str]) -> Any:
        """Vectors of texts: (len(texts), 256) float32, of unit length, or zero where there is no word."""
        out = np.zeros((len(texts), WORDS_DIM), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in WORD.findall(text.casefold()):
                bucket, sign = _bucket(word)
                out[row, bucket] += sign
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)


@cache
def _bucket(word: str) -> tuple[int, int]:
    digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "little") % WORDS_DIM, 1 if digest[4] & 1 else -1


class Classical:
    """Statistics of colour and texture."""

    def __init__(self, device: str = "cpu") -> None:
        self._device = device

    def shrink(self, pixels: "Tensor") -> "Tensor":
        """The whole image, squashed: (3, 96, 96) uint8."""
        from pal.encoders.images import squashed

        return squashed(pixels, SIZE)

    def encode_images(self, batch: "Tensor") -> Any:
        """Statistics of shrunk images: (n, 139) float32, each number of order 1."""
        import torch

        if not len(batch):
            return torch.zeros(0, CLASSICAL_DIM).numpy()
        with torch.inference_mode():
            chunks = [_statistics(chunk.to(self._device).float() / 255) for chunk in batch.split(CHUNK)]
            return torch.cat(chunks).cpu().numpy()


def _statistics(rgb: "Tensor") -> "Tensor":
    """(n, 139) from images in [0, 1] of shape (n, 3, SIZE, SIZE)."""
    import torch

    red, green, blue = rgb.unbind(1)
    luma = (0.299 * red + 0.587 * green + 0.114 * blue).clamp(0, 1)
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    saturation = rgb.amax(1) - rgb.amin(1)
    planes = [red, green, blue, luma, red_green, yellow_blue, saturation, red - blue, (luma - 0.5).abs()]
    flat = torch.stack(planes, 1).flatten(2)
    mean = flat.mean(2)
    away = flat - mean[..., None]
    square = away.square()
    third = (square * away).mean(2)
    opponents = torch.stack([luma - 0.5, red_green, yellow_blue], 1)
    ordered = luma[:, ::2, ::2].flatten(1).sort(1).values  # of every fourth pixel
    quantiles = ordered[:, [int(share * ordered.shape[1]) for share in (0.05, 0.25, 0.5, 0.75, 0.95)]]
    return torch.cat(
        [
            # The cube root of the third moment, so that all three are in units of the plane.
            4 * torch.hstack([mean, square.mean(2).sqrt(), third.sign() * third.abs().pow(1 / 3)]),
            4 * torch.nn.functional.adaptive_avg_pool2d(opponents, CELLS).flatten(1),
            _histogram((8 * luma).long().clamp(0, 7), 8),
            _histogram((8 * saturation).long().clamp(0, 7), 8),
            _histogram(_quarter(red_green) * 4 + _quarter(yellow_blue), 16),
            4 * (quantiles - 0.5),
            *_textures(opponents),
        ],
        1,
    )


def _quarter(opponent: "Tensor") -> "Tensor":
    """Which of four parts of [-1, 1]: most images' colours lie within 0.15 of grey."""
    return (opponent > -0.15).long() + (opponent > 0) + (opponent > 0.15)


def _histogram(bins: "Tensor", n_bins: int) -> "Tensor":
    """Root of the share of pixels in each bin, 1 where all bins hold as many: (n, n_bins)."""
    flat = bins.flatten(1)
    counts = flat.new_zeros(len(flat), n_bins).float()
    counts.scatter_add_(1, flat, counts.new_ones(flat.shape))
    return (counts * n_bins / flat.shape[1]).sqrt()


def _textures(planes: "Tensor") -> "list[Tensor]":
    """At each scale gradients in 4 directions, Laplacians, local contrast, how sparse edges are: (n, 9)."""
    import torch

    features = []
    for scale in range(SCALES):
        x = torch.nn.functional.avg_pool2d(planes, 2**scale) if scale else planes
        luma = x[:, 0]
        inner = x[..., 1:-1, 1:-1]
        laplacian = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:] - 4 * inner
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
        features += [_decades(energies), _decades(rms), _decades(local)[:, None], 4 * sparse[:, None] - 2]
    return features


def _decades(energy: "Tensor") -> "Tensor":
    """Powers of ten above 1/100, flat below 1/1000: a blur or a contrast is the same step everywhere."""
    return (energy + 1e-3).log10() + 2
