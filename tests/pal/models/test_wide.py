from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pal.comparisons import Embeddings, Questions
from pal.config import HeadConfig
from pal.models import wide
from pal.models.heads import Head, make_head
from pal.models.mlp import StackedMLP

DIM = 48
CLOSE = 0.1  # of a vector's length
MODELS = st.one_of(
    st.fixed_dictionaries(
        {"model": st.just("A"), "inputs": st.sampled_from(["response", "prompt_and_response"])}
    ),
    st.fixed_dictionaries(
        {
            "model": st.just("B"),
            "similarity": st.sampled_from(["cosine", "inner"]),
            "normalise": st.sampled_from(["mixed", "each"]),
            "K": st.integers(1, 3),
        }
    ),
)
SHAPES = st.fixed_dictionaries(
    {
        "hidden_layers": st.integers(0, 2),
        "latent": st.sampled_from([DIM, 32]),
        "skip": st.booleans(),
        "bias": st.booleans(),
        "activation": st.sampled_from(["relu", "relu", "gelu"]),
    }
)
OPTIONS = st.tuples(MODELS, SHAPES).map(lambda parts: parts[0] | parts[1])


def half() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


class World:
    """A random head of some width and questions whose prompts and responses repeat."""

    def __init__(self, options: dict, seed: int, n: int = 60) -> None:
        torch.manual_seed(seed)
        config = HeadConfig(**{"model": "B", "hidden": 64, "latent": DIM} | options)
        self.head = make_head(config, prompt_dim=DIM, response_dim=DIM).train()
        self.embeddings = Embeddings(torch.randn(9, DIM), torch.randn(40, DIM))
        first = torch.randint(40, (n,))
        second = (first + torch.randint(1, 40, (n,))) % 40
        self.questions = Questions(torch.randint(9, (n,)), first, second)
        self.weights = torch.softmax(torch.randn(n, config.K), 1)

    def gradients(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Margins, and all gradients of their logistic loss in one row."""
        self.head.zero_grad()
        read = self.head.read(self.embeddings, self.questions)
        with torch.autocast("cpu", enabled=False):
            margin = self.head.margin(read, self.weights)
            torch.nn.functional.softplus(-margin).mean().backward()
        grads = [p.grad for p in self.head.parameters() if p.grad is not None]
        return margin.detach(), torch.cat([grad.flatten() for grad in grads])


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Length of the difference over the length of what was expected."""
    return ((found - expected).norm() / expected.norm().clamp_min(1e-9)).item()


@given(OPTIONS, st.integers(0, 99))
def test_written_out_steps_agree_with_autograd(options, seed):
    """With float32 in bfloat16's place nothing is rounded, so a wrong step would show."""
    world = World(options | {"activation": "relu"}, seed)
    margin, gradients = world.gradients()
    with pytest.MonkeyPatch.context() as patch, half():
        patch.setattr(wide, "HALF", torch.float32)
        found_margin, found_gradients = world.gradients()
    torch.testing.assert_close(found_margin, margin, rtol=1e-4, atol=1e-5)
    assert relative(found_gradients, gradients) < 1e-5


@given(OPTIONS, st.integers(0, 99))
def test_bfloat16_margins_and_gradients_are_near_those_of_float32(options, seed):
    """Rounding is 1 part in 256, but units near zero bend the other way: 10 % of a vector's length."""
    world = World(options, seed)
    margin, gradients = world.gradients()
    with half():
        found_margin, found_gradients = world.gradients()
    assert found_margin.dtype == found_gradients.dtype == torch.float32
    assert relative(found_margin, margin) < CLOSE
    assert relative(found_gradients, gradients) < CLOSE


@pytest.mark.parametrize("similarity", ["cosine", "inner"])
def test_responses_met_at_one_prompt_each_take_the_short_way_to_the_same_gradients(similarity):
    world = World({"hidden_layers": 1, "normalise": "mixed", "similarity": similarity}, 0)
    first = torch.arange(20)
    world.questions = Questions(first % 7, first, first + 20)
    world.weights = world.weights[:20]
    _, gradients = world.gradients()
    with half():
        assert relative(world.gradients()[1], gradients) < CLOSE


def test_bfloat16_dropout_is_a_mask_whose_scale_reaches_output_and_gradients():
    """The mask is read off the hidden layer; a float32 perceptron with that mask must do the same."""
    torch.manual_seed(0)
    mlp = StackedMLP(DIM, 2, HeadConfig(hidden=64, latent=DIM, dropout=0.3)).train()
    x = torch.randn(50, DIM).to(torch.bfloat16)
    with half():
        out = mlp(x)
    kept = (mlp.workspace.take("hidden 0", (2, 50, 64), x.device) != 0).float()
    assert 0.25 < kept.mean() < 0.45  # half are bent to zero, of the others 77 / 256 dropped
    out.float().square().sum().backward()
    found = {name: p.grad.clone() for name, p in mlp.named_parameters()}
    mlp.zero_grad()
    hidden = mlp.first(x.float()).view(50, 2, 64).transpose(0, 1).relu() * kept / (1 - 77 / 256)
    plain = mlp.later[0](hidden) + x.float()
    plain.square().sum().backward()
    assert relative(out.detach().float(), plain.detach()) < CLOSE
    for name, parameter in mlp.named_parameters():
        assert relative(found[name], parameter.grad) < CLOSE, name


def test_no_dropout_in_evaluation():
    world = World({"dropout": 0.5, "hidden_layers": 1}, 0)
    world.head.eval()
    with half():
        one, two = (world.head.read(world.embeddings, world.questions).detach().clone() for _ in range(2))
    assert torch.equal(one, two)


def test_a_second_pass_before_the_backward_of_the_first_is_an_error():
    world = World({"hidden_layers": 1}, 0)
    with half():
        first = world.head.read(world.embeddings, world.questions)
        world.head.read(world.embeddings, world.questions)
    with pytest.raises(RuntimeError, match=r"modified (by an )?in.?place"):
        first.sum().backward()


def kept_numbers(head: Head) -> int:
    return sum(x.numel() for m in (head.f, head.g) for x in m.workspace._kept.values())


def test_buffers_go_with_evaluation_and_stay_behind_in_copies():
    world = World({"hidden_layers": 1}, 0)
    with half():
        world.gradients()
    assert kept_numbers(world.head) > 0
    assert kept_numbers(deepcopy(world.head)) == 0
    world.head.eval()
    assert kept_numbers(world.head) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", [{"model": "A"}, {"model": "A", "inputs": "prompt_and_response"}, {}])
def test_half_embeddings_are_read_as_the_float32_numbers_that_they_are(options, dtype):
    world = World(options, 0)
    world.head.eval()
    e = Embeddings(world.embeddings.prompts.to(dtype), world.embeddings.responses.to(dtype))
    same = Embeddings(e.prompts.float(), e.responses.float())
    read = world.head.read(e, world.questions)
    assert read.dtype == torch.float32
    assert torch.equal(read, world.head.read(same, world.questions))
    w = world.weights
    reward = world.head.reward(e.prompts[:6], e.responses[:6], w[:6])
    assert torch.equal(reward, world.head.reward(same.prompts[:6], same.responses[:6], w[:6]))
