"""Each method recovers its own planted truth."""

from dataclasses import replace

import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.config import registered
from pal.methods import METHODS
from pal.methods.base import Task
from tests.pal.conftest import duels

USERS, ITEMS, DIM = 60, 120, 6


def task(rewards):
    """People's answers on random items, by their rewards of the items, (users, items); and more to test on."""
    user = torch.arange(USERS).repeat_interleave(60)
    comparisons = duels(rewards, user, torch.Generator().manual_seed(1))
    part = torch.arange(len(user)) % 60
    train, val = ((part >= 10).nonzero()[:, 0], (part < 10).nonzero()[:, 0])
    embeddings = Embeddings(torch.zeros(0, 0), ITEM)
    return Task(embeddings, comparisons[train], USERS, comparisons[val], K=2)


ITEM = torch.randn(ITEMS, DIM, generator=torch.Generator().manual_seed(0))


def found(name, task):
    """The rewards that a method learned, (users, items), each person's centred."""
    learned = registered(METHODS, name).learn(task)
    model, states = learned.fitted.head, learned.fitted.states
    none = torch.zeros(ITEMS, 0)
    rewards = torch.stack([model.reward(none, ITEM, state.expand(ITEMS, -1)) for state in states])
    return learned, rewards - rewards.mean(1, keepdim=True)


def agreement(rewards, truth):
    """The correlation over all people and items of what either says, each person's mean aside."""
    truth = truth - truth.mean(1, keepdim=True)
    return torch.corrcoef(torch.stack([rewards.flatten(), truth.flatten()]))[0, 1].item()


def draws(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


BASIS = draws(DIM, 2)
SHARES = torch.softmax(3 * draws(USERS, 2), 1)
GROUP = torch.arange(USERS) % 2
TRUTH = {
    "ideal_point": -0.7 * (draws(USERS, 1, 2) - (ITEM @ BASIS / 2)).square().sum(2),
    "lore": 2 * (ITEM @ BASIS @ SHARES.T).T,
    "pal_free": 2 * (ITEM @ BASIS @ SHARES.T).T,
    "rfm": 1.5 * (ITEM @ BASIS @ draws(USERS, 2).T).T,
    "mrm": 1.5 * (ITEM @ BASIS @ (draws(USERS, 2) + 1).T).T,
    "drm": 1.5 * (ITEM @ draws(USERS, DIM).T).T,
    "maxmin": 2 * (ITEM @ BASIS)[:, GROUP].T,
    "vpl": 1.5 * (ITEM @ BASIS @ draws(USERS, 2).T).T,
    "micro": 2 * (ITEM @ BASIS)[:, GROUP].T,
    "p_rlhf_individual": 1.5 * (ITEM @ (draws(DIM, 1) + 0.7 * draws(USERS, DIM).T)).T,
    "p_rlhf_cluster": 2 * (ITEM @ (draws(DIM, 1) + BASIS @ SHARES.T)).T,
}


@pytest.mark.parametrize("name", TRUTH)
def test_rewards_are_recovered_and_new_people_are_located_by_their_answers(name):
    """The seen people again, as if they were new, by all of their answers."""
    given = task(TRUTH[name])
    learned, rewards = found(name, given)
    assert agreement(rewards, TRUTH[name]) > 0.9
    assert given.val is not None
    belief = learned.posterior(given.embeddings, given.train, USERS)
    right = (learned.probability(given.embeddings, given.val, belief) > 0.5).float().mean()
    shared = learned.posterior(given.embeddings, given.train.slice(0, 0), USERS)
    assert right > (learned.probability(given.embeddings, given.val, shared) > 0.5).float().mean() + 0.02


def test_likings_for_items_are_recovered_where_embeddings_do_not_tell_them():
    """Two kinds of people, told by items that have nothing in common but who likes them."""
    kind = torch.sign(draws(ITEMS))
    truth = 1.5 * torch.outer(1.0 - 2 * GROUP, kind)
    learned, rewards = found("mixed_effects_items", task(truth))
    assert learned.fitted.head.config.item_directions == ITEMS + 1
    assert agreement(rewards, truth) > 0.8
    assert agreement(found("mixed_effects", task(truth))[1], truth) < 0.5


def test_micro_learns_weights_that_depend_on_the_prompt():
    """What everyone likes on one kind of prompts they dislike on the other."""
    plain = task(
        torch.outer(1.0 - 2 * GROUP, 4 * ITEM @ BASIS[:, 0])
    )  # odd users dislike what even ones like

    def of_prompts(of):  # the same answers, as if the kind stood in the prompt
        q, ahead = of.questions, of.sign > 0
        sides = torch.stack([q.first, q.second])[:, of.question]
        chosen, rejected = torch.where(ahead, sides, sides.flip(0))
        return Comparisons.from_pairs(user=of.user // 2, prompt=of.user % 2, chosen=chosen, rejected=rejected)

    train, val = of_prompts(plain.train), of_prompts(plain.val)
    given = replace(
        plain, embeddings=Embeddings(torch.eye(2), ITEM), train=train, val=val, n_users=USERS // 2
    )
    right = {}
    for name in ("bt", "micro"):
        learned = registered(METHODS, name).learn(given)
        belief = learned.posterior(given.embeddings, train, USERS // 2)
        right[name] = (learned.probability(given.embeddings, val, belief) > 0.5).float().mean().item()
    assert right["bt"] < 0.6
    assert right["micro"] > 0.8


def test_general_preferences_may_be_cyclic():
    """Paper beats stone, stone scissors and scissors paper; a reward for each cannot say so."""
    rows = torch.tensor([(0, 1), (1, 2), (2, 0)] * 40)
    comparisons = Comparisons.from_pairs(
        user=torch.arange(len(rows)) // 6, prompt=None, chosen=rows[:, 0], rejected=rows[:, 1]
    )
    given = Task(Embeddings(torch.zeros(0, 0), torch.eye(3)), comparisons, 20)
    learned = registered(METHODS, "gpm").learn(given)
    belief = learned.posterior(given.embeddings, comparisons, 20)
    assert learned.probability(given.embeddings, comparisons, belief).min() > 0.9
    rewards = learned.fitted.head.reward(torch.zeros(3, 0), torch.eye(3), torch.ones(3, 1))
    assert rewards.abs().max() < 0.5  # none is better than the others


def test_popularity_knows_items_and_nothing_of_people_or_of_new_items():
    liked = 2 * draws(ITEMS)
    learned, rewards = found("popularity", task(liked.expand(USERS, -1)))
    assert agreement(rewards, liked.expand(USERS, -1)) > 0.9
    new = torch.randn(5, DIM, generator=torch.Generator().manual_seed(7))
    assert not learned.fitted.head.reward(torch.zeros(5, 0), new, learned.fitted.states[:5]).any()
