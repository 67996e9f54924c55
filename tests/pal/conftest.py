from types import SimpleNamespace

import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig
from pal.encoders.model_free import CLASSICAL_DIM
from pal.models.base import make_model
from pal.models.ideal_point import IdealPointModel
from pal.serving.reward_model import RewardModel
from pal.users.points import Points


def _answers(n: int, users: range, prompts: torch.Tensor, responses: torch.Tensor) -> Comparisons:
    """Users of even number like a response along the prompt, the others one against it."""
    user = torch.arange(n) % len(users) + users.start
    prompt = torch.randint(len(prompts), (n,))
    first = torch.randint(len(responses), (n,))
    second = (first + torch.randint(1, len(responses), (n,))) % len(responses)
    along = (prompts[prompt] * (responses[first] - responses[second])).sum(1)
    likes_first = (along > 0) == (user % 2 == 0)
    chosen, rejected = torch.where(likes_first, first, second), torch.where(likes_first, second, first)
    return Comparisons.from_pairs(user=user - users.start, prompt=prompt, chosen=chosen, rejected=rejected)


def duels(rewards: torch.Tensor, user: torch.Tensor, draw: torch.Generator, lapse=0.0) -> Comparisons:
    """Two random items for each user of a list, answered by the odds of the users' rewards, (users, items).

    In a share `lapse` of the answers a coin is tossed.
    """
    rows = torch.stack([torch.randperm(rewards.shape[1], generator=draw)[:2] for _ in user])
    margin = rewards[user, rows[:, 0]] - rewards[user, rows[:, 1]]
    chance = (1 - lapse) * torch.sigmoid(margin) + lapse / 2
    first = torch.rand(len(user), generator=draw) < chance
    chosen, rejected = torch.where(first, rows.T, rows.flip(1).T)
    return Comparisons.from_pairs(user=user, prompt=None, chosen=chosen, rejected=rejected)


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """Two groups of opposite taste: 20 seen users and 10 new ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prompts = torch.nn.functional.normalize(torch.randn(30, 4), dim=1)
        responses = torch.nn.functional.normalize(torch.randn(40, 4), dim=1)
        return SimpleNamespace(
            embeddings=Embeddings(prompts, responses),
            train=_answers(1000, range(20), prompts, responses),
            val=_answers(200, range(20), prompts, responses),
            adapt=_answers(100, range(20, 30), prompts, responses),
            test=_answers(400, range(20, 30), prompts, responses),
            n_users=20,
            n_new=10,
        )


def line_head() -> IdealPointModel:
    """On a line, f the identity, prototypes at 0 and 1: of 0 over 1, margins are +1 and -1."""
    config = HeadConfig(model="A", K=2, latent=1, hidden_layers=0, bias=False)
    head = IdealPointModel(config, prompt_dim=0, response_dim=1)
    head.f.first.weight.data = torch.ones(1, 1)
    head.prototypes.data = torch.tensor([[0.0], [1.0]])
    return head.eval()


@pytest.fixture
def line() -> RewardModel:
    """On a line: a response x is worth -(x - a)^2, ideal points a from 0 (user `zero`) to 1 (user `one`).

    Of response 0 over 1 the margin is +1 for `zero` and -1 for `one`, who are as likely.
    """
    weights = torch.eye(2)
    prior = Points(weights, torch.tensor([0.5, 0.5]))
    return RewardModel(line_head(), ["zero", "one"], weights, prior, FitConfig(), {}, 0, 1)


@pytest.fixture
def worded() -> RewardModel:
    """Model B on hashed words, of random numbers: prompts and responses are texts."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        head = make_model(HeadConfig(K=3, latent=4, hidden=5), prompt_dim=256, response_dim=256)
        weights = torch.softmax(2 * torch.randn(40, 3), 1)
    about = {"encoder": "hashed-words", "weights_sha256": "", "files_sha256": "", "dim": 256}
    encoder = {"prompts": about, "responses": about}
    ids = [f"user {number}" for number in range(40)]
    return RewardModel(head, ids, weights, Points.from_states(weights), FitConfig(), encoder, 256, 256)


@pytest.fixture
def pictures() -> RewardModel:
    """Model A on pictures, of random numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        head = make_model(HeadConfig(model="A", K=2, latent=3), prompt_dim=0, response_dim=CLASSICAL_DIM)
    about = {"encoder": "classical", "weights_sha256": "", "files_sha256": "", "dim": CLASSICAL_DIM}
    weights = torch.tensor([[0.7, 0.3], [0.2, 0.8]])
    encoder = {"prompts": None, "responses": about}
    prior = Points.from_states(weights)
    return RewardModel(head, ["a", "b"], weights, prior, FitConfig(), encoder, 0, CLASSICAL_DIM)
