"""Judging on a study made by hand: one number per item, on which one reward or two rewards look.

Items lie on a line, at their own number. A model of two prototypes likes large numbers with the one and
small numbers with the other; seen user 0 stands at the first, seen user 1 at the second.
"""

from types import SimpleNamespace

import polars as pl
import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.models.heads import Head
from pal.users.adapt import Prior
from pipeline.evaluation import answers, judging
from pipeline.evaluation.headline import find
from pipeline.params import Evaluate
from pipeline.storage.shards import Embedder
from pipeline.study import Study

KNOBS = Evaluate(seed=0, shots=[1, 2], headline_shots=2, draws=20, asked=0, resamples=100)
UP, DOWN = (5, 1), (1, 5)  # chosen, rejected: what who likes large and who likes small numbers answers


class Line(Head):
    """Reads each question as the difference of its two numbers; `likes` says which weights want it large."""

    linear = True
    needs_prompts = False
    questions_at_once = 1000

    def __init__(self, likes=(1.0, -1.0)):
        super().__init__()
        self.likes = torch.tensor(likes)

    def read(self, embeddings, questions):
        return embeddings.responses[questions.first] - embeddings.responses[questions.second]

    def margin(self, read, weights):
        return read[:, 0] * (weights @ self.likes)

    def margins_at(self, read, points):
        return read * (points @ self.likes)

    def reward(self, prompts, responses, weights):
        raise NotImplementedError

    def ideal_lengths(self, *args):
        raise NotImplementedError


def model(weights=((1.0, 0.0), (0.0, 1.0)), likes=(1.0, -1.0)):
    """Two seen users, by default at one prototype each."""
    weights = torch.tensor(weights)
    loss = SimpleNamespace(loss="logistic")
    return SimpleNamespace(head=Line(likes), weights=weights, prior=Prior.of(weights), fit_config=loss)


def made(rows, dataset="pickapic_v1", n_unseen=2, label=None, groups=None):
    """A study from rows of (users, user, split, (chosen, rejected), marks)."""
    full = {"items": "new", "test": None, "filtered": None}
    marks = [{"users": r[0], "split": r[2], **full, **(r[4] if len(r) > 4 else {})} for r in rows]
    schema = dict.fromkeys(("users", "split", "items", "test", "filtered"), pl.Categorical)
    numbers = torch.arange(6).float()[:, None]
    by = Embedder("none", "", "", 1, "float32", "as given")
    return Study(
        dataset=dataset,
        embeddings=Embeddings(torch.zeros(0, 0), numbers),
        embedders={"prompts": None, "responses": by},
        prompt_ids=[],
        response_ids=[f"item {n}" for n in range(6)],
        user_ids={"seen": ["a", "b"], "unseen": [f"new {n}" for n in range(n_unseen)]},
        groups=groups,
        comparisons=Comparisons.of(
            user=torch.tensor([r[1] for r in rows]),
            prompt=None,
            chosen=torch.tensor([r[3][0] for r in rows]),
            rejected=torch.tensor([r[3][1] for r in rows]),
            label=None if label is None else torch.tensor(label),
        ),
        places=pl.DataFrame(marks, schema=schema),
    )


def accuracies(tests):
    """Right and total by users, items, test, pairs, shots of the model."""
    return {
        (t.users, t.items, t.test, t.pairs, t.shots): (float(t.judged.right.sum()), int(t.judged.total.sum()))
        for t in tests
        if t.model == "model"
    }


def judge(data, models=None, baselines=None, **more):
    return judging.judge(data, models or {"model": model()}, baselines or {}, KNOBS, **more)


SEEN = [("seen", 0, "test", UP), ("seen", 1, "test", DOWN), ("seen", 1, "test", UP)]


def test_seen_users_are_judged_with_their_own_weights():
    """User 0 likes large numbers and chose one; user 1 likes small ones and chose one of two."""
    assert accuracies(judge(made(SEEN)).main) == {("seen", "all", "", "all", None): (2, 3)}


def test_unseen_users_without_comparisons_are_judged_from_none_and_nothing_else():
    """At the mean of both prototypes every margin is zero, which counts one half."""
    found = judge(made([*SEEN, ("unseen", 0, "test", UP), ("unseen", 1, "test", DOWN)])).main
    assert accuracies(found)["unseen", "all", "", "all", 0] == (1, 2)
    assert {t.shots for t in found if t.users == "unseen"} == {0}


