import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from pal.errors import PalError
from pal.users.points import project_to_simplex, solve_weights


def asked(n_users: int, each: int, K: int, scale: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed margins of users who answer as Bradley-Terry has it at random weights."""
    g = torch.Generator().manual_seed(seed)
    margins = torch.randn(n_users, each, K, generator=g) * scale
    weights = torch.softmax(torch.randn(n_users, 1, K, generator=g), 2)
    chance = torch.sigmoid((margins * weights).sum(2))
    sign = torch.where(torch.rand(n_users, each, generator=g) < chance, 1.0, -1.0)
    return (margins * sign[:, :, None]).reshape(-1, K), torch.arange(n_users).repeat_interleave(each)


@pytest.mark.parametrize(("K", "scale"), [(1, 1.0), (2, 0.1), (3, 10.0), (6, 1.0)])
def test_weights_are_as_good_as_those_of_scipy(K, scale):
    margins, user = asked(3, 12, K, scale, seed=K)
    weights, _ = solve_weights(margins, user, n_users=3)
    for number, ours in enumerate(weights.double().numpy()):
        m = margins[user == number].double().numpy()

        def loss(w, m=m):
            return np.logaddexp(0, -m @ w).mean()

        def slope(w, m=m):
            return -(m / (1 + np.exp(m @ w))[:, None]).mean(0)

        limits = {"type": "eq", "fun": lambda w: w.sum() - 1}
        theirs = minimize(
            loss, np.full(K, 1 / K), jac=slope, bounds=[(0, 1)] * K, constraints=limits, method="SLSQP"
        )
        assert loss(ours) <= theirs.fun + 1e-6


def test_margins_that_are_not_finite_are_refused():
    with pytest.raises(PalError, match="margins must be finite, got NaN or infinity"):
        solve_weights(torch.tensor([[float("nan"), 0.0]]), torch.tensor([0]), n_users=1)


def test_projection_takes_the_excess_off_evenly():
    """(1, 0.6) sums to 1.6: 0.3 off each. (2, 0.5): all mass on the first. (-1, -1): even."""
    projected = project_to_simplex(torch.tensor([[1.0, 0.6], [2.0, 0.5], [-1.0, -1.0]]))
    torch.testing.assert_close(projected, torch.tensor([[0.7, 0.3], [1.0, 0.0], [0.5, 0.5]]))
