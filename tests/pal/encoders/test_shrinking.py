"""Pictures made small on uint8: within 1/255 of Pillow's own resize, which open_clip's transform uses."""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pal.encoders.shrinking import cropped, squashed

from .odd_pictures import drawn

USUAL = [(512, 512), (1024, 1024), (768, 512), (640, 480), (480, 640), (224, 224), (1000, 300)]
ODD = [(330, 225), (100, 100), (37, 70), (90, 37), (3, 5), (1, 1)]  # hardly smaller, and upscaled
PHOTOS = Path(__file__).parents[4] / "shared/data/dog_morphs/images.parquet"
TALL = [(300, 900), (225, 1001)]


def noisy(size, seed=1):
    """Noise beside a drawing: the hardest and the usual."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    smooth = np.asarray(drawn(size))
    half = np.arange(size[0])[None, :, None] < size[0] // 2
    return Image.fromarray(np.where(half, noise, smooth).astype(np.uint8))


def pixels(image):
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def by_open_clip(image, **options):
    """Its own transform without mean and std, back in uint8 units."""
    from open_clip import image_transform

    transform = image_transform(224, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), **options)
    return (transform(image) * 255).round().int()


def differences(found, expected):
    """The largest, and the share of values that differ by more than 1."""
    apart = (found.int() - expected).abs()
    return int(apart.max()), float((apart > 1).float().mean())


@pytest.mark.parametrize("size", USUAL)
def test_pictures_of_usual_sizes_are_open_clips_to_within_one(size):
    """But for one value in a hundred thousand, off by 2."""
    found = cropped(pixels(drawn(size)), 224)
    assert (found.dtype, tuple(found.shape), found.is_contiguous()) == (torch.uint8, (3, 224, 224), True)
    largest, share = differences(found, by_open_clip(drawn(size)))
    assert largest <= 2
    assert share <= 1e-5


@pytest.mark.skipif(not PHOTOS.exists(), reason="no photographs: ../shared/data/dog_morphs is not there")
def test_photographs_at_512_are_open_clips_to_within_one():
    for jpeg in pq.read_table(PHOTOS, columns=["jpg"])["jpg"].to_pylist()[:8]:
        photo = Image.open(io.BytesIO(jpeg)).convert("RGB").resize((512, 512), Image.Resampling.BICUBIC)
        assert differences(cropped(pixels(photo), 224), by_open_clip(photo))[0] <= 1


@pytest.mark.parametrize("size", USUAL + ODD)
@pytest.mark.parametrize("options", [{}, {"interpolation": "bilinear"}, {"resize_mode": "squash"}])
def test_noise_of_any_size_is_off_by_two_at_most_and_hardly_ever(size, options):
    fit = squashed if "resize_mode" in options else cropped
    found = fit(pixels(noisy(size)), 224, options.get("interpolation", "bicubic"))
    largest, share = differences(found, by_open_clip(noisy(size), **options))
    assert largest <= 2
    assert share <= 1e-4


@pytest.mark.parametrize("size", TALL)
def test_a_tall_picture_is_resized_along_its_rows_first(size):
    """As every Pillow does that is older than 13, and newer ones when told to."""
    image, height = noisy(size), int(224 * size[1] / size[0])
    rows_first = image.resize((224, size[1]), 3).resize((224, height), 3)
    top = round((height - 224) / 2)
    assert differences(cropped(pixels(image), 224), pixels(rows_first)[:, top : top + 224])[0] <= 2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_in_memory_changes_nothing(layout):
    image = pixels(noisy((301, 200)))
    laid = image[None].contiguous(memory_format=layout)[0]
    assert torch.equal(cropped(laid, 224), cropped(image.contiguous(), 224))


@pytest.mark.parametrize("size", [(1, 65_000), (65_000, 1), (20, 330)])
def test_a_very_long_picture_is_cut_to_its_middle_first(size):
    """1 x 65,000 would be 224 x 14,560,000. Its middle third is white, the rest black: white comes out."""
    whole = torch.zeros(3, size[1], size[0], dtype=torch.uint8)
    third = max(size) // 3
    whole[(slice(None), slice(third, -third)) if size[1] > size[0] else (..., slice(third, -third))] = 255
    found = cropped(whole, 224)
    assert tuple(found.shape) == (3, 224, 224)
    assert found.min() == 255
