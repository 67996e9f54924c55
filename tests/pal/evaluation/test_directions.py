"""Embeddings on their leading directions."""

import torch

from pal.comparisons import Comparisons, Embeddings
from pal.evaluation.directions import leading


def asked(first, second, prompt=None):
    return Comparisons.from_pairs(
        user=torch.zeros(len(first), dtype=torch.long), prompt=prompt, chosen=torch.tensor(first),
        rejected=torch.tensor(second),
    )  # fmt: skip


def test_what_lies_in_few_directions_keeps_its_inner_products():
    torch.manual_seed(0)
    table = torch.randn(8, 2) @ torch.randn(2, 5)
    found = leading(Embeddings(torch.zeros(0, 0), table), asked([0, 2, 4], [1, 3, 5]), 2).responses
    assert found.shape == (8, 2)
    torch.testing.assert_close(found @ found.T, table @ table.T)


def test_only_rows_that_are_asked_about_choose_the_directions():
    """Row 2 is long, but nobody is asked about it: the second axis is lost."""
    table = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 9.0]])
    found = leading(Embeddings(torch.zeros(0, 0), table), asked([0], [1]), 1).responses
    torch.testing.assert_close(found.abs(), torch.tensor([[1.0], [2.0], [0.0]]))


def test_a_narrow_table_stays_as_it_is_beside_a_wide_one():
    prompts, responses = torch.eye(3), torch.randn(4, 9)
    found = leading(Embeddings(prompts, responses), asked([0, 1], [2, 3], torch.tensor([0, 1])), 3)
    assert found.prompts is prompts
    assert found.responses.shape == (4, 3)
