import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pal.models.dropout import BLOCK, drop_, dropped_share


@pytest.mark.parametrize(
    ("share", "dropped"), [(0.0, 0), (0.5, 128), (0.3, 77), (0.001, 1), (0.999, 255), (0.25, 64)]
)
def test_share_is_the_nearest_256th_and_neither_none_nor_all(share, dropped):
    """0.3 * 256 = 76.8, so 77; 0.001 * 256 = 0.256 would drop none, so 1."""
    assert dropped_share(share) == dropped / 256


@given(st.floats(0, 0.99), st.integers(0, 99))
def test_expectation_of_each_element_stays_what_it_was(share, seed):
    """Of 65,536 ones, the scaled mean has the standard deviation sqrt(p / (1 - p)) / 256: five of them."""
    torch.manual_seed(seed)
    x = torch.ones(256, 256)
    scale = drop_(x, share)
    p = dropped_share(share)
    assert scale == pytest.approx(1 / (1 - p))
    assert abs(scale * x.mean().item() - 1) <= 5 * (p / (1 - p)) ** 0.5 / 256 + 1e-6


def test_what_is_kept_is_not_changed():
    torch.manual_seed(0)
    x = torch.randn(999).to(torch.bfloat16)
    before = x.clone()
    drop_(x, 0.5)
    kept = x != 0
    assert 400 < kept.sum() < 600
    assert torch.equal(x[kept], before[kept])


def test_no_share_draws_nothing():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    x = torch.ones(8)
    assert drop_(x, 0.0) == 1.0
    assert torch.equal(x, torch.ones(8))
    assert torch.equal(torch.get_rng_state(), state)


def test_seed_decides_what_is_dropped():
    def dropped(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        x = torch.ones(BLOCK + 3, dtype=torch.bfloat16)
        drop_(x, 0.3)
        return x

    assert torch.equal(dropped(1), dropped(1))
    assert not torch.equal(dropped(1), dropped(2))


def test_each_byte_of_a_word_is_used():
    """Columns of eight take one byte of each word: every one drops its share, independently of the others."""
    torch.manual_seed(0)
    x = torch.ones(20_000, 8)
    drop_(x, 0.5)
    assert (x.mean(0) - 0.5).abs().max() < 0.02
    assert (torch.corrcoef(x.T) - torch.eye(8)).abs().max() < 0.03
