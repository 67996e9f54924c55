"""Weights by likelihood alone: exact where that is convex, by descent elsewhere."""

import pytest
import torch

from pal.comparisons import Embeddings, Questions
from pal.config import HeadConfig
from pal.models.base import make_model
from pal.users.points import free_weights, solve_weights


@pytest.fixture
def asked():
    """Numbers of 40 questions to each of five users of a random model A, and how a mix of prototypes answers."""

    def ask(**options):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            head = make_model(
                HeadConfig(model="A", K=3, latent=4, **options), prompt_dim=0, response_dim=4
            ).eval()
            sides = torch.randn(2, 200, 4)
            user = torch.arange(5).repeat_interleave(40)
            true = torch.softmax(2 * torch.randn(5, 3), 1)
        with torch.no_grad():
            rewards = [head.reward(torch.zeros(200, 0), side, true[user]) for side in sides]
        return head, sides, user, torch.sign(rewards[0] - rewards[1])

    return ask


def features_of(head, sides):
    rows = torch.arange(200)
    with torch.no_grad():
        return head.question_features(
            Embeddings(torch.zeros(0, 0), torch.cat([*sides])),
            Questions(torch.full_like(rows, -1), rows, rows + 200),
        )


def test_convex_problem_is_solved_exactly(asked):
    head, sides, user, sign = asked(distance="squared", hidden_layers=0, bias=False)
    assert head.linear
    features = features_of(head, sides)
    with torch.no_grad():
        expected, _ = solve_weights(head.prototype_margins(features) * sign[:, None], user, n_users=6)
        found = free_weights(head, features, sign, user, n_users=6)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_descent_finds_who_answers_alike(asked, loss):
    """Nearly all answers are as the true weights give them; someone without answers has even weights."""
    head, sides, user, sign = asked(distance="l2", hidden_layers=0, bias=False)
    features = features_of(head, sides)
    with torch.inference_mode():
        made = (x[torch.arange(200)] for x in (features, sign, user))  # tensors of that mode
        found = free_weights(head, *made, n_users=6, loss=loss)
        right = (head.margin(features, found[user]) * sign > 0).float()
    assert right.mean() > 0.97
    assert found[5].tolist() == pytest.approx([1 / 3] * 3)
