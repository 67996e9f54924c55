"""Tastes: sums that are exact, and what they tell."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pal.errors import PalError
from pal.users.points import Points
from pal.users.taste import Taste, sum_evidence

ZERO, ONE = torch.tensor([0.0]), torch.tensor([1.0])
CHOICE = (None, ZERO, ONE)
POINTS = 3
PRIOR = Points(torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]), torch.tensor([0.25, 0.5, 0.25]))
likelihoods = st.lists(
    st.lists(st.floats(-50, 0, width=32), min_size=POINTS, max_size=POINTS), min_size=1, max_size=12
)


def taste(rows=(), model="a" * 32) -> Taste:
    table = torch.tensor(list(rows), dtype=torch.float32).reshape(-1, POINTS)
    return sum_evidence(SimpleNamespace(fingerprint=model, population=PRIOR), table, [len(table)])[0]


def test_the_posterior_by_hand():
    """Prior 1 : 2 : 1, likelihoods 1, 1/2, 1/4: odds 4 : 4 : 1."""
    found = taste([[0.0, -math.log(2), -math.log(4)]])
    torch.testing.assert_close(found.posterior.masses.float(), torch.tensor([4 / 9, 4 / 9, 1 / 9]))
    torch.testing.assert_close(found.state, torch.tensor([6 / 9, 3 / 9]))


def test_uncertainty_by_hand():
    """Prior alone, 1/4, 1/2, 1/4 at 0, 1/2, 1: variance 1/8."""
    found = taste().posterior
    torch.testing.assert_close(found.sd.float(), torch.full((2,), math.sqrt(1 / 8)))


@given(likelihoods, likelihoods)
def test_merging_and_forgetting_are_exact_in_any_order(one, other):
    a, b, both = taste(one), taste(other), taste([*one, *other])
    assert a + b == b + a == both
    assert both - a == b
    assert both - b - a == taste()


def test_without_its_model_a_taste_merges_but_shows_no_weights(line):
    text = line.adapt([CHOICE]).to_json()
    both = Taste.from_json(text) + Taste.from_json(text)
    assert both == line.adapt([CHOICE, CHOICE])
    with pytest.raises(
        PalError, match=r"must have its model at hand, got it without; read it by Taste\.load"
    ):
        _ = both.state
    assert torch.equal(both.with_model(line).state, line.adapt([CHOICE, CHOICE]).state)
    assert (both + line.adapt([CHOICE])).state.shape == (2,)
    assert "read without it" in repr(both)


def test_a_taste_of_another_model_is_refused(line, worded):
    other, own = worded.adapt([("q", "a", "b")]), line.adapt([CHOICE])
    message = f"the taste must be of this model, {line.fingerprint}, got one of {worded.fingerprint}; adapt"
    for refused in (
        lambda: line.score(None, ZERO, user=other),
        lambda: line.ask([CHOICE], other),
        lambda: Taste.from_json(other.to_json(), line),
    ):
        with pytest.raises(PalError, match=message):
            refused()
    for merge in (lambda: own + other, lambda: own - other):
        with pytest.raises(PalError, match="tastes must belong to one model"):
            merge()


def test_tastes_add_up_by_sum_and_nothing_else_adds_to_one(line):
    one, other = (line.adapt([(None, [a], [b])]) for a, b in ((0.0, 1.0), (1.0, 0.25)))
    assert sum([one, other]) == one + other
    for add in (lambda: one + 1, lambda: 1 + one, lambda: one - None):
        with pytest.raises(PalError, match=r"a taste adds up with tastes alone, got (int|NoneType)"):
            add()


def test_what_never_went_in_cannot_be_forgotten():
    two, one = taste([[-1.0, -2.0, -3.0]] * 2), taste([[-1.0, -2.0, -3.0]])
    with pytest.raises(PalError, match="a taste of 1 comparisons cannot forget 2"):
        _ = one - two
    for other in ([[-3.0, -2.0, -1.0]], [[0.0, 0.0, 0.0]]):
        with pytest.raises(PalError, match="are not among these"):
            _ = one - taste(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "must be of the format 'pal-taste', got another"),
        ({"version": 2}, "must have a version of at most 1, got 2; install a newer pal"),
        ({"version": None}, "must give a version of at least 1, got None"),
        ({"model": 3}, "must name its model and count its comparisons, got 3"),
        ({"comparisons": -1}, "got .* and -1"),
        ({"log_likelihood": [2**53, 0]}, "whole numbers below 2\\^53"),
        ({"log_likelihood": [0, 0, 0]}, "the taste must be of this model"),
    ],
)
def test_json_that_does_not_fit_is_refused(line, change, message):
    about = json.loads(line.adapt([CHOICE]).to_json()) | change
    with pytest.raises(PalError, match=message):
        Taste.from_json(json.dumps(about), line)


@pytest.mark.parametrize("text", ["[]", "\xff", "[" * 50_000, "[" * 100_001])
def test_a_file_that_is_no_taste_is_refused(tmp_path, text):
    (tmp_path / "ann.json").write_text(text, encoding="latin-1")
    with pytest.raises(PalError, match=r"ann\.json cannot be used: a taste must (be|have)"):
        Taste.load(tmp_path / "ann.json")


def test_a_missing_file_and_a_place_that_cannot_be_written_are_told(tmp_path):
    with pytest.raises(PalError, match=r"ann\.json cannot be read \(No such file"):
        Taste.load(tmp_path / "ann.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(PalError, match=r"cannot be written \("):
        taste().save(tmp_path / "file" / "ann.json")


def test_numbers_that_are_no_likelihoods_are_refused():
    with pytest.raises(PalError, match="evidence must be finite"):
        taste([[math.nan, 0.0, 0.0]])


def test_a_taste_is_saved_and_shows_itself(line, tmp_path):
    found = line.adapt([CHOICE] * 2)
    found.save(tmp_path / "new" / "ann.json")
    assert Taste.load(tmp_path / "new" / "ann.json", line) == found
    assert repr(found) == "Taste(2 comparisons, state 0.88 ± 0.32, 0.12 ± 0.32)"
