"""What needs no model, by hand."""

import torch

from pal.comparisons import Comparisons
from pipeline.baselines import Majority


def answers(rows, label=None):
    """Comparisons from rows of (prompt, chosen, rejected)."""
    prompt, chosen, rejected = torch.tensor(rows).T
    label = None if label is None else torch.tensor(label)
    return Comparisons.of(
        user=torch.zeros(len(rows)).long(), prompt=prompt, chosen=chosen, rejected=rejected, label=label
    )


# Five pairs of responses, 2 to 11, each met once: with them there are more than ten answers.
MANY = [(0, n, n + 1) for n in range(2, 12, 2)]


def test_where_answers_are_few_the_commoner_one_wins_everywhere():
    """Yes (0) is chosen once and no (1) three times: the net of -2 over 4 met, halved, is -1/4; +1/4 for no.
    The margin is 1/2 for no, also on the prompt where yes won."""
    found = answers([(0, 0, 1), (1, 1, 0), (2, 1, 0), (3, 1, 0)])
    majority = Majority.of(found)
    assert majority.few_answers
    assert majority.by_response.tolist() == [-0.25, 0.25]
    assert majority.margins(found).tolist() == [-0.5, 0.5, 0.5, 0.5]


def test_where_answers_are_many_the_votes_on_the_same_question_win():
    """Two of three take 0 over 1 on prompt 0: a vote of +1 for who chose 0, -1 for who chose 1."""
    found = answers([(0, 0, 1), (0, 0, 1), (0, 1, 0), *MANY])
    majority = Majority.of(found)
    assert not majority.few_answers
    assert majority.margins(found[torch.arange(3)]).tolist() == [1, 1, -1]


def test_a_question_never_asked_goes_to_the_response_chosen_more_often():
    """Training holds MANY alone, where 2 always won (+1/2) and 5 always lost (-1/2): a margin of 1."""
    every = answers([*MANY, (0, 2, 5), (0, 5, 2)])
    majority = Majority.of(every[torch.arange(5)])
    assert majority.margins(every[torch.tensor([5, 6])]).tolist() == [1, -1]


def test_a_tied_question_goes_to_the_response_chosen_more_often():
    """0 and 1 tie on prompt 0; elsewhere 0 beats 2: 0 won 2 of 3 and 1 won 1 of 2, (2 - 1) / 3 / 2 = 1/6."""
    found = answers([(0, 0, 1), (0, 1, 0), (1, 0, 2), *MANY])
    assert torch.allclose(Majority.of(found).margins(found[torch.tensor([0, 1])]), torch.tensor([1, -1]) / 6)


def test_soft_labels_vote_in_part_and_ties_not_at_all():
    """Labels 0.75 and 0.5 are votes of 0.5 and 0."""
    found = answers([(0, 0, 1), (1, 1, 0)], label=[0.75, 0.5])
    assert Majority.of(found).by_question.tolist() == [0.5, 0]


def test_the_other_choice_has_the_opposite_margin():
    found = answers([(0, 0, 1), (0, 0, 1), (1, 2, 0), *MANY])
    turned = answers([(0, 1, 0), (0, 1, 0), (1, 0, 2), *MANY])
    assert torch.equal(Majority.of(found).margins(turned)[:3], -Majority.of(found).margins(found)[:3])
