"""The strictest split, on comparisons made by hand: whom nobody saw, on what nobody showed."""

from types import SimpleNamespace

import pytest
import torch

from pal.comparisons import Comparisons
from pipeline.evaluation import strictest
from pipeline.evaluation.answers import Answers


def made(train, adapt, test, prompts=0, responses=20):
    """Rows of (user, prompt, chosen, rejected); prompt None throughout where there are none."""
    rows = [*train, *adapt, *test]
    every = Comparisons.from_pairs(
        user=torch.tensor([r[0] for r in rows]),
        prompt=torch.tensor([r[1] for r in rows]) if prompts else None,
        chosen=torch.tensor([r[2] for r in rows]),
        rejected=torch.tensor([r[3] for r in rows]),
    )
    ends = {"train": (0, len(train)), "adapt": (len(train), len(train) + len(adapt))}
    data = SimpleNamespace(
        comparisons=every,
        prompt_ids=list(range(prompts)),
        response_ids=list(range(responses)),
        select=lambda users, split: every.slice(*ends[split]),
    )
    pairs = every.slice(len(train) + len(adapt), len(rows))
    part = Answers("unseen", 2, pairs, None, {("model", 0): [torch.ones(len(test))]})
    return strictest.of(data, [part], [torch.ones(len(test), dtype=torch.bool)], "")


TRAIN = [(0, 0, 0, 1), (1, 0, 2, 3)]


def test_pairs_on_responses_that_training_showed_are_not_in_it():
    """Of three test pairs the first has a response of training; two are left."""
    found = made(TRAIN, [], [(0, 0, 0, 9), (0, 0, 8, 9), (1, 0, 6, 7)])
    assert (found.pairs, found.left_out, found.why) == (2, 0, "")
    assert int(found.tests[0].judged.total.sum()) == 2


def test_nor_are_pairs_on_what_the_same_user_was_located_by_which_is_counted():
    """User 0 was located by 8 against 9; user 1 may be tested on it."""
    found = made(TRAIN, [(0, 0, 9, 8)], [(0, 0, 8, 10), (1, 0, 8, 10), (0, 0, 11, 12)])
    assert (found.pairs, found.left_out) == (2, 1)


def test_with_a_few_answers_for_all_new_prompts_are_enough():
    rows = [(0, 0, 0, 1)], [(0, 1, 1, 0)], [(0, 0, 0, 1), (0, 1, 0, 1), (0, 2, 0, 1), (1, 1, 0, 1)]
    found = made(*rows, prompts=3, responses=2)
    assert (found.pairs, found.left_out) == (2, 1)


@pytest.mark.parametrize(
    ("test", "prompts", "why"),
    [
        ([], 0, "no unseen user has a comparison to test on"),
        ([(0, 0, 0, 9)], 0, "unseen users are tested on responses that training knows, every one of them"),
        ([(0, 0, 14, 15)], 2, "unseen users are tested on prompts that training knows, every one of them"),
        (
            [(0, 0, 14, 15), (0, 1, 0, 9)],
            2,
            "no comparison of unseen users has a new prompt and new responses",
        ),
        ([(0, 0, 8, 14)], 0, "unseen users were located by the very items that training never showed"),
    ],
)
def test_where_it_cannot_be_formed_the_reason_is_said(test, prompts, why):
    adapt = [(0, 0, n, n + 1) for n in (4, 6, 8, 10, 12)]
    found = made(TRAIN, adapt, test, prompts)
    assert found.pairs == 0
    assert not found.tests
    assert found.why.startswith(why)
