"""Measures of texts, by hand and through an encoder."""

import numpy as np
import pytest

from pal import encoders
from pal.encoders import MEASURES, MEASURES_SPREAD, measure
from pal.errors import PalError


def test_measures_by_hand():
    """14 characters, one end of a sentence, words of 2, 4 and 6 letters (comma and mark with them), one capital."""
    expected = [np.log(15) - 5, np.log(2) - 1, 12 / 3 / 5 - 1, np.log(2), np.log(2), 10 / 14 - 0.3]
    np.testing.assert_allclose(measure("No, that real?"), [MEASURES_SPREAD * value for value in expected])
    assert len(measure("")) == len(MEASURES)


def test_an_encoder_with_measures_adds_them_and_names_itself():
    plain, measured = (encoders.describe(name) for name in ("hashed-words", "hashed-words+measures"))
    assert (measured.name, measured.dim) == ("hashed-words+measures", plain.dim + len(MEASURES))
    texts = ["One.", "Two, or more?"]
    both = encoders.load(measured).encode(texts)
    np.testing.assert_array_equal(both[:, : plain.dim], encoders.load(plain).encode(texts))
    np.testing.assert_allclose(both[0, plain.dim :], measure("One."), rtol=1e-6)
    with pytest.raises(PalError, match="must read texts"):
        encoders.describe("classical+measures")
