"""One reward for many people."""

import math

import pytest
import torch

from pal.errors import PalError
from pal.serving.aggregates import Aggregate

BOTH = torch.tensor([[0.0], [1.0]])


def reward(line, aggregate, responses=BOTH, prompts=None):
    states, mass = aggregate.states(line)
    rewards = line.score_states(None, responses, states)
    combined = aggregate.combine(rewards, mass, prompts or [""] * len(responses))
    return [round(x, 6) for x in combined.tolist()]


def test_aggregates_by_hand(line):
    """`zero` rewards 0 and 1 by 0 and -1, `one` by -1 and 0."""
    assert reward(line, Aggregate("mean")) == [-0.5, -0.5]
    assert reward(line, Aggregate("worst")) == [-1, -1]
    assert reward(line, Aggregate("worst", ["zero"])) == [0, -1]
    assert reward(line, Aggregate("worst", ["zero", None])) == [-0.25, -1]
    assert reward(line, Aggregate("mean", torch.eye(2)[:1])) == [0, -1]
    assert reward(line, Aggregate("quantile", share=0)) == [-1, -1]
    assert reward(line, Aggregate("quantile", share=0.5)) == [-1, -1]
    assert reward(line, Aggregate("quantile", share=0.51)) == [0, 0]
    assert reward(line, Aggregate("quantile", share=1)) == [0, 0]


def test_centred_the_worst_is_who_gains_least(line):
    """Of 0 and 3, `zero` gains 4.5 and -4.5, `one` 1.5 and -1.5 over their means."""
    items = torch.tensor([[0.0], [3.0]])
    assert reward(line, Aggregate("worst"), items) == [-1, -9]
    assert reward(line, Aggregate("worst", centred=True), items) == [1.5, -4.5]
    assert reward(line, Aggregate("worst", centred=True), items, ["p", "q"]) == [0, 0]


def test_a_quantile_weighs_people_and_not_places():
    rewards = torch.tensor([[3.0, 1.0, 2.0]])
    mass = torch.tensor([0.7, 0.1, 0.2])
    for share, expected in ((0.1, 1), (0.11, 2), (0.3, 2), (0.31, 3)):
        assert Aggregate("quantile", share=share).combine(rewards, mass, ["q"]).item() == expected
    assert Aggregate("quantile", share=0).combine(rewards, torch.tensor([0.7, 0.0, 0.3]), ["q"]).item() == 2


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "at least one, got none"),
        (["bob"], "one of the 2 seen in fitting, got 'bob'"),
        (torch.ones(2, 3), r"the user's state must be 2 numbers for each state, got the shape \(1, 3\)"),
    ],
)
def test_groups_that_cannot_be_are_refused(line, groups, message):
    with pytest.raises(PalError, match=message):
        Aggregate("worst", groups).states(line)
    with pytest.raises(PalError, match=r"share must lie in \[0, 1\], got nan"):
        Aggregate("quantile", groups, share=math.nan)


def test_the_minimax_winner_loses_least_in_its_worst_duel():
    """Three people, three responses: two prefer the first to the second, and all the third to both others.

    With steps of 100 each duel is a vote: the third beats everyone with 1; the first beats the third with 0.
    """
    rewards = torch.tensor([[100.0, 100.0, 0.0], [0.0, 0.0, 100.0], [200.0, 200.0, 200.0], [5.0, 5.0, 5.0]])
    least = Aggregate("minimax").combine(rewards, torch.full((3,), 1 / 3), ["a", "a", "a", "alone"])
    assert least.tolist() == pytest.approx([0, 0, 1, 0.5])
    two = Aggregate("minimax").combine(rewards[:2], torch.full((3,), 1 / 3), ["a", "a"])
    assert two.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert Aggregate("median").combine(rewards, torch.full((3,), 1 / 3), "aaaa").tolist() == [100, 0, 200, 5]
