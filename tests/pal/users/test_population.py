import math

import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.users.points import Points
from pal.users.population import adapt
from tests.pal.conftest import line_head

LINE = Embeddings(torch.zeros(1, 0), torch.tensor([[0.0], [1.0]]))
HALF = Points(torch.eye(2), torch.tensor([0.5, 0.5]))


def choices(*chosen: int, label: float = 1.0) -> Comparisons:
    """One user's choices between response 0 and 1."""
    c = torch.tensor(chosen, dtype=torch.long)
    labels = torch.full((len(c),), label)
    return Comparisons.from_pairs(
        user=torch.zeros_like(c), prompt=None, chosen=c, rejected=1 - c, label=labels
    )


def random_weights(n: int, K: int) -> torch.Tensor:
    return torch.softmax(2 * torch.randn(n, K, generator=torch.Generator().manual_seed(n)), 1)


def test_posterior_is_worked_out_exactly():
    """Two choices of 0: odds (s / (1 - s))^2 = e^2 for the prototype at 0, as the prior is even."""
    weights = adapt(line_head(), HALF, LINE, choices(0, 0), n_users=1)
    p = math.exp(2) / (math.exp(2) + 1)
    torch.testing.assert_close(weights, torch.tensor([[p, 1 - p]]))


@pytest.mark.parametrize(("n", "K"), [(1, 2), (128, 1), (1000, 5)])
def test_prior_has_the_mean_of_its_users(n, K):
    weights = random_weights(n, K)
    prior = Points.from_states(weights)
    assert len(prior.points) == len(prior.mass) <= min(n, 128)
    assert prior.mass.sum().item() == pytest.approx(1)
    assert prior.mass.min() > 0
    torch.testing.assert_close(prior.points.sum(1), torch.ones(len(prior.points)))
    torch.testing.assert_close(prior.mean, weights.mean(0), atol=1e-6, rtol=0)


def test_prior_counts_users_who_stand_at_one_place():
    """Three of four users at the first corner: mass 3/4 there."""
    prior = Points.from_states(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]))
    assert dict(zip(prior.points[:, 0].tolist(), prior.mass.tolist(), strict=True)) == {0.0: 0.25, 1.0: 0.75}
