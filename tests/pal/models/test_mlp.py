import pytest
import torch

from pal.config import HeadConfig
from pal.models.ideal_point import ByteDropout, StackedMLP

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


def test_byte_dropout_drops_its_share_and_scales_the_rest():
    """0.3 of 256 is 77: 77/256 are dropped, and 256/179 = 1.43 is 1.4297 in bfloat16; a gradient passes alike."""
    torch.manual_seed(0)
    x = torch.ones(1 << 16, dtype=torch.bfloat16, requires_grad=True)
    out = ByteDropout(0.3)(x)
    out.sum().backward()
    assert set(out.tolist()) == {0.0, 1.4296875}
    assert (out == 0).float().mean().item() == pytest.approx(77 / 256, abs=0.01)
    assert torch.equal(x.grad, out.detach())
    assert torch.equal(ByteDropout(0.3).eval()(x), x)
