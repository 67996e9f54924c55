"""From too many prototypes down to one."""

import torch

from pal.config import FitConfig, HeadConfig
from pal.methods.choose_k import least_missed, one_prototype_per_user, prune_prototypes

CONFIG = one_prototype_per_user(FitConfig(batch_size=0))


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
