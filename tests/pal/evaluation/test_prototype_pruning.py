"""From too many prototypes down to one."""

import pytest
import torch

from pal.config import FitConfig, HeadConfig
from pal.evaluation.choose_k import one_prototype_per_user
from pal.evaluation.prototype_pruning import least_missed, prune_prototypes, with_prototypes
from pal.models.base import make_model

CONFIG = one_prototype_per_user(FitConfig(batch_size=0))


def heads():
    """Every layout of parameters that prototypes have."""
    yield HeadConfig(model="A", K=4, latent=3, dropout=0.5)
    yield HeadConfig(model="A", K=4, latent=3, prototypes="input", distance="l2", hidden_layers=0)
    yield HeadConfig(model="B", K=4, latent=5, hidden=3, hidden_layers=2)
    yield HeadConfig(model="B", K=4, latent=5, hidden=5, skip=False, bias=False, similarity="inner")
    yield HeadConfig(model="B", K=4, latent=5, hidden_layers=0, normalise="mixed", learn_scale=True)


@pytest.mark.parametrize("config", list(heads()), ids=lambda config: config.model)
def test_what_is_kept_of_a_head_rewards_as_it_did(config):
    torch.manual_seed(0)
    prompts, responses = torch.randn(6, 5), torch.randn(6, 7)
    head = make_model(config, prompt_dim=5, response_dim=7).eval()
    kept = torch.tensor([3, 0, 2])
    small = with_prototypes(head, kept, prompt_dim=5, response_dim=7).eval()
    weights = torch.softmax(torch.randn(6, 3), 1)
    whole = torch.zeros(6, 4).index_copy(1, kept, weights)
    expected = head.reward(prompts, responses, whole)
    torch.testing.assert_close(small.reward(prompts, responses, weights), expected)
    assert small.config.K == 3


def test_the_prototype_without_which_answers_stay_likeliest_is_the_least_missed():
    """Without the first, user 2 falls from -1 to -9; without the second, user 1 from -1 to -2 at the third."""
    joint = torch.tensor([[-50.0, -1.0, -2.0], [-1.0, -9.0, -50.0]])
    assert least_missed(joint) == 2  # nobody is likeliest there
    assert least_missed(torch.tensor([[-50.0, -1.0, -2.0], [-1.0, -9.0, -50.0], [-50.0, -60.0, -1.0]])) == 1


def test_every_number_down_to_one_comes_once_and_two_groups_keep_their_prototypes(toy):
    head = HeadConfig(model="B", latent=4, hidden_layers=0, bias=False, similarity="inner", dropout=0.2)
    fits = list(
        prune_prototypes(toy.embeddings, toy.train, n_users=20, head=head, config=CONFIG, most=3, seed=1)
    )
    assert [fitted.head.config.K for fitted in fits] == [3, 2, 1]
    assert [tuple(fitted.states.shape) for fitted in fits] == [(20, 3), (20, 2), (20, 1)]
    three, two, one = (fitted.train_loss for fitted in fits)
    assert max(two, three) < 0.5 * one
    place = fits[1].states.argmax(1)
    assert len({int(p) for p in place[0::2]}) == len({int(p) for p in place[1::2]}) == 1
    assert place[0] != place[1]
    assert not any(parameter.requires_grad for parameter in fits[0].head.parameters())
