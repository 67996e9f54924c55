"""How carefully people answer: lapses that were planted, people who click, and answers that tell nothing."""

import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.config import HeadConfig
from pal.models.linear import LinearModel
from pal.users.care import care_of, estimate_care
from pal.users.gaussian import Gaussian
from tests.pal.conftest import duels


def answers(lapse, *, answers=100):
    """People whose reward is a normal direction of two: model, population, embeddings and their answers."""
    draw, users = torch.Generator().manual_seed(0), len(lapse)
    x = torch.randn(100, 2, generator=draw)
    taste = 8.0 * (torch.tensor([1.0, 0.0]) + torch.randn(users, 2, generator=draw))
    user = torch.arange(users).repeat_interleave(answers)
    given = duels(taste @ x.T, user, draw, lapse[user])
    model = LinearModel(HeadConfig(model="linear", latent=2), prompt_dim=0, response_dim=2)
    model.directions.copy_(torch.eye(2))
    population = Gaussian(
        torch.tensor([8.0, 0.0, 1.0]),
        torch.diag(torch.tensor([64.0, 64.0, 0.0])),
        torch.zeros(1),
    )
    return model, population, Embeddings(torch.zeros(0, 0), x), given


def test_planted_lapses_are_recovered_within_five_points_from_a_hundred_answers():
    lapse = 0.4 * torch.rand(100, generator=torch.Generator().manual_seed(1))
    care = care_of(*answers(lapse), n_users=100)
    assert float((care.lapse - lapse).abs().mean()) < 0.05
    assert care.usual == pytest.approx(float(lapse.mean()), abs=0.03)


def test_who_clicks_at_random_is_told_from_who_does_not():
    lapse = torch.zeros(40)
    lapse[:8] = 1.0
    care = care_of(*answers(lapse, answers=40), n_users=40)  # from 0.3 on someone stands out
    assert bool((care.low[:8] > 0.3).all())
    assert bool((care.low[8:] < 0.3).all())
    assert care.usual == pytest.approx(0.2, abs=0.06)


def test_of_someone_without_answers_the_usual_is_thought_and_ties_tell_nothing():
    model, population, embeddings, given = answers(torch.full((20,), 0.3), answers=50)
    care = care_of(model, population, embeddings, given, n_users=21)
    assert float(care.lapse[20]) == pytest.approx(care.usual, abs=0.02)
    tied = Comparisons(
        given.user, given.question, given.sign, torch.full_like(given.sign, 0.5), given.questions
    )
    assert len(care_of(model, population, embeddings, tied, n_users=20).lapse) == 20


def test_a_lapse_by_hand():
    """Sure of each answer, and wrong in a fifth of 200: two fifths at random, as half of these are right."""
    margins = torch.tensor([8.0] * 160 + [-8.0] * 40)
    care = estimate_care(margins, torch.zeros(200, dtype=torch.long), torch.ones(200), n_users=1)
    assert float(care.lapse[0]) == pytest.approx(0.4, abs=0.03)
    assert float(care.low[0]) < float(care.lapse[0])
