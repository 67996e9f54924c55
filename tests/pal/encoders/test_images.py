"""Images: decoding of untrusted bytes, work ahead on threads, resizing as open_clip does it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pal.encoders import images
from pal.encoders.images import cropped, prefetch, squashed
from pal.errors import PalError

from .odd_images import JPEG, ODD, PIXELS, PNG, PROGRESSIVE, WEBP, drawn, flat, saved, turned


@pytest.mark.parametrize("name", ODD)
def test_each_odd_file_has_its_stated_result(name):
    """A shape, or a reason of one line without paths."""
    data, result = ODD[name]
    if isinstance(result, str):
        with pytest.raises(PalError, match=result) as caught:
            images.read(data)
        assert "\n" not in str(caught.value)
        assert ".cpp" not in str(caught.value)
        assert len(str(caught.value)) < 200
    else:
        pixels = images.read(data)
        assert (tuple(pixels.shape), pixels.dtype) == (result, torch.uint8)


@pytest.mark.parametrize("name", PIXELS)
def test_each_kind_of_pixel_has_its_stated_colour(name):
    data, colour, *tolerance = PIXELS[name]
    assert images.read(data)[:, 0, 0].tolist() == pytest.approx(colour, abs=sum(tolerance))


@pytest.mark.parametrize("turn", [1, 4, 5, 6, 8])
def test_every_exif_orientation_comes_out_upright(turn):
    """Of JPEG blocks of one colour, 8 pixels wide and uncompressed but for rounding: what turns is exact."""
    upright = np.asarray(drawn()).transpose(2, 0, 1)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        assert np.array_equal(images.read(turned(drawn(), turn, kind, **options)).numpy(), upright)
    blocks = drawn((6, 4)).resize((48, 32), Image.Resampling.NEAREST)
    pixels = images.read(turned(blocks, turn, "JPEG", quality=100, subsampling=0)).numpy()
    assert np.abs(pixels.astype(int) - np.asarray(blocks).transpose(2, 0, 1)).max() <= 3


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 600)
    assert images.read(saved(flat(128), "PNG")).shape == (3, 20, 30)
    monkeypatch.setattr(images, "_decode", None)
    for kind in ("PNG", "JPEG", "WEBP"):
        with pytest.raises(PalError, match="30 x 21 pixels in its header, more than 600"):
            images.read(saved(flat(128, (30, 21)), kind))


FILES = [JPEG, PROGRESSIVE, PNG, WEBP, PIXELS["CMYK JPEG"][0], PIXELS["palette, half transparent"][0]]


@given(st.sampled_from(FILES), st.integers(0, 10_000))
def test_a_file_cut_anywhere_before_its_pixels_end_is_refused(data, at):
    """A PNG's last 16 bytes are a checksum and the end chunk, which Pillow can do without."""
    with pytest.raises(PalError):
        images.read(data[: at % (len(data) - (16 if data.startswith(b"\x89PNG") else 0))])


def test_a_failure_of_the_work_stands_beside_its_job_and_one_of_the_jobs_is_raised():
    done = list(prefetch([1, 0, 2], lambda job: 2 // job, 2))
    assert [job for job, _ in done] == [1, 0, 2]
    assert [done[0][1].result(), done[2][1].result()] == [2, 1]
    assert isinstance(done[1][1].exception(), ZeroDivisionError)

    def jobs():
        yield 1
        raise OSError("unreadable")

    with pytest.raises(OSError, match="unreadable"):
        list(prefetch(jobs(), str, 2))


def noisy(size):
    """Noise beside a drawing: the hardest and the usual."""
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    half = np.arange(size[0])[None, :, None] < size[0] // 2
    return Image.fromarray(np.where(half, noise, np.asarray(drawn(size))).astype(np.uint8))


def by_open_clip(image, **options):
    """Its own transform without mean and std, back in uint8 units."""
    from open_clip import image_transform

    transform = image_transform(224, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), **options)
    return (transform(image) * 255).round().int()


@pytest.mark.parametrize("size", [(768, 512), (224, 224), (1000, 300), (37, 70), (1, 1)])
@pytest.mark.parametrize("options", [{}, {"interpolation": "bilinear"}, {"resize_mode": "squash"}])
def test_resized_images_are_open_clips_to_within_one(size, options):
    """One value in ten thousand of noise is off by 2, and hardly any of a drawing."""
    fit = squashed if "resize_mode" in options else cropped
    for image, most in ((drawn(size), 3e-5), (noisy(size), 1e-4)):
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        small = fit(pixels, 224, options.get("interpolation", "bicubic"))
        assert (small.dtype, tuple(small.shape), small.is_contiguous()) == (torch.uint8, (3, 224, 224), True)
        apart = (small.int() - by_open_clip(image, **options)).abs()
        assert int(apart.max()) <= 2
        assert float((apart > 1).float().mean()) <= most


@pytest.mark.parametrize("size", [(1, 65_000), (65_000, 1)])
def test_a_very_long_image_is_cut_to_its_middle_first(size):
    """1 x 65,000 would be 224 x 14,560,000. Its middle third is white, the rest black: white comes out."""
    whole = torch.zeros(3, size[1], size[0], dtype=torch.uint8)
    third = max(size) // 3
    whole[(slice(None), slice(third, -third)) if size[1] > size[0] else (..., slice(third, -third))] = 255
    small = cropped(whole, 224)
    assert tuple(small.shape) == (3, 224, 224)
    assert small.min() == 255
