"""Points drawn from parts of the simplex, against areas worked out by hand."""

import pytest
import torch

from pipeline.evaluation import polytope


def drawn(walls, start, concentration=1.0, kept=4000, K=3):
    table = torch.tensor(walls, dtype=torch.float64).reshape(1, -1, K)
    generator = torch.Generator().manual_seed(0)
    begin = torch.tensor([start], dtype=torch.float64)
    return polytope.draw(table, begin, concentration=concentration, kept=kept, burn=100, generator=generator)[
        0
    ]


def test_without_walls_points_are_spread_evenly_over_the_simplex():
    """The first weight of three is below 1/2 with chance 1 - 1/4."""
    points = drawn([], [0.2, 0.3, 0.5])
    assert torch.allclose(points.sum(1), torch.ones(4000, dtype=torch.float64))
    assert float((points[:, 0] < 0.5).double().mean()) == pytest.approx(0.75, abs=0.03)


def test_no_point_is_behind_a_wall_and_those_before_it_are_even():
    """The part with first >= second: half of the simplex, where the mean is (4/9, 1/6, ...) by symmetry.

    The triangle's corners are (1,0,0), (0,0,1) and (1/2,1/2,0), and its mean is that of the corners.
    """
    points = drawn([[1.0, -1.0, 0.0]], [0.5, 0.2, 0.3])
    assert bool((points[:, 0] >= points[:, 1]).all())
    assert points.mean(0).tolist() == pytest.approx([0.5, 1 / 6, 1 / 3], abs=0.02)


def test_rows_of_zeros_are_no_walls():
    generator = [torch.Generator().manual_seed(0) for _ in range(2)]
    begin = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64)
    one, other = (
        polytope.draw(
            torch.zeros(1, n, 3, dtype=torch.float64), begin, concentration=1.0, kept=5, burn=5, generator=g
        )
        for n, g in zip((0, 2), generator, strict=True)
    )
    assert torch.equal(one, other)


def test_a_peaked_prior_keeps_points_together():
    """Dirichlet(5, 5): variance of the first weight 1 / (4 * 11)."""
    points = drawn([], [0.5, 0.5], concentration=5.0, K=2)
    assert float(points[:, 0].var()) == pytest.approx(1 / 44, rel=0.15)
