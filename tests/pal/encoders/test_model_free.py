"""Encoders without a model: what a linear head can see in image statistics, and both by hand."""

import hashlib

import numpy as np
import pytest
import torch

from pal import encoders
from pal.encoders.model_free import CHUNK, CLASSICAL_DIM, SIZE, WORDS_DIM, HashedWords


@pytest.fixture(scope="module")
def encoder():
    return encoders.load(encoders.describe("classical"))


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