def test_unseen_users_are_located_from_their_comparisons():
    """New 0 chose the larger number once, which fits the first prototype alone: right on the next."""
    rows = [*SEEN, ("unseen", 0, "adapt", UP), ("unseen", 0, "test", UP)]
    found = accuracies(judge(made(rows)).main)
    assert found["unseen", "all", "", "all", 0] == (0.5, 1)
    assert found["unseen", "all", "", "all", 1] == found["unseen", "all", "", "all", 2] == (1, 1)


def test_users_who_cannot_be_located_stand_apart_where_others_can():
    rows = [*SEEN, ("unseen", 0, "adapt", UP), ("unseen", 0, "test", UP), ("unseen", 1, "test", UP)]
    found = accuracies(judge(made(rows)).main)
    assert {key[-1] for key in found if key[0] == "unseen"} == {0, 1, 2}
    assert found["unseen", "all", "", "all", 2] == (1, 1)
    assert {key for key in found if key[0] == "unlocated"} == {("unlocated", "all", "", "all", 0)}
    assert found["unlocated", "all", "", "all", 0] == (0.5, 1)


CELLS = [
    ("seen", 0, "test", UP, {"test": "test"}),
    ("seen", 1, "test", UP, {"test": "test"}),
    ("seen", 0, "test", UP, {"test": "test_unique"}),
    ("unseen", 0, "adapt", UP),
    ("unseen", 0, "test", UP, {"test": "test"}),
    ("unseen", 0, "test", DOWN, {"test": "test_unique"}),
    ("unseen", 1, "test", UP, {"test": "test_unique"}),
]


def test_each_test_set_is_judged_on_seen_and_on_all_users():
    """`test`: seen 1 of 2; all with the unseen from none 1.5 of 3, from 2 shots 2 of 3. `test_unique`: seen 1
    of 1; from none two halves more, from 2 shots new 0 is wrong and new 1, never located, half right."""
    results = judge(made(CELLS))
    found = accuracies(results.cells)
    assert results.test == "test"
    assert found["seen", "all", "test", "all", None] == (1, 2)
    assert found["all", "all", "test", "all", 0] == (1.5, 3)
    assert found["all", "all", "test", "all", 2] == (2, 3)
    assert found["seen", "all", "test_unique", "all", None] == (1, 1)
    assert found["all", "all", "test_unique", "all", 0] == (2, 3)
    assert found["all", "all", "test_unique", "all", 2] == (1.5, 3)


def test_headlines_are_about_the_untied_test_set_alone():
    found = accuracies(judge(made(CELLS)).main)
    assert found["seen", "all", "test", "all", None] == (1, 2)
    assert found["unseen", "all", "test", "all", 0] == (0.5, 1)


def test_of_version_two_headlines_are_about_what_does_not_leak_and_both_parts_are_its_test_set():
    rows = [
        ("seen", 0, "test", UP, {"test": "leakage"}),
        ("seen", 0, "test", UP, {"test": "leakage"}),
        ("seen", 1, "test", UP, {"test": "no_leakage"}),
        ("unseen", 0, "test", UP, {"test": "no_leakage"}),
    ]
    results = judge(made(rows))
    assert results.test == "no_leakage"
    assert accuracies(results.main)["seen", "all", "no_leakage", "all", None] == (0, 1)
    cells = accuracies(results.cells)
    assert cells["seen", "all", "test", "all", None] == (2, 3)
    assert cells["all", "all", "test", "all", 0] == (2.5, 4)


def test_one_named_test_set_is_no_reason_for_cells():
    results = judge(made([(*row, {"test": "test"}) for row in SEEN]))
    assert (results.test, results.cells) == ("", [])


def test_baselines_need_no_shots_in_the_cell_of_all_users():
    """Whatever is longer: the margin of the larger number. Right on the three pairs of `test`, all UP."""

    def larger(pairs):
        q = pairs.questions
        return (q.first - q.second)[pairs.question].float() * pairs.sign

    tests = judge(made(CELLS), baselines={"longer": larger}).cells
    found = find(tests, "all", "longer", test="test")
    assert (found.judged.right.sum(), found.judged.total.sum(), found.shots) == (3, 3, None)


