import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig
from pal.fitting.objectives import Mixture, Objective, PerComparison, simplex_grid
from pal.models.base import make_model
from tests.pal.conftest import line_head

EMBEDDINGS = Embeddings(torch.zeros(1, 0), torch.tensor([[0.0], [1.0]]))


def answers(user: list[int], chosen: list[int], label=None, weight=None) -> Comparisons:
    """Each user chooses response 0 or 1 over the other."""
    c = torch.tensor(chosen)
    label, weight = (None if x is None else torch.tensor(x) for x in (label, weight))
    return Comparisons.from_pairs(
        user=torch.tensor(user), prompt=None, chosen=c, rejected=1 - c, label=label, weight=weight
    )


def mixture_of(train: Comparisons, **options) -> Mixture:
    """Of two users, at the prototypes alone."""
    config = FitConfig(objective="mixture", grid_points=0, **options)
    return Mixture(EMBEDDINGS, train, config, 2, line_head())


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


def test_per_comparison_loss_is_the_mean_over_comparisons():
    """Weights (3/4, 1/4) put the ideal point at 1/4: of 0 over 1 the margin is 9/16 - 1/16 = 1/2."""
    train = answers([0, 0], [0, 1])
    objective = PerComparison(EMBEDDINGS, train, FitConfig(), 1, line_head(), torch.tensor([[0.75, 0.25]]))
    loss = objective.loss(line_head(), train, 0.0).item()
    assert loss == pytest.approx((softplus(-0.5) + softplus(0.5)) / 2)


def test_bound_loss_is_the_sum_of_how_far_ideal_points_lie_outside():
    """The ideal point (1/4, 3/4) lies at 3/4 on the line, so a ball of 1/2 is left by 1/4, in two rows: 2 * 2/4."""
    train = answers([0, 0], [0, 1])
    weights = torch.tensor([[0.25, 0.75]])
    config = FitConfig(bound_loss=2.0, bound=0.5)
    plain = PerComparison(EMBEDDINGS, train, FitConfig(), 1, line_head(), weights).loss(
        line_head(), train, 0.0
    )
    bounded = PerComparison(EMBEDDINGS, train, config, 1, line_head(), weights).loss(line_head(), train, 0.0)
    assert (bounded - plain).item() == pytest.approx(1.0)


def test_lengths_of_prompted_ideal_points_are_those_before_normalisation():
    head = make_model(HeadConfig(K=2, normalise="mixed"), prompt_dim=3, response_dim=3).eval()
    embeddings = Embeddings(torch.randn(4, 3), torch.randn(2, 3))
    same = torch.zeros(4, dtype=torch.long)
    questions = Comparisons.from_pairs(
        user=same, prompt=torch.arange(4), chosen=same, rejected=same + 1
    ).questions
    weights = torch.tensor([[0.3, 0.7]]).expand(4, 2)
    with torch.no_grad():
        g = head.g(embeddings.prompts[questions.prompt])
        expected = (0.3 * g[0] + 0.7 * g[1]).norm(dim=1)
        lengths = head.ideal_norm(head.question_features(embeddings, questions), weights)
    torch.testing.assert_close(lengths, expected)


def test_mixture_loss_is_the_likelihood_of_whole_users():
    """Two classes at margins +1 and -1, half each; user 0 answers twice with 0, user 1 once with 1.

    User 0: log(s^2 / 2 + (1 - s)^2 / 2), user 1: log((1 - s) / 2 + s / 2) = log 1/2, s = sigmoid(1);
    minus their sum over three comparisons.
    """
    train = answers([0, 0, 1], [0, 0, 1])
    objective = mixture_of(train, anneal=0)
    s = 1 / (1 + math.exp(-1))
    expected = -(math.log((s**2 + (1 - s) ** 2) / 2) + math.log(0.5)) / 3
    assert objective.loss(line_head(), train, 1.0).item() == pytest.approx(expected)


