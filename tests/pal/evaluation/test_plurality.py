import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig
from pal.errors import PalError
from pal.evaluation.plurality import plurality_test
from pal.fitting.trainer import fit
from pal.models.ideal_point import IdealPointModel

EMBEDDINGS = Embeddings(torch.zeros(1, 0), torch.tensor([[0.0], [1.0]]))


def line_head() -> IdealPointModel:
    """On a line, f the identity, prototypes at 0 and 1: of 0 over 1, margins are +1 and -1."""
    config = HeadConfig(model="A", K=2, latent=1, hidden_layers=0, bias=False)
    head = IdealPointModel(config, prompt_dim=0, response_dim=1)
    head.f.first.weight.data = torch.ones(1, 1)
    head.prototypes.data = torch.tensor([[0.0], [1.0]])
    return head.eval()


def answers(user: list[int], chosen: list[int]) -> Comparisons:
    c = torch.tensor(chosen)
    return Comparisons.from_pairs(user=torch.tensor(user), prompt=None, chosen=c, rejected=1 - c)


def test_users_at_their_own_prototypes_gain_what_dealing_loses():
    """Users 0 and 2 choose 0, users 1 and 3 choose 1, each at the own prototype: margins are 1 throughout.

    A deal gives each user a random one of the four weights; by symmetry two of four are of the other kind on
    average, and the loss there is softplus(1) in place of softplus(-1), which is 1 more: the gain is 1/2.
    """
    weights = torch.eye(2).repeat(2, 1)
    found = plurality_test(line_head(), weights, EMBEDDINGS, answers([0, 1, 2, 3], [0, 1, 0, 1]), deals=4000)
    assert found.gain == pytest.approx(0.5, abs=0.03)
    assert (found.n_users, found.n_comparisons) == (4, 4)


def test_the_p_value_is_the_share_of_deals_as_good():
    """Of the 4! deals of (a, b, a, b) four keep everyone's kind: a third of 12 ... 4 / 24 = 1/6."""
    weights = torch.eye(2).repeat(2, 1)
    found = plurality_test(line_head(), weights, EMBEDDINGS, answers([0, 1, 2, 3], [0, 1, 0, 1]), deals=4000)
    assert found.p_value == pytest.approx(1 / 6, abs=0.02)


def test_users_count_alike_however_often_they_answer():
    """User 0, wrong once by 1, against user 1, right nine times: mean of users, not of answers.

    Own weights: (softplus(1) + softplus(-1)) / 2; the other deal is the same with places changed, wrong for
    user 1 in all nine: the same mean, so no gain.
    """
    weights = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    held_out = answers([0] + [1] * 9, [1] + [1] * 9)
    found = plurality_test(line_head(), weights, EMBEDDINGS, held_out, deals=50)
    assert found.gain == pytest.approx(0.0, abs=1e-6)


def test_equal_weights_are_no_evidence():
    """All deals are as good as the own weights, so p is 1."""
    found = plurality_test(
        line_head(), torch.full((4, 2), 0.5), EMBEDDINGS, answers([0, 1, 2, 3], [0, 1, 0, 1])
    )
    assert (found.gain, found.p_value) == (pytest.approx(0.0, abs=1e-9), 1.0)


def test_weights_are_dealt_within_strata_alone():
    """Each user alone in a stratum: nothing can be dealt, and p is 1."""
    weights = torch.eye(2).repeat(2, 1)
    held_out = answers([0, 1, 2, 3], [0, 1, 0, 1])
    alone = plurality_test(line_head(), weights, EMBEDDINGS, held_out, strata=torch.arange(4))
    assert alone.p_value == 1.0


def test_two_groups_are_found(toy):
    config = FitConfig(epochs=60, learning_rate=0.1, batch_size=200)
    head = HeadConfig(model="B", K=2, latent=4, hidden_layers=0, bias=False)
    fitted = fit(toy.embeddings, toy.train, n_users=20, head=head, config=config)
    found = plurality_test(fitted.head, fitted.states, toy.embeddings, toy.val)
    assert found.p_value == 0.001  # none of 999 deals is as good
    assert found.gain > 0


def test_nothing_held_out_is_refused():
    with pytest.raises(PalError, match="held_out must hold at least one comparison, got none"):
        plurality_test(
            line_head(), torch.eye(2), EMBEDDINGS, answers([0], [0])[torch.tensor([], dtype=torch.long)]
        )