def test_filtered_and_untouched_pairs_are_judged_apart_for_seen_and_unseen_users():
    rows = [
        ("seen", 0, "test", UP, {"filtered": "winner"}),
        ("seen", 1, "test", DOWN, {"filtered": "loser"}),
        ("seen", 1, "test", UP),
        ("unseen", 0, "adapt", UP),
        ("unseen", 0, "test", UP, {"filtered": "loser"}),
        ("unseen", 0, "test", DOWN),
    ]
    results = judge(made(rows, "pickafilter"))
    found = accuracies(results.filters)
    assert found["seen", "all", "", "filtered", None] == (2, 2)
    assert found["seen", "all", "", "untouched", None] == (0, 1)
    assert found["unseen", "all", "", "filtered", 2] == (1, 1)
    assert found["unseen", "all", "", "untouched", 2] == (0, 1)
    assert accuracies(results.main)["seen", "all", "", "all", None] == (2, 3)


def test_where_all_test_pairs_are_filtered_there_are_no_untouched_rows():
    found = judge(made([(*row, {"filtered": "winner"}) for row in SEEN])).filters
    assert {t.pairs for t in found} == {"filtered"}


def test_where_no_pair_is_filtered_there_are_no_filters():
    assert judge(made(SEEN)).filters == []


@pytest.mark.parametrize(
    ("dataset", "kinds"), [("pickapic_v1", {"all", "known", "new"}), ("own", {"known", "new"})]
)
def test_items_are_pooled_unless_the_split_keeps_them_apart_on_purpose(dataset, kinds):
    rows = [(*SEEN[0], {"items": "known"}), *SEEN[1:]]
    assert {t.items for t in judge(made(rows, dataset)).main} == kinds


def test_ties_are_neither_right_nor_wrong_and_a_label_below_half_prefers_the_other():
    """Of four pairs one is a tie; in another the rejected one is preferred with 0.75, as user 0 would."""
    rows = [*SEEN, ("seen", 0, "test", DOWN)]
    found = accuracies(judge(made(rows, label=[1.0, 1.0, 0.5, 0.25])).main)
    assert found == {("seen", "all", "", "all", None): (3, 3)}


def test_only_ties_leave_nothing_to_judge():
    assert judge(made(SEEN, label=[0.5] * 3)).main == []


def test_controls_stand_beside_the_model():
    """One prototype that likes large numbers; the oracle knows that new 0 is of user 1's group."""
    groups = {"seen": ["up", "down"], "unseen": ["down", "up"]}
    alone = model([[1.0], [1.0]], likes=(1.0,))
    told = model([[0.0, 1.0], [1.0, 0.0]], likes=(-1.0, 1.0))  # groups by name: down, up
    rows = [*SEEN, ("unseen", 0, "test", DOWN)]
    tests = judge(made(rows, groups=groups), {"model": model(), "k1": alone, "oracle": told}).main
    rights = {(t.users, t.model, t.shots): float(t.judged.right.sum()) for t in tests}
    assert rights["seen", "k1", None] == 2
    assert rights["seen", "oracle", None] == 2
    assert rights["unseen", "k1", None] == 0
    assert rights["unseen", "oracle", None] == 1


def test_one_half_can_be_judged_alone():
    rows = [*SEEN, ("unseen", 0, "test", UP)]
    assert {t.users for t in judge(made(rows), halves=("seen",)).main} == {"seen"}


def test_few_answers_are_judged_by_balanced_accuracy_too():
    """Two answers, 5 and 1: user 0 always says 5, and is right in two of two; user 1 says 1, and is right in
    one of one saying so and none of one saying 5: (2/3 + 1/1) / 2."""
    rows = [*SEEN, ("seen", 0, "test", UP)]
    (test,) = judge(made(rows)).main
    assert test.balanced == pytest.approx((2 / 3 + 1) / 2)


def test_margins_under_several_tables_are_those_under_each():
    data, one = made(SEEN), model()
    pairs, _ = answers.decided(data.select("seen", "test"))
    tables = [one.weights, one.weights.flip(0)]
    first, second = answers.margins_by(one, tables, data, pairs)
    assert first.tolist() == [4, 4, -4]
    assert second.tolist() == [-4, -4, 4]
