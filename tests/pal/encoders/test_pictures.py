"""Pictures that nobody vouches for: each odd file has its result, and no bytes raise anything but a reason."""

import io

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from pal.encoders import pictures
from pal.errors import PalError

from .odd_pictures import JPEG, ODD, PIXELS, PNG, PROGRESSIVE, WEBP, drawn, flat, saved, turned


@pytest.mark.parametrize("name", ODD)
def test_each_odd_file_has_its_stated_result(name):
    data, result = ODD[name]
    if isinstance(result, str):
        with pytest.raises(PalError, match=result):
            pictures.read(data)
    else:
        pixels = pictures.read(data)
        assert (tuple(pixels.shape), pixels.dtype) == (result, torch.uint8)


@pytest.mark.parametrize("name", PIXELS)
def test_each_kind_of_pixel_has_its_stated_colour(name):
    data, colour = PIXELS[name]
    assert tuple(pictures.read(data)[:, 0, 0].tolist()) == colour


def test_there_are_thirty_odd_files_and_more():
    assert len({data for data, _ in [*ODD.values(), *PIXELS.values()]}) >= 60


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_every_exif_turn_comes_out_upright(turn, kind, options):
    upright = np.asarray(drawn()).transpose(2, 0, 1)
    assert np.array_equal(pictures.read(turned(drawn(), turn, kind, **options)).numpy(), upright)


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_exif_turn_of_a_jpeg_comes_out_upright(turn):
    """Blocks of one colour, 8 pixels wide and uncompressed but for rounding: what turns by blocks is exact."""
    blocks = drawn((6, 4)).resize((48, 32), Image.Resampling.NEAREST)
    found = pictures.read(turned(blocks, turn, "JPEG", quality=100, subsampling=0)).numpy()
    assert np.abs(found.astype(int) - np.asarray(blocks).transpose(2, 0, 1)).max() <= 3


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 20}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(512, 512), (301, 77), (1, 9)])
def test_a_jpeg_is_what_pillow_makes_of_it(size, mode, options):
    """To within 1 of 255: both decode by libjpeg-turbo, of different versions."""
    data = saved(drawn(size).convert(mode), "JPEG", **options)
    pillow = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)
    found = pictures.read(data)
    assert np.abs(found.numpy().astype(int) - pillow).max() <= 1
    assert torch.equal(found, pictures.read(data))


def test_without_torchvisions_decoder_pillow_makes_the_same(monkeypatch):
    """A later torchvision will have none."""
    first = pictures.read(JPEG)
    monkeypatch.setattr(pictures, "_decoder", lambda: None)
    assert (pictures.read(JPEG).int() - first.int()).abs().max() <= 1


def test_cmyk_becomes_rgb_by_the_plain_formula():
    """No cyan, full magenta and yellow: red."""
    red = pictures.read(saved(flat((0, 255, 255, 0), mode="CMYK"), "JPEG"))[:, 5, 5].int()
    assert (red - torch.tensor([255, 0, 0])).abs().max() <= 3


def test_a_profile_changes_no_pixel():
    name = "grey JPEG with a colour profile"
    assert torch.equal(pictures.read(ODD[name][0]), pictures.read(ODD["grey JPEG"][0]))


def test_the_largest_picture_allowed_is_decoded_and_one_pixel_row_more_is_not(monkeypatch):
    monkeypatch.setattr(pictures.picture_files, "MAX_PIXELS", 600)
    assert pictures.read(saved(flat(128), "PNG")).shape == (3, 20, 30)
    with pytest.raises(PalError, match="30 x 21 pixels in its header, more than 600"):
        pictures.read(saved(flat(128, (30, 21)), "PNG"))


def test_a_reason_is_one_line_without_paths():
    for name, (data, result) in ODD.items():
        if isinstance(result, str):
            with pytest.raises(PalError) as caught:
                pictures.read(data)
            reason = str(caught.value)
            assert "\n" not in reason, name
            assert ".cpp" not in reason, name
            assert len(reason) < 200, name


FILES = [
    JPEG,
    PROGRESSIVE,
    PNG,
    WEBP,
    ODD["CMYK JPEG"][0],
    ODD["animated WebP"][0],
    PIXELS["palette, transparent"][0],
]


@given(st.sampled_from(FILES), st.integers(0, 10_000))
def test_a_file_cut_anywhere_is_refused(data, at):
    with pytest.raises(PalError):
        pictures.read(data[: at % len(data)])


@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 7)), min_size=1, max_size=9),
)
@example(PNG, [(25, 1)])
def test_flipped_bits_give_a_picture_or_a_reason(data, flips):
    bits = bytearray(data)
    for at, bit in flips:
        bits[at % len(data)] ^= 1 << bit
    try:
        pixels = pictures.read(bytes(bits))
    except PalError:
        return
    assert (pixels.dtype, pixels.shape[0]) == (torch.uint8, 3)


@given(
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8X"]),
    st.binary(max_size=200),
)
def test_any_bytes_behind_a_known_beginning_give_a_reason(start, rest):
    with pytest.raises(PalError):
        pictures.read(start + rest)
