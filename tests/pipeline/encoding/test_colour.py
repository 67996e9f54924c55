"""Colour filters in linear light, held to numbers worked by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.encoding import colour
from pipeline.errors import PipelineError

specs = st.builds(
    colour.spec,
    st.sampled_from(["mix", "multiply"]),
    st.integers(0, 0xFFFFFF).map("#{:06x}".format),
    st.floats(0.001, 1),
)


def grey(value):
    return torch.full((3, 1, 1), value, dtype=torch.uint8)


def test_a_filter_is_written_as_it_is_read():
    assert colour.spec("mix", "#1F5FFF", 0.35) == "mix #1f5fff 0.35"
    assert colour.parse("mix #1f5fff 0.35") == colour.Colouring("mix", (31, 95, 255), 0.35)
    assert colour.spec("multiply", "#000000", 1.0) == "multiply #000000 1"


def test_linear_light_is_that_of_the_standard():
    """IEC 61966-2-1: 128/255 = 0.50196 -> ((0.50196 + 0.055) / 1.055)^2.4 = 0.21586; 10/255 / 12.92 = 0.003035."""
    assert colour.to_linear(0) == 0
    assert colour.to_linear(255) == 1
    assert colour.to_linear(128) == pytest.approx(0.2158605, abs=1e-6)
    assert colour.to_linear(10) == pytest.approx(0.0030353, abs=1e-6)


@pytest.mark.parametrize("value", range(256))
def test_light_and_back_is_the_same_value(value):
    assert colour.to_srgb(colour.to_linear(value)) == value


def test_mixing_half_of_a_primary_into_black_and_white():
    """Black: red becomes 0.5 of light, sRGB 1.055 * 0.5^(1/2.4) - 0.055 = 0.735357 -> 187.5 -> 188. White:
    green and blue lose half: 188 as well, red stays."""
    assert colour.apply(grey(0), "mix #ff0000 0.5").flatten().tolist() == [188, 0, 0]
    assert colour.apply(grey(255), "mix #ff0000 0.5").flatten().tolist() == [255, 188, 188]


def test_multiplying_is_glass_of_that_colour():
    """White through full glass is the colour itself. 128 has light 0.21586; through glass of 128 it has 0.21586^2
    = 0.046596, sRGB 1.055 * 0.046596^(1/2.4) - 0.055 = 0.238418 -> 60.8 -> 61. Black stays black."""
    assert colour.apply(grey(255), "multiply #1f5fff 1").flatten().tolist() == [31, 95, 255]
    assert colour.apply(grey(128), "multiply #808080 1").flatten().tolist() == [61, 61, 61]
    assert colour.apply(grey(0), "multiply #808080 0.3").flatten().tolist() == [0, 0, 0]


def test_a_full_mix_is_the_colour_alone():
    noise = torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert (colour.apply(noise, "mix #1f5fff 1") == torch.tensor([31, 95, 255])[:, None, None]).all()


def test_each_pixel_passes_through_its_channels_table():
    pixels = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4) * 10
    table = colour.tables("mix #1f5fff 0.35")
    wanted = [[[table[c][v] for v in row] for row in plane] for c, plane in enumerate(pixels.tolist())]
    before = pixels.clone()
    after = colour.apply(pixels, "mix #1f5fff 0.35")
    assert after.tolist() == wanted
    assert after.dtype == torch.uint8
    assert (pixels == before).all()


@given(specs)
def test_more_light_in_is_never_less_light_out(spec):
    for channel in colour.tables(spec):
        assert list(channel) == sorted(channel)
        assert len(channel) == 256
        assert 0 <= channel[0] <= channel[-1] <= 255


@given(specs)
def test_what_is_written_is_read_as_itself(spec):
    read = colour.parse(spec)
    assert colour.spec(read.blend, "#{:02x}{:02x}{:02x}".format(*read.colour), read.strength) == spec


@pytest.mark.parametrize(
    "text",
    ["", "mix", "blur #1f5fff 0.35", "mix 1f5fff 0.35", "mix #1f5ff 0.35", "mix #1F5FFF 0.35",
     "mix #1f5fff 0", "mix #1f5fff 1.01", "mix #1f5fff -0.5", "mix #1f5fff nan", "mix #1f5fff 0.35 ",
     "mix #1f5fff 1e9", "mix #1f5fff 0." + "3" * 99],
)  # fmt: skip
def test_what_is_no_filter_is_refused(text):
    with pytest.raises(
        PipelineError, match=r"a colour filter must be `mix` or `multiply`, a colour as #rrggbb"
    ):
        colour.apply(grey(0), text)


@pytest.mark.parametrize("pixels", [torch.zeros(3, 2, 2), torch.zeros(4, 2, 2, dtype=torch.uint8)])
def test_pixels_are_uint8_in_three_channels(pixels):
    with pytest.raises(ValueError, match=r"pixels must be uint8 of shape \(3, height, width\), got torch\."):
        colour.apply(pixels, "mix #1f5fff 0.35")
