from types import SimpleNamespace

import pytest
import torch
from hypothesis import settings

from pal.comparisons import Comparisons, Embeddings

settings.register_profile("quick", max_examples=20, deadline=None, derandomize=True, database=None)
settings.load_profile("quick")


def _answers(n: int, users: range, prompts: torch.Tensor, responses: torch.Tensor) -> Comparisons:
    """Users of even number like a response along the prompt, the others one against it."""
    user = torch.arange(n) % len(users) + users.start
    prompt = torch.randint(len(prompts), (n,))
    first = torch.randint(len(responses), (n,))
    second = (first + torch.randint(1, len(responses), (n,))) % len(responses)
    along = (prompts[prompt] * (responses[first] - responses[second])).sum(1)
    likes_first = (along > 0) == (user % 2 == 0)
    chosen, rejected = torch.where(likes_first, first, second), torch.where(likes_first, second, first)
    return Comparisons.of(user=user - users.start, prompt=prompt, chosen=chosen, rejected=rejected)


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
