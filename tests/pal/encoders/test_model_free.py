"""Encoders without a model: what a linear head can see in image statistics, and both by hand."""

import hashlib

import numpy as np
import pytest
import torch

from pal import encoders
from pal.encoders import TextEncoder
from pal.encoders.model_free import CHUNK, CLASSICAL_DIM, SIZE, WORDS_DIM, HashedWords


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


KINDS = {
    "blue from red": (tinted((0.0, 0.0, 1.0)), tinted((1.0, 0.0, 0.0))),
    "blurred from sharp": (blurred, lambda x: x),
}


def vectors(encoder, pictures):
    return encoder.encode_images(torch.stack([encoder.shrink((255 * x).byte()) for x in pictures]))


@pytest.mark.parametrize("kind", KINDS)
def test_least_squares_tells_held_out_pictures_apart(encoder, scenes, kind):
    """Fitted on both versions of 70 scenes, tried on those of 30 others; a little ridge, as 140 < 2 * CLASSICAL_DIM."""
    x = np.stack([vectors(encoder, change(scenes)) for change in KINDS[kind]], 1)
    x = np.concatenate([x, np.ones((100, 2, 1), np.float32)], 2)
    sign = np.tile([-1.0, 1.0], 70)
    seen, held_out = x[:70].reshape(140, -1), x[70:].reshape(60, -1)
    weights = np.linalg.solve(seen.T @ seen + 0.1 * np.eye(seen.shape[1]), seen.T @ sign)
    assert np.mean(np.sign(held_out @ weights) == np.tile([-1, 1], 30)) >= 0.95


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


def test_a_picture_has_the_same_finite_vector_of_order_one_in_any_company(encoder):
    noise = torch.randint(0, 256, (CHUNK + 1, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    batch = torch.cat([noise, torch.zeros(1, 3, SIZE, SIZE), torch.full((1, 3, SIZE, SIZE), 255)]).byte()
    whole = encoder.encode_images(batch)
    assert np.array_equal(whole, encoder.encode_images(batch))
    assert (whole.shape, whole.dtype) == ((CHUNK + 3, CLASSICAL_DIM), np.float32)
    assert np.abs(whole).max() <= 5
    for row in (0, CHUNK, CHUNK + 2):
        assert encoder.encode_images(batch[row : row + 1])[0] == pytest.approx(whole[row], abs=1e-5)


def place(word):
    """From `printf WORD | sha256sum`: the first four bytes, little-endian, mod 256, so the first; the fifth's
    lowest bit is the sign."""
    digest = hashlib.sha256(word.encode()).hexdigest()
    return int(digest[:2], 16), 1 if int(digest[8:10], 16) % 2 else -1


def test_words_add_up_to_unit_length_each_in_its_signed_bucket():
    """sha256 of hello begins 2cf24dba 5f: bucket 0x2c = 44, and 0x5f is odd. hello twice and world once: (2, 1)
    over the root of 5, each with its sign."""
    (hello, plus), (world, sign) = place("hello"), place("world")
    assert (hello, plus) == (44, 1)
    vector = HashedWords().encode(["hello, world! hello"])[0]
    assert (vector.shape, vector.dtype) == ((WORDS_DIM,), np.float32)
    assert np.flatnonzero(vector).tolist() == sorted([hello, world])
    assert vector[hello] == pytest.approx(plus * 2 / 5**0.5)
    assert vector[world] == pytest.approx(sign * 1 / 5**0.5)


def test_hashed_words_know_neither_case_nor_order_nor_punctuation_and_no_word_is_zero():
    encoder = encoders.load(encoders.describe("hashed-words", "hub"))
    assert isinstance(encoder, TextEncoder)
    first, second, none = encoder.encode(["I like STRASSE", "straße: like? i", "🧀 …!"])
    assert np.array_equal(first, second)
    assert not none.any()
    assert encoder.lengths(["", "one", "one, two;three"]) == [1, 1, 3]
    assert encoder.encode([]).shape == (0, WORDS_DIM)
