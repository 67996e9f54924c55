"""Gaussian populations: posteriors against numerical integration, what adds up, and hard answers."""

import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.config import HeadConfig
from pal.errors import PalError
from pal.models.linear import LinearModel
from pal.users.gaussian import Gaussian, shrunk

NAMES = ("centre", "covariance", "residual")
ITEMS = torch.tensor([[1.0], [-1.0], [2.0], [-2.0], [0.5]])


def population(residual=0.0, variance=1.0) -> Gaussian:
    """One direction, and the factor of a shared part that is the same for everyone."""
    covariance = torch.diag(torch.tensor([variance, 0.0]))
    return Gaussian(torch.tensor([0.0, 1.0]), covariance, torch.tensor([residual]))


def model() -> LinearModel:
    """The response's one number is the direction, and there is no shared part."""
    found = LinearModel(HeadConfig(model="linear", latent=1), prompt_dim=0, response_dim=1)
    found.directions.fill_(1.0)
    return found


def state(answers, *, label=None, given=None):
    """Posterior mean and sd of the direction from (chosen, rejected) rows of ITEMS."""
    given = population() if given is None else given
    rows = torch.tensor(answers, dtype=torch.long).reshape(-1, 2)
    comparisons = Comparisons.from_pairs(
        user=torch.zeros(len(rows), dtype=torch.long), prompt=None, chosen=rows[:, 0], rejected=rows[:, 1],
        label=None if label is None else torch.tensor(label),
    )  # fmt: skip
    embeddings = Embeddings(torch.zeros(0, 0), ITEMS)
    read = given.evidence(model(), embeddings, comparisons)
    return given.posterior(given.total(read, comparisons.user, 1))


def test_the_posterior_agrees_with_numerical_integration():
    """Margins of w are 2 and 1 and -0.5: mode and mean of the exact posterior lie within 0.06 and 0.1."""
    found = state([(0, 1), (4, 2), (4, 0)])
    w = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    log = -0.5 * w**2
    for margin in (2 * w, -1.5 * w, -0.5 * w):
        log = log + torch.nn.functional.logsigmoid(margin)
    density = torch.softmax(log, 0)
    mean = float(density @ w)
    assert float(found.mean[0, 0]) == pytest.approx(float(w[log.argmax()]), abs=0.02)
    assert float(found.mean[0, 0]) == pytest.approx(mean, abs=0.1)
    assert float(found.sd[0, 0]) == pytest.approx(float((density @ (w - mean) ** 2).sqrt()), rel=0.1)
    assert float(found.mean[0, 1]) == 1.0


def test_a_tie_speaks_for_a_margin_near_nought_the_less_the_commoner_ties_are():
    """The mode under a tie beside one preferred answer, against the density on a grid."""
    found = []
    for ties in (0.1, 1.0, 10.0):
        given = Gaussian(*(getattr(population(), name) for name in NAMES), torch.tensor([ties]))
        found.append(float(state([(0, 1), (2, 1)], label=[1.0, 0.5], given=given).mean[0, 0]))
        w = torch.linspace(-8, 8, 16001, dtype=torch.float64)
        chances = [
            torch.stack([m / 2, torch.full_like(m, ties).log(), -m / 2]).log_softmax(0)
            for m in (2 * w, 3 * w)
        ]
        density = chances[0][0] + chances[1][1] - w**2 / 2
        assert found[-1] == pytest.approx(float(w[density.argmax()]), abs=0.02)
    assert found == sorted(found)


def test_samples_have_the_mean_and_the_spread_of_the_posterior():
    found = state([(0, 1)])
    torch.testing.assert_close(found.states.mean(-2), found.mean, atol=1e-6, rtol=0)
    assert float(found.states[..., 0].std()) == pytest.approx(float(found.sd[0, 0]), rel=0.1)
    assert found.masses.sum().item() == pytest.approx(1)


def test_a_residual_lets_answers_that_share_items_count_for_less():
    repeated, apart = [(0, 1)] * 6, [(0, 1), (2, 3)]
    plain, rough = population(), population(residual=1.0)
    assert state(repeated, given=rough).mean[0, 0] < state(repeated, given=plain).mean[0, 0]
    # Of residuals alone, answers on the same two items tell no more than one certain answer would.
    many = state([(0, 1)] * 200, given=rough)
    assert float(many.sd[0, 0]) > 0.5
    assert float(state(apart * 100, given=plain).sd[0, 0]) < 0.45


def test_sets_of_answers_add_up():
    """Natural parameters of two sets are summed: near the posterior of both at once, and exact in any order."""
    given = population()
    comparisons = Comparisons.from_pairs(
        user=torch.tensor([0, 0, 1, 1]), prompt=None,
        chosen=torch.tensor([0, 4, 2, 0]), rejected=torch.tensor([1, 2, 3, 4]),
    )  # fmt: skip
    read = given.evidence(model(), Embeddings(torch.zeros(0, 0), ITEMS), comparisons)
    apart = given.total(read, comparisons.user, 2)
    both = given.total(read, torch.zeros(4, dtype=torch.long), 1)
    torch.testing.assert_close(
        given.posterior(apart.sum(0)).mean, given.posterior(both[0]).mean, atol=0.1, rtol=0
    )
    torch.testing.assert_close(given.total(read[2:], torch.tensor([0, 0]), 1)[0], apart[1])


def test_a_covariance_of_too_few_people_is_shrunk_by_hand():
    """Sum of squares diag(4, 0) of 2 people, 20 more with the mean variance 1: diag(24, 20) / 22."""
    torch.testing.assert_close(
        shrunk(torch.diag(torch.tensor([4.0, 0.0])), 2), torch.diag(torch.tensor([24.0, 20.0])) / 22
    )


def test_tensors_that_are_no_gaussian_are_refused():
    bad = [
        (Gaussian(torch.zeros(2), -torch.eye(2), torch.zeros(1)), "no negative eigenvalue"),
        (Gaussian(torch.zeros(2), torch.eye(3), torch.zeros(1)), "symmetric"),
        (Gaussian(torch.zeros(2), torch.eye(2), -torch.ones(1)), "at least 0"),
        (Gaussian(torch.zeros(3), torch.eye(3), torch.ones(1)), "2 numbers"),
    ]
    for given, sentence in bad:
        with pytest.raises(PalError, match=sentence):
            given.check(model())
