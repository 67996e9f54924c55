import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pal.comparisons import Embeddings, Questions
from pal.config import HeadConfig
from pal.errors import PalError
from pal.models.base import PreferenceModel, make_model
from pal.models.ideal_point import IdealPointModel, PromptedIdealPointModel

NO_PROMPTS = torch.zeros(2, 0)
HALVES = torch.tensor([[0.5, 0.5]])


def margin(head: PreferenceModel, embeddings: Embeddings, weights: torch.Tensor) -> float:
    """The margin of the one question whether response 0 or 1 is better, asked on prompt 0."""
    one = Questions(torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))
    return head.margin(head.question_features(embeddings, one), weights).item()


def model_a(**options) -> IdealPointModel:
    """f is the identity of the plane; prototypes lie at (0, 0) and (2, 0)."""
    config = HeadConfig(model="A", K=2, latent=2, hidden_layers=0, bias=False, **options)
    head = IdealPointModel(config, prompt_dim=0, response_dim=2)
    head.f.first.weight.data = torch.eye(2)
    head.prototypes.data = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    return head.eval()


@pytest.mark.parametrize(("distance", "rewards"), [("squared", [-1.0, -25.0]), ("l2", [-1.0, -5.0])])
def test_model_a_rewards_nearness_to_the_ideal_point(distance, rewards):
    """Half and half of (0, 0) and (2, 0) is (1, 0): (1, 1) is 1 away, (4, 4) is sqrt(9 + 16) = 5."""
    head = model_a(distance=distance)
    responses = torch.tensor([[1.0, 1.0], [4.0, 4.0]])
    found = head.reward(NO_PROMPTS, responses, HALVES.expand(2, 2))
    torch.testing.assert_close(found, torch.tensor(rewards))
    assert margin(head, Embeddings(NO_PROMPTS, responses), HALVES) == pytest.approx(rewards[0] - rewards[1])


@pytest.mark.parametrize(("prototypes", "reward"), [("latent", -4.0), ("input", 0.0), ("projected", -9.0)])
def test_model_a_mixes_prototypes_where_it_is_told(prototypes, reward):
    """f(x) = 3 relu(x), P = -2 and 4, w half each, x = 1, so f(x) = 3.

    latent: a = Pw = 1, reward -(3 - 1)^2; input: a = f(Pw) = f(1) = 3, reward 0;
    projected: a = f(P)w = (0 + 12) / 2 = 6, reward -(3 - 6)^2.
    """
    options = {"hidden": 1, "latent": 1, "bias": False, "skip": False}
    config = HeadConfig(model="A", K=2, prototypes=prototypes, **options)
    head = IdealPointModel(config, prompt_dim=0, response_dim=1).eval()
    head.f.first.weight.data = torch.ones(1, 1)
    head.f.later[0].weight.data = torch.full((1, 1, 1), 3.0)
    head.prototypes.data = torch.tensor([[-2.0], [4.0]])
    assert head.reward(NO_PROMPTS[:1], torch.ones(1, 1), HALVES).item() == pytest.approx(reward)


