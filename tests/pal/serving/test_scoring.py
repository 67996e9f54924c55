"""Rewards in blocks, whatever repeats computed once: the same numbers as the head's own."""

import pytest
import torch

from pal.config import HeadConfig
from pal.models.base import make_model
from pal.models.prompted_ideal_point import PromptedIdealPointModel
from pal.serving import scoring
from pal.serving.items import Rows

KINDS = [
    {"model": "A", "distance": "l2"},
    {"model": "A", "inputs": "prompt_and_response", "prototypes": "input"},
    {"model": "B"},
    {"model": "B", "normalise": "mixed", "learn_scale": True},
    {"model": "B", "similarity": "inner"},
]
N = 50


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(scoring, "BLOCK", 8)


def head_of(**options):
    torch.manual_seed(0)
    return make_model(HeadConfig(latent=4, hidden=5, **options), prompt_dim=6, response_dim=7).eval()


def prompts_of(how: str) -> Rows:
    """Fifty prompts: all different, in runs, one expanded, or rows of a table in any order."""
    if how == "distinct":
        return Rows(torch.randn(N, 6))
    if how == "runs":
        table = torch.randn(N, 6)
        table[:, 0] = 1  # equal at the first number, which alone decides nothing
        return Rows(table[torch.arange(N) // 7])
    if how == "one":
        return Rows(torch.randn(1, 6)).repeated(N)
    return Rows(torch.randn(20, 6), torch.randint(20, (N,)))


@pytest.mark.parametrize("how", ["distinct", "runs", "one", "table"])
@pytest.mark.parametrize("options", KINDS)
def test_rewards_are_the_heads_own(options, how):
    head = head_of(**options)
    prompts, responses = prompts_of(how), Rows(torch.randn(30, 7), torch.randint(30, (N,)))
    for weights in (torch.softmax(torch.randn(3), 0), torch.softmax(torch.randn(N, 3), 1)):
        expected = head.reward(prompts.block(0, N), responses.block(0, N), weights.expand(N, 3)).detach()
        torch.testing.assert_close(scoring.rewards(head, prompts, responses, weights), expected)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_rewards_are_float32_whatever_comes(kind):
    head = head_of(model="B")
    prompts, responses = torch.randn(N, 6).to(kind), torch.randn(N, 7).to(kind)
    weights = torch.full((3,), 1 / 3)
    found = scoring.rewards(head, Rows(prompts), Rows(responses), weights)
    expected = head.reward(prompts.float(), responses.float(), weights.expand(N, 3)).detach()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_prompts_that_repeat_are_mapped_once(monkeypatch):
    head, mapped = head_of(model="B"), []
    real = PromptedIdealPointModel.embed_prompts

    def counting(self, prompts):
        mapped.append(len(prompts))
        return real(self, prompts)

    monkeypatch.setattr(PromptedIdealPointModel, "embed_prompts", counting)
    responses, weights = Rows(torch.randn(N, 7)), torch.full((3,), 1 / 3)
    for prompts, least, most in (
        (prompts_of("one"), 1, 1),
        (prompts_of("table"), 20, 20),
        (prompts_of("runs"), 8, 8 + N // 8),  # 8 runs, some cut by a block's end
        (prompts_of("distinct"), N, N),
    ):
        mapped.clear()
        scoring.rewards(head, prompts, responses, weights)
        assert least <= sum(mapped) <= most


def test_no_gradient_is_kept():
    head = head_of(model="B")
    found = scoring.rewards(head, prompts_of("one"), Rows(torch.randn(N, 7)), torch.full((3,), 1 / 3))
    assert not found.requires_grad
    assert not found.is_inference()
