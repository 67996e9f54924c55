"""Agreement of prototypes, dead ones, users outside the hull, and plurality, on margins made by hand."""

import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.config import HeadConfig
from pal.errors import PalError
from pal.evaluation.prototypes import dead_prototypes, match_prototypes, outside_hull, plurality_test
from pal.models.ideal_point import IdealPointModel

EVEN = torch.full((2,), 0.5)


def test_prototypes_that_only_changed_places_agree_fully_and_what_everybody_likes_is_no_agreement():
    """On a question that everybody answers alike both differ from it alone: by +1, -1 and by -1, +1. Less the
    means, the last two fits differ on question 2 or 3 alone: nothing in common."""
    one = torch.tensor([[5.0, 5.0], [1.0, -1.0]])
    found = match_prototypes(one, one.flip(1) * 3, EVEN, EVEN)
    assert found.partner.tolist() == [1, 0]
    assert found.agreement.tolist() == [1, 1]
    one = torch.tensor([[9.0, 9.0], [1.0, -1.0], [0.0, 0.0]])
    assert match_prototypes(one, one[[0, 2, 1]], EVEN, EVEN).agreement.tolist() == [0, 0]


def test_a_prototype_that_nobody_uses_moves_no_other():
    one = torch.tensor([[1.0, -1.0, 50.0], [0.0, 0.0, 7.0]])
    other = torch.tensor([[1.0, -1.0, -30.0], [0.0, 0.0, 1.0]])
    shares = torch.tensor([0.5, 0.5, 0.0])
    assert match_prototypes(one, other, shares, shares).agreement[:2].tolist() == [1, 1]


def test_a_prototype_is_dead_that_is_nobodys_nearest_or_has_hardly_any_weight():
    """The third is nobody's nearest; with 40 users the second's one user holds 0.025 + ... of 1 / 30."""
    weights = torch.tensor([[0.6, 0.0, 0.4]] * 39 + [[0.0, 1.0, 0.0]])
    assert dead_prototypes(weights).tolist() == [False, True, True]
    assert dead_prototypes(torch.eye(3)).tolist() == [False, False, False]


def mirrored(first, n):
    """n answers to a question that the two prototypes see with margins 1 and 0, and their mirror image."""
    return torch.tensor([first, [-x for x in first]]).repeat(n, 1)


def test_who_is_described_by_a_mix_is_inside_and_who_wants_more_than_any_is_outside_hull():
    """Prototype margins 1 and 0; the wider simplex reaches 1.5, where 40 answers gain 40 log(s(1.5)/s(1)) = 4.4.

    The answers of the second user, half of either side, are likeliest at 0, which both simplices hold.
    """
    strong, undecided = torch.tensor([[1.0, 0.0]] * 40), mirrored([1.0, 0.0], 20)
    user = torch.tensor([0] * 40 + [1] * 40)
    found = outside_hull(torch.cat([strong, undecided]), user, n_users=3)
    assert found.tolist() == [True, False, False]
    gain = 40 * (torch.tensor(1.5).sigmoid().log() - torch.tensor(1.0).sigmoid().log())
    assert 3.0 < float(gain) < 4.5  # log 20 is 3.0


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
    found = plurality_test(
        line_head(), weights, EMBEDDINGS, answers([0, 1, 2, 3], [0, 1, 0, 1]), shuffles=4000
    )
    assert found.gain == pytest.approx(0.5, abs=0.03)
    assert found.p_value == pytest.approx(1 / 6, abs=0.02)  # four of 4! deals keep everyone's kind
    assert (found.n_users, found.n_comparisons) == (4, 4)


def test_users_count_alike_however_often_they_answer():
    """User 0, wrong once by 1, against user 1, right nine times: mean of users, not of answers.

    Own weights: (softplus(1) + softplus(-1)) / 2; the other deal is the same with places changed, wrong for
    user 1 in all nine: the same mean, so no gain.
    """
    weights = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    held_out = answers([0] + [1] * 9, [1] + [1] * 9)
    found = plurality_test(line_head(), weights, EMBEDDINGS, held_out, shuffles=50)
    assert found.gain == pytest.approx(0.0, abs=1e-6)


def test_weights_are_dealt_within_strata_alone():
    """Each user alone in a stratum: nothing can be dealt, and p is 1."""
    weights = torch.eye(2).repeat(2, 1)
    held_out = answers([0, 1, 2, 3], [0, 1, 0, 1])
    alone = plurality_test(line_head(), weights, EMBEDDINGS, held_out, strata=torch.arange(4))
    assert alone.p_value == 1.0


def test_nothing_held_out_is_refused():
    with pytest.raises(PalError, match="held_out must hold at least one comparison, got none"):
        plurality_test(
            line_head(), torch.eye(2), EMBEDDINGS, answers([0], [0])[torch.tensor([], dtype=torch.long)]
        )