@pytest.mark.parametrize(
    ("options", "rewards"),
    [
        ({"normalise": "mixed", "scale": 10.0}, [10.0, 6.0]),
        ({"normalise": "each", "scale": 10.0}, [7.0, 5.0]),
        ({"similarity": "inner"}, [12.5, 7.5]),
        ({"normalise": "mixed", "scale": 1e6}, [100.0, 60.0]),
    ],
)
def test_model_b_rewards_likeness_to_the_ideal_point_of_the_prompt(options, rewards):
    """g_1 = (3, 0), g_2 = (0, 4) at the prompt 1, half each; f is the identity; x = (3, 4), y = (5, 0).

    mixed: z = (1.5, 2) has length 2.5, so (0.6, 0.8), and x to unit length is the same: cos 1; y: 0.6.
    each: z = (0.5, 0.5): 0.5 * (0.6 + 0.8) = 0.7 and 0.5. Inner: 3 * 1.5 + 4 * 2 = 12.5 and 5 * 1.5 = 7.5.
    The scale is kept at most 100.
    """
    config = HeadConfig(K=2, latent=2, hidden_layers=0, bias=False, **options)
    head = PromptedIdealPointModel(config, prompt_dim=1, response_dim=2)
    head.f.first.weight.data = torch.eye(2)
    head.g.first.weight.data = torch.tensor([[3.0], [0.0], [0.0], [4.0]])
    embeddings = Embeddings(torch.ones(1, 1), torch.tensor([[3.0, 4.0], [5.0, 0.0]]))
    found = head.reward(torch.ones(2, 1), embeddings.responses, HALVES.expand(2, 2))
    torch.testing.assert_close(found, torch.tensor(rewards))
    assert margin(head, embeddings, HALVES) == pytest.approx(rewards[0] - rewards[1], rel=1e-5)


def choices(**values):
    return st.fixed_dictionaries({name: st.sampled_from(of_name) for name, of_name in values.items()})


MODEL_A = choices(
    model=["A"],
    distance=["squared", "l2"],
    prototypes=["latent", "input", "projected"],
    inputs=["response", "prompt_and_response"],
)
MODEL_B = choices(model=["B"], similarity=["cosine", "inner"], normalise=["mixed", "each"])
BOTH = choices(
    K=[1, 2, 4], hidden_layers=[0, 1, 2], skip=[True, False], activation=["relu", "gelu"], bias=[True, False]
)
OPTIONS = st.tuples(st.one_of(MODEL_A, MODEL_B), BOTH).map(lambda parts: parts[0] | parts[1])


class World:
    """A random head in double precision, six questions, and weights for them."""

    def __init__(self, options: dict, seed: int) -> None:
        torch.manual_seed(seed)
        config = HeadConfig(latent=4, hidden=5, **options)
        self.head = make_model(config, prompt_dim=3, response_dim=4).double().eval()
        self.embeddings = Embeddings(torch.randn(4, 3).double(), torch.randn(7, 4).double())
        first = torch.randint(7, (6,))
        second = (first + torch.randint(1, 7, (6,))) % 7
        self.questions = Questions(torch.randint(4, (6,)), first, second)
        self.weights = torch.softmax(torch.randn(6, config.K).double(), 1)

    def margin(self, questions: Questions | None = None) -> torch.Tensor:
        read = self.head.question_features(self.embeddings, questions or self.questions)
        return self.head.margin(read, self.weights)


WORLDS = st.builds(World, OPTIONS, st.integers(0, 99))


@given(WORLDS)
def test_margins_agree_with_rewards_at_points_and_at_prototypes(world):
    q, e, K = world.questions, world.embeddings, world.head.config.K
    margin, near = world.margin(), {"rtol": 1e-6, "atol": 1e-6}
    first, second = (
        world.head.reward(e.prompts[q.prompt], e.responses[side], world.weights)
        for side in (q.first, q.second)
    )
    torch.testing.assert_close(margin, first - second, **near)
    torch.testing.assert_close(world.margin(Questions(q.prompt, q.second, q.first)), -margin)
    features = world.head.question_features(e, q)
    torch.testing.assert_close(world.head.margins_at(features, world.weights).diagonal(), margin, **near)
    if world.head.linear:
        at_prototypes = world.head.margins_at(features, torch.eye(K, dtype=torch.float64))
        torch.testing.assert_close((at_prototypes * world.weights).sum(1), margin)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "B"}, "model must be 'A' where there are no prompts, got 'B'"),
        ({"model": "A", "inputs": "prompt_and_response"}, "inputs must be 'response' where there are no"),
    ],
)
def test_head_that_needs_prompts_refuses_to_do_without(options, message):
    with pytest.raises(PalError, match=message):
        make_model(HeadConfig(**options), prompt_dim=0, response_dim=2)