def test_mixture_shares_follow_the_posteriors_once_annealed():
    """All users answer 0 five times: shares stand still while annealing, then go to the posterior.

    Each answer has odds sigmoid(1) / sigmoid(-1) = e for the first prototype, five have e^5.
    """
    train = answers([0] * 5 + [1] * 5, [0] * 10)
    objective = mixture_of(train, anneal=0.5)
    objective.loss(line_head(), train, 0.1)
    torch.testing.assert_close(objective.log_share.exp(), torch.tensor([0.5, 0.5]))
    objective.loss(line_head(), train, 0.9)
    s = 1 / (1 + math.exp(-5))
    torch.testing.assert_close(objective.log_share.exp() @ objective.points, torch.tensor([s, 1 - s]))


def objective_of(kind: str, train: Comparisons, n_users: int, **options) -> Objective:
    torch.manual_seed(0)
    if kind == "given":
        weights = torch.softmax(torch.randn(n_users, 2), 1)
        return PerComparison(EMBEDDINGS, train, FitConfig(**options), n_users, line_head(), weights)
    config = FitConfig(objective=kind, **options)
    return (Mixture if kind == "mixture" else PerComparison)(EMBEDDINGS, train, config, n_users, line_head())


@pytest.mark.parametrize("kind", ["pal", "given", "mixture"])
@pytest.mark.parametrize("done", [0.1, 1.0])
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 1), st.sampled_from([0.5, 1.0]), st.integers(1, 3)),
        min_size=1,
        max_size=12,
    )
)
def test_a_weight_of_two_is_the_same_comparison_twice(kind, done, given):
    """Losses, gradients and, for the mixture, users' weights: a whole weight stands for so many copies."""
    user, chosen, label, weight = map(list, zip(*given, strict=True))
    weighted = answers(user, chosen, label, [float(w) for w in weight])
    copies = [row for row in given for _ in range(row[3])]
    copied = answers(*(list(column) for column in list(zip(*copies, strict=True))[:3]))
    found = []
    for train in (weighted, copied):
        head, objective = line_head().requires_grad_(), objective_of(kind, train, 4)
        loss = objective.loss(head, train, done)
        loss.backward()
        found.append([loss.detach(), head.f.first.weight.grad, objective.states(head).detach()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def asked(prompts: list[int]) -> Comparisons:
    """One comparison of each prompt in the list, by a user of its own."""
    user, zero = torch.arange(len(prompts)), torch.zeros(len(prompts), dtype=torch.long)
    return Comparisons.from_pairs(user=user, prompt=torch.tensor(prompts), chosen=zero, rejected=zero + 1)


@given(st.lists(st.integers(-1, 6), min_size=1, max_size=40), st.integers(0, 50), st.integers(0, 9))
def test_prompt_by_prompt_an_epoch_holds_every_comparison_once(prompts, batch_size, seed):
    train = asked(prompts)
    objective = objective_of("pal", train, len(prompts), shuffle="prompts", batch_size=batch_size)
    torch.manual_seed(seed)
    batches = list(objective.batches())
    assert len(batches) == objective.n_batches
    assert all(len(batch) == objective.batch_size for batch in batches[:-1])
    order = [user for batch in batches for user in batch.user.tolist()]
    assert sorted(order) == list(range(len(prompts)))
    if len(batches) > 1:
        met = [prompts[user] for user in order]
        changes = sum(a != b for a, b in zip(met[1:], met[:-1], strict=True))
        assert changes == len(set(prompts)) - 1


@pytest.mark.parametrize(
    ("K", "most", "count"),
    [(1, 40, 1), (3, 0, 3), (3, 9, 6), (3, 10, 10)],
)
def test_simplex_grid_is_the_finest_that_fits(K, most, count):
    """K = 3 in steps of 1, 1/2, 1/3 has 3, 6, 10 points; with none allowed the corners stay."""
    points = simplex_grid(K, most)
    assert points.shape == (count, K)
    assert len(points.unique(dim=0)) == count
    assert points.min() >= 0
    torch.testing.assert_close(points.sum(1), torch.ones(count))
