import pytest
import torch

from pal.config import HeadConfig
from pal.models.mlp import StackedMLP

X = torch.tensor([[1.0, -2.0]])


def constant(mlp: StackedMLP, value: float) -> StackedMLP:
    """The same map with every parameter set to one value."""
    for parameter in mlp.parameters():
        torch.nn.init.constant_(parameter, value)
    return mlp.eval()


def test_no_hidden_layers_is_one_matrix_per_member():
    """Rows (1, 0) and (0, 3) of the matrix make 1 and -6 of (1, -2); members take one row each."""
    mlp = StackedMLP(2, 2, HeadConfig(hidden_layers=0, latent=1, bias=False))
    mlp.first.weight.data = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    assert mlp(X).tolist() == [[[1.0]], [[-6.0]]]


def test_hidden_layers_are_bent_and_biased():
    """All parameters 2, hidden 3: each hidden unit is relu(2 - 4 + 2) = 0, so the output is its bias, 2."""
    mlp = constant(StackedMLP(2, 1, HeadConfig(hidden=3, latent=1, skip=False)), 2.0)
    assert mlp(X).tolist() == [[[2.0]]]


def test_two_hidden_layers_are_bent_twice():
    """From (1, -2), parameters -1, no bias, hidden 2: 1 and 1; then -2 and -2, bent to 0; so 0."""
    config = HeadConfig(hidden=2, hidden_layers=2, latent=1, skip=False, bias=False)
    assert constant(StackedMLP(2, 1, config), -1.0)(X).tolist() == [[[0.0]]]


def test_identity_skip_adds_the_input_where_widths_agree():
    mlp = constant(StackedMLP(2, 3, HeadConfig(latent=2)), 0.0)
    assert mlp(X).tolist() == [X.tolist()] * 3


def test_linear_skip_joins_other_widths():
    """Matrix row for the skip (1, 1), all else 0: 1 - 2 = -1."""
    mlp = constant(StackedMLP(2, 1, HeadConfig(hidden=3, latent=1)), 0.0)
    mlp.first.weight.data[3:] = 1.0
    assert mlp(X).tolist() == [[[-1.0]]]


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
def test_members_do_not_touch_each_other(hidden_layers, skip):
    """The gradient of one member's output reaches its own share of every parameter, and no more."""
    torch.manual_seed(0)
    mlp = StackedMLP(4, 2, HeadConfig(hidden_layers=hidden_layers, hidden=5, latent=3, skip=skip)).eval()
    mlp(torch.randn(6, 4))[0].square().sum().backward()
    for layer in mlp.later:
        assert layer.weight.grad[0].any()
        assert not layer.weight.grad[1].any()
    blocks = [(5, 2)] * bool(hidden_layers) + [(3, 2)] * (skip or not hidden_layers)
    parts = torch.split(mlp.first.weight.grad, [width for width, stack in blocks for _ in range(stack)])
    assert [bool(part.any()) for part in parts] == [True, False] * len(blocks)


@pytest.mark.parametrize("first", [True, False])
def test_dropout_acts_in_training_alone(first):
    torch.manual_seed(0)
    mlp = StackedMLP(2, 1, HeadConfig(dropout=0.5, dropout_first=first))
    assert not torch.equal(mlp(X), mlp(X))
    mlp.eval()
    assert torch.equal(mlp(X), mlp(X))


def test_parameters_are_those_of_the_layers():
    """768 -> 384 -> 768 with biases: 768 * 384 + 384 + 384 * 768 + 768 = 590,976 (D10); the skip is free."""
    mlp = StackedMLP(768, 1, HeadConfig(hidden=384, latent=768))
    assert sum(parameter.numel() for parameter in mlp.parameters()) == 590_976
