import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pal.comparisons import Comparisons, Embeddings
from pal.errors import PalError


def rows(*numbers: int, dtype: torch.dtype = torch.long) -> torch.Tensor:
    return torch.tensor(numbers, dtype=dtype)


def test_of_puts_the_lower_row_first_and_keeps_the_choice_in_the_sign():
    """Choosing 5 over 2 and 2 over 5 ask one question, (2, 5), and answer it -1 and +1."""
    c = Comparisons.from_pairs(user=rows(0, 1), prompt=rows(7, 7), chosen=rows(5, 2), rejected=rows(2, 5))
    assert len(c.questions) == 1
    assert (c.questions.prompt.item(), c.questions.first.item(), c.questions.second.item()) == (7, 2, 5)
    assert c.question.tolist() == [0, 0]
    assert c.sign.tolist() == [-1.0, 1.0]


@given(
    st.lists(
        st.tuples(st.integers(-1, 3), st.integers(0, 6), st.integers(0, 6)).filter(lambda t: t[1] != t[2]),
        min_size=1,
        max_size=30,
    )
)
def test_questions_give_back_every_answer(answers):
    prompt, chosen, rejected = (torch.tensor(column) for column in zip(*answers, strict=True))
    c = Comparisons.from_pairs(user=torch.zeros_like(chosen), prompt=prompt, chosen=chosen, rejected=rejected)
    asked = c.questions[c.question]
    assert torch.equal(asked.prompt, prompt)
    assert torch.equal(torch.where(c.sign > 0, asked.first, asked.second), chosen)
    assert torch.equal(torch.where(c.sign > 0, asked.second, asked.first), rejected)
    assert len(c.questions) == len({(p, *sorted(pair)) for p, *pair in answers})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": rows(1, 2)}, "chosen and rejected must differ.*in comparison 1;"),
        ({"label": torch.tensor([1.0, 1.1])}, r"label must lie in \[0, 1\]"),
        ({"label": torch.tensor([1.0, torch.nan])}, r"label must lie in \[0, 1\]"),
        ({"weight": torch.tensor([1.0, 0.0])}, "weight must be a finite number above 0, got 0 in comparison 1;"),
        ({"weight": torch.tensor([1.0, torch.nan])}, "weight must be a finite number above 0, got nan"),
    ],
)  # fmt: skip
def test_answers_that_cannot_be_are_refused(change, message):
    answers = {"user": rows(0, 0), "prompt": None, "chosen": rows(1, 1), "rejected": rows(0, 2)}
    with pytest.raises(PalError, match=message):
        Comparisons.from_pairs(**answers | change)


EMBEDDINGS = Embeddings(torch.zeros(2, 3), torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user": rows(5)}, r"user must hold row numbers in \[0, 5\), got 5"),
        ({"chosen": rows(4)}, r"second must hold row numbers in \[0, 4\), got 4"),
        ({"prompt": rows(2)}, r"prompt must hold row numbers in \[0, 2\), got 2"),
        ({"prompt": None}, r"prompt must hold row numbers in \[0, 2\), got -1"),
    ],
)
def test_check_names_rows_that_point_nowhere(change, message):
    c = Comparisons.from_pairs(
        **({"user": rows(0), "prompt": rows(0), "chosen": rows(1), "rejected": rows(0)} | change)
    )
    with pytest.raises(PalError, match=message):
        c.check(EMBEDDINGS, n_users=5, needs_prompts=True)
