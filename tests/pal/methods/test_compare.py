"""Methods compared: differences, their correction and the sentence, by hand."""

import numpy as np
import pytest
import torch

from pal.comparisons import Comparisons
from pal.evaluation.accuracy import Judged
from pal.methods.base import Method
from pal.methods.compare import Judgement, Place, decide, first_answers, holm, places, table

KNOWN, NEW = Place("seen", "known", None), Place("seen", "new", None)
LATER = Place("unseen", "known", 20)
METHODS = {
    name: Method(f"title of {name}", "", "", lambda task: None, personal=name != "bt")
    for name in ("bt", "close", "free")
}


def judged(*shares, users=40, answers=20):
    """Users of whom each in turn is right in these shares of their answers."""
    right = np.resize(np.array(shares), users) * answers
    return Judgement(Judged(right, np.full(users, answers)), 0.5, 0.02)


def results(**accuracies):
    """By method the accuracies at known items, new items, and of new people."""
    return {
        name: dict(zip((KNOWN, NEW, LATER), (judged(*each) for each in by_place), strict=True))
        for name, by_place in accuracies.items()
    }


def test_holm_by_hand():
    """Three times the least, twice the next, and never less than a smaller one's."""
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_first_answers_are_nested_and_of_those_who_have_that_many():
    user = torch.tensor([1, 0, 1, 1, 0])
    assert first_answers(user, 3, 0).tolist() == [False] * 5
    assert first_answers(user, 3, 1).tolist() == [True, True, False, False, False]
    assert first_answers(user, 3, 3).tolist() == [True, False, True, True, False]
    assert first_answers(user, 3, 2).tolist() == [True, True, True, False, True]


def test_places_hold_the_users_who_have_the_answers():
    def of(*users):
        n = torch.tensor(users, dtype=torch.long)
        return Comparisons.from_pairs(
            user=n, prompt=None, chosen=torch.zeros_like(n), rejected=torch.ones_like(n)
        )

    known = {"seen": of(0, 0), "unseen": of(*[0] * 20, *[1] * 5)}
    tests = {("seen", "known"): of(0), ("seen", "new"): of(), ("unseen", "known"): of(0, 1, 2, 2)}
    found = places(known, {**tests, ("unseen", "new"): of(0, 1)}, {"seen": 1, "unseen": 3})
    assert {
        (p.users, p.items, p.answers): (len(h.known), h.test.user.tolist()) for p, h in found.items()
    } == {
        ("seen", "known", None): (2, [0]),
        ("unseen", "known", 0): (0, [0, 1, 2, 2]),
        ("unseen", "known", 5): (10, [0, 1]),
        ("unseen", "known", 10): (10, [0]),
        ("unseen", "known", 20): (20, [0]),
        ("unseen", "new", 20): (20, [0]),
    }


def test_the_table_holds_differences_to_the_best_of_each_place():
    rows = table(results(bt=[[0.7], [0.7], [0.7]], close=[[0.8], [0.65], [0.75]]), {"bt": 1.0, "close": 2.0})
    assert [(row["place"], row["method"], row["best"], row["difference"]) for row in rows] == [
        ("known people, known items", "bt", False, -0.1),
        ("known people, known items", "close", True, 0.0),
        ("known people, new items", "bt", True, 0.0),
        ("known people, new items", "close", False, -0.05),
        ("new people, 20 answers, known items", "bt", False, -0.05),
        ("new people, 20 answers, known items", "close", True, 0.0),
    ]
    assert rows[0]["p_value"] < 0.001
    assert (rows[0]["accuracy"], rows[0]["n_users"], rows[0]["n_pairs"]) == (0.7, 40, 800)


def test_personalising_pays_with_the_method_that_gains_and_loses_nowhere():
    """`free` gains more on known items, but loses on new ones."""
    said = decide(
        results(bt=[[0.7]] * 3, close=[[0.8], [0.75], [0.8]], free=[[0.9], [0.65], [0.8]]), METHODS
    )[1]
    assert said.startswith(
        "Personalising pays on these data: close (title of close) less bt, in points of accuracy, "
        "known people, known items: +10.0 (95 % interval +9.9 to +10.1), p = 0.0002 after Holm over 2; "
        "known people, new items: +5.0"
    )
    assert "new people, 20 answers, known items: +10.0" in said


def test_it_is_never_recommended_where_new_items_lose():
    said = decide(results(bt=[[0.7]] * 3, free=[[0.9], [0.65], [0.8]]), METHODS)[1]
    assert said.startswith("Do not personalise by these numbers")
    assert "known people, new items: -5.0" in said
