"""Statistics of colour and texture: what a linear head can see with them, and that they are what they are."""

import numpy as np
import pytest
import torch

from pal import encoders
from pal.encoders import ImageEncoder
from pal.encoders.classical import CHUNK, DIM, SIZE, Classical


@pytest.fixture(scope="module")
def encoder():
    return encoders.load(encoders.describe("classical"))


@pytest.fixture(scope="module")
def scenes():
    """A hundred pictures of boxes, dark to bright and mildly coloured, on a ground: (100, 3, 160, 200) in [0, 1]."""
    rng = np.random.default_rng(0)
    pictures = np.empty((100, 3, 160, 200), np.float32)
    for picture in pictures:
        picture[:] = rng.uniform(0.4, 0.6) + rng.normal(0, 0.05, (3, 1, 1))
        for brightness in rng.permutation(np.linspace(0.15, 0.85, 12)):
            top, left = rng.integers(0, 120), rng.integers(0, 150)
            height, width = rng.integers(20, 60, 2)
            colour = np.clip(brightness + rng.normal(0, 0.05, (3, 1, 1)), 0, 1)
            picture[:, top : top + height, left : left + width] = colour
    return torch.from_numpy(pictures)


def tinted(colour):
    """A cast of a fifth of the colour."""
    return lambda x: 0.8 * x + 0.2 * torch.tensor(colour).view(3, 1, 1)


def blurred(x):
    return torch.nn.functional.avg_pool2d(x, 5, 1, 2, count_include_pad=False)


def noisy(x):
    return (x + 0.08 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def faint(x):
    middle = x.mean((2, 3), keepdim=True)
    return middle + 0.5 * (x - middle)


def unchanged(x):
    return x


KINDS = {
    "blue from red": (tinted((0.0, 0.0, 1.0)), tinted((1.0, 0.0, 0.0))),
    "blurred from sharp": (blurred, unchanged),
    "noisy from neat": (noisy, unchanged),
    "low from high contrast": (faint, unchanged),
    "dark from bright": (lambda x: 0.7 * x, unchanged),
}


def vectors(encoder, pictures):
    return encoder.encode_images(torch.stack([encoder.shrink((255 * x).byte()) for x in pictures]))


@pytest.mark.parametrize("kind", KINDS)
def test_least_squares_tells_held_out_pictures_apart(encoder, scenes, kind):
    """Fitted on both versions of 70 scenes, tried on those of 30 others; a little ridge, as 140 < 2 * DIM."""
    x = np.stack([vectors(encoder, change(scenes)) for change in KINDS[kind]], 1)
    x = np.concatenate([x, np.ones((100, 2, 1), np.float32)], 2)
    sign = np.tile([-1.0, 1.0], 70)
    seen, held_out = x[:70].reshape(140, -1), x[70:].reshape(60, -1)
    weights = np.linalg.solve(seen.T @ seen + 0.1 * np.eye(seen.shape[1]), seen.T @ sign)
    assert np.mean(np.sign(held_out @ weights) == np.tile([-1, 1], 30)) >= 0.95


def test_they_are_finite_and_of_order_one(encoder, scenes):
    found = vectors(encoder, scenes)
    assert (found.shape, found.dtype) == ((100, DIM), np.float32)
    assert 64 <= DIM <= 200
    extremes = torch.stack([torch.zeros(3, SIZE, SIZE), torch.full((3, SIZE, SIZE), 255)]).byte()
    found = np.concatenate([found, encoder.encode_images(extremes)])
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 5
    assert np.median(np.abs(found)) >= 0.05


def test_a_grey_picture_by_hand(encoder):
    """All pixels 102/255 = 0.4: means 4 * 0.4 = 1.6 of each colour and of luma, none of the opponents, spreads
    of none, 4 * |0.4 - 0.5| = 0.4 for the distance from middle grey; the grid's luma is 4 * (0.4 - 0.5)."""
    found = encoder.encode_images(torch.full((1, 3, SIZE, SIZE), 102).byte())[0]
    assert found[:9] == pytest.approx([1.6, 1.6, 1.6, 1.6, 0, 0, 0, 0, 0.4], abs=1e-5)
    assert found[9:18] == pytest.approx(0, abs=1e-5)
    assert found[27:43] == pytest.approx(-0.4, abs=1e-5)
    # Luma 0.4 is in the fourth of eight bins, all of it: sqrt(8).
    assert found[75:83] == pytest.approx([0, 0, 0, 8**0.5, 0, 0, 0, 0])
    # Energies of nothing: log10(1/1000) + 2.
    assert found[-9:-1] == pytest.approx(-1, abs=1e-3)


def test_a_picture_has_the_same_vector_in_any_company(encoder):
    batch = torch.randint(
        0, 256, (CHUNK + 3, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0)
    ).byte()
    whole = encoder.encode_images(batch)
    assert np.array_equal(whole, encoder.encode_images(batch))
    for row in (0, CHUNK, CHUNK + 2):
        assert encoder.encode_images(batch[row : row + 1])[0] == pytest.approx(whole[row], abs=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 65_000), (200, 3), (512, 512)])
def test_every_shape_is_squashed_to_one(encoder, size):
    shrunk = encoder.shrink(torch.full((3, *size), 7, dtype=torch.uint8))
    assert (tuple(shrunk.shape), shrunk.dtype) == ((3, SIZE, SIZE), torch.uint8)
    assert (shrunk == 7).all()


def test_it_needs_no_files_and_says_what_it_is():
    found = encoders.describe("classical", "hub", precision="bfloat16", engine="onnx")
    assert (found.dim, found.weights_sha256, found.folder, found.modalities) == (DIM, "", None, ("image",))
    assert (found.precision, found.engine) == ("float32", "torch")
    assert "three scales" in found.preprocessing
    assert isinstance(Classical(), ImageEncoder)


def test_no_pictures_are_no_vectors(encoder):
    assert encoder.encode_images(torch.empty(0, 3, SIZE, SIZE, dtype=torch.uint8)).shape == (0, DIM)
