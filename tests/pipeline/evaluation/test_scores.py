"""Slices, metrics and the headline on studies made by hand: one number per item, on which one reward or two rewards look.

Items lie on a line, at their own number. A model of two prototypes likes large numbers with the one and
small numbers with the other; seen user 0 stands at the first, seen user 1 at the second.
"""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.encoders.vector_store import Embedder
from pal.evaluation.accuracy import Judged
from pal.models.base import PrototypeModel
from pal.users.points import Points
from pipeline.__main__ import flatten
from pipeline.evaluation.predictions import predict
from pipeline.evaluation.scores import Score, Scores, compare, fewer_users, find, headline, score_slices
from pipeline.study import Study
from tests.pipeline.conftest import knobs

KNOBS = knobs(shots=[1, 2], headline_shots=2)
UP, DOWN = (5, 1), (1, 5)  # chosen, rejected: what who likes large and who likes small numbers answers


class Line(PrototypeModel):
    """Reads each question as the difference of its two numbers; `likes` says which weights want it large."""

    linear = True
    block_size = 1000
    state_dim = 2

    def __init__(self, likes=(1.0, -1.0)):
        super().__init__()
        self.likes = torch.tensor(likes)

    def question_features(self, embeddings, questions):
        return embeddings.responses[questions.first] - embeddings.responses[questions.second]

    def margin(self, features, states):
        return features[:, 0] * (states @ self.likes)

    def margins_at(self, features, states):
        return features * (states @ self.likes)

    def reward(self, prompts, responses, states):
        raise NotImplementedError


def model(weights=((1.0, 0.0), (0.0, 1.0)), likes=(1.0, -1.0)):
    """Two seen users, by default at one prototype each."""
    states, fit = torch.tensor(weights), SimpleNamespace(loss="logistic")
    about = {"population": Points.from_states(states), "fit_config": fit, "attributes": None}
    return SimpleNamespace(head=Line(likes), states=states, **about)


def study(rows, dataset="pickapic_v1", label=None, groups=None, prompts=None, n_prompts=0, n_responses=6):
    """A study from rows of (users, user, split, (chosen, rejected), marks)."""
    full = {"items": "new", "test": None, "filtered": None}
    marks = [{"users": r[0], "split": r[2], **full, **(r[4] if len(r) > 4 else {})} for r in rows]
    schema = dict.fromkeys(("users", "split", "items", "test", "filtered"), pl.Categorical)
    numbers = torch.arange(n_responses).float()[:, None]
    by = Embedder("none", "", "", 1, "float32", "as given")
    return Study(
        dataset=dataset,
        embeddings=Embeddings(torch.zeros(0, 0), numbers),
        embedders={"prompts": None, "responses": by},
        prompt_ids=[f"prompt {n}" for n in range(n_prompts)],
        response_ids=[f"item {n}" for n in range(n_responses)],
        user_ids={"seen": ["a", "b"], "unseen": ["new 0", "new 1"]},
        groups=groups,
        comparisons=Comparisons.from_pairs(
            user=torch.tensor([r[1] for r in rows]),
            prompt=None if prompts is None else torch.tensor(prompts),
            chosen=torch.tensor([r[3][0] for r in rows]),
            rejected=torch.tensor([r[3][1] for r in rows]),
            label=None if label is None else torch.tensor(label),
        ),
        places=pl.DataFrame(marks, schema=schema),
    )


def scored(data, models=None, baselines=None, **more):
    predictions = predict(data, models or {"model": model()}, baselines or {}, KNOBS, **more)
    return score_slices(predictions, data, KNOBS)


def accuracies(scores):
    """Right and total by users, items, test, pairs, shots of the model."""
    return {
        (s.users, s.items, s.test, s.pairs, s.shots): (float(s.judged.right.sum()), int(s.judged.total.sum()))
        for s in scores
        if s.model == "model"
    }


SEEN = [("seen", 0, "test", UP), ("seen", 1, "test", DOWN), ("seen", 1, "test", UP)]


def test_users_who_cannot_be_located_stand_apart_where_others_can():
    """New 0 chose the larger number once, which fits the first prototype alone: right on the next."""
    rows = [*SEEN, ("unseen", 0, "adapt", UP), ("unseen", 0, "test", UP), ("unseen", 1, "test", UP)]
    data = study(rows)
    scores = scored(data).main
    got = accuracies(scores)
    assert got["unseen", "all", "", "all", 0] == (0.5, 1)
    assert got["unseen", "all", "", "all", 1] == (1, 1)
    assert {key: n for key, n in got.items() if key[0] == "unlocated"} == {
        ("unlocated", "all", "", "all", 0): (0.5, 1)
    }
    few = "Few-shot numbers are of the unseen users with so many comparisons: 0 of 1 at 2."
    assert fewer_users(scores, KNOBS) == [few]


CELLS = [
    ("seen", 0, "test", UP, {"test": "test"}),
    ("seen", 1, "test", UP, {"test": "test"}),
    ("seen", 0, "test", UP, {"test": "test_unique"}),
    *[("unseen", 0, "adapt", UP)] * 2,
    ("unseen", 0, "test", UP, {"test": "test"}),
    ("unseen", 0, "test", DOWN, {"test": "test_unique"}),
    ("unseen", 1, "test", UP, {"test": "test_unique"}),
]


def larger(pairs):
    """A baseline: the margin of the larger number."""
    q = pairs.questions
    return (q.first - q.second)[pairs.question].float() * pairs.sign


def test_few_shot_numbers_are_of_the_users_who_had_so_many_comparisons():
    """New 0 was asked twice, new 1 once, and is wrong about a test that goes against its one answer. With one
    reward for everyone, who likes large numbers, new 0 is right and new 1 wrong: no difference for new 0."""
    rows = [*SEEN, *[("unseen", 0, "adapt", UP)] * 2, ("unseen", 0, "test", UP), ("unseen", 1, "adapt", UP)]
    data = study([*rows, ("unseen", 1, "test", DOWN)])
    scores = scored(data, {"model": model(), "k1": model(likes=(1.0, 1.0))}).main
    got = accuracies(scores)
    assert [got["unseen", "all", "", "all", n] for n in (1, 2)] == [(1, 2), (1, 1)]
    assert fewer_users(scores, KNOBS)[0].endswith("so many comparisons: 1 of 2 at 2.")
    compared = compare(*(find(scores, "unseen", m, shots=n) for m, n in (("model", 2), ("k1", None))), KNOBS)
    assert compared["difference"] == 0


def test_each_test_set_is_judged_on_seen_and_on_all_users_and_headlines_are_about_one():
    """`test`: seen 1 of 2; all with the unseen from none 1.5 of 3, from 2 shots 2 of 3. `test_unique`: seen 1
    of 1; from none two halves more, from 2 shots new 0 is wrong and new 1, never located, half right."""
    scores = scored(study(CELLS), baselines={"longer": larger})
    got = accuracies(scores.by_test)
    assert got["seen", "all", "test", "all", None] == (1, 2)
    assert got["all", "all", "test", "all", 0] == (1.5, 3)
    assert got["all", "all", "test", "all", 2] == (2, 3)
    assert got["seen", "all", "test_unique", "all", None] == (1, 1)
    assert got["all", "all", "test_unique", "all", 0] == (2, 3)
    assert got["all", "all", "test_unique", "all", 2] == (1.5, 3)
    longer = find(scores.by_test, "all", "longer", test="test")
    assert (longer.judged.right.sum(), longer.judged.total.sum(), longer.shots) == (3, 3, None)
    assert scores.test == "test"
    assert accuracies(scores.main)["seen", "all", "test", "all", None] == (1, 2)
    assert accuracies(scores.main)["unseen", "all", "test", "all", 0] == (0.5, 1)


def test_of_version_two_headlines_are_about_what_does_not_leak_and_both_parts_are_its_test_set():
    rows = [
        ("seen", 0, "test", UP, {"test": "leakage"}),
        ("seen", 0, "test", UP, {"test": "leakage"}),
        ("seen", 1, "test", UP, {"test": "no_leakage"}),
        ("unseen", 0, "test", UP, {"test": "no_leakage"}),
    ]
    scores = scored(study(rows))
    assert scores.test == "no_leakage"
    assert accuracies(scores.main)["seen", "all", "no_leakage", "all", None] == (0, 1)
    by_test = accuracies(scores.by_test)
    assert by_test["seen", "all", "test", "all", None] == (2, 3)
    assert by_test["all", "all", "test", "all", 0] == (2.5, 4)


def test_filtered_and_untouched_pairs_are_judged_apart_for_seen_and_unseen_users():
    rows = [
        ("seen", 0, "test", UP, {"filtered": "winner"}),
        ("seen", 1, "test", DOWN, {"filtered": "loser"}),
        ("seen", 1, "test", UP),
        *[("unseen", 0, "adapt", UP)] * 2,
        ("unseen", 0, "test", UP, {"filtered": "loser"}),
        ("unseen", 0, "test", DOWN),
    ]
    scores = scored(study(rows, "pickafilter"))
    got = accuracies(scores.by_filter)
    assert got["seen", "all", "", "filtered", None] == (2, 2)
    assert got["seen", "all", "", "untouched", None] == (0, 1)
    assert got["unseen", "all", "", "filtered", 2] == (1, 1)
    assert got["unseen", "all", "", "untouched", 2] == (0, 1)
    assert accuracies(scores.main)["seen", "all", "", "all", None] == (2, 3)
    assert {s.pairs for s in scored(study([rows[0]])).by_filter} == {"filtered"}
    assert scored(study(SEEN)).by_filter == []


def test_ties_are_neither_right_nor_wrong_and_a_label_below_half_prefers_the_other():
    """Of four pairs one is a tie; in another the rejected one is preferred with 0.75, as user 0 would."""
    rows = [*SEEN, ("seen", 0, "test", DOWN)]
    data = study(rows, label=[1.0, 1.0, 0.5, 0.25])
    assert accuracies(scored(data).main) == {("seen", "all", "", "all", None): (3, 3)}
    assert scored(study(SEEN, label=[0.5] * 3)).main == []


def test_controls_stand_beside_the_model_and_one_half_can_be_judged_alone():
    """One prototype that likes large numbers; the oracle knows that new 0 is of user 1's group."""
    groups = {"seen": ["up", "down"], "unseen": ["down", "up"]}
    alone = model([[1.0], [1.0]], likes=(1.0,))
    oracle = model([[0.0, 1.0], [1.0, 0.0]], likes=(-1.0, 1.0))  # groups by name: down, up
    data = study([*SEEN, ("unseen", 0, "test", DOWN)], groups=groups)
    models = {"model": model(), "k1": alone, "oracle": oracle}
    rights = {(s.users, s.model, s.shots): float(s.judged.right.sum()) for s in scored(data, models).main}
    assert rights["seen", "k1", None] == 2
    assert rights["seen", "oracle", None] == 2
    assert rights["unseen", "k1", None] == 0
    assert rights["unseen", "oracle", None] == 1
    assert {s.users for s in scored(data, halves=("seen",)).main} == {"seen"}


TRAIN = [(0, 0, 0, 1), (1, 0, 2, 3)]


def cold_start(train, adapt, test, n_prompts=0):
    """The cold-start slice, from rows of (user, prompt, chosen, rejected): pairs, left out, why, pairs scored."""
    parts = (("seen", "train", train), ("unseen", "adapt", adapt), ("unseen", "test", test))
    rows = [(users, r[0], split, r[2:]) for users, split, part in parts for r in part]
    prompts = [r[1] for _, _, part in parts for r in part] if n_prompts else None
    scores = scored(study(rows, "own", prompts=prompts, n_prompts=n_prompts, n_responses=20))
    scored_pairs = sum(int(s.judged.total.sum()) for s in scores.cold_start if s.shots == 0)
    return (*(scores.cold_start_counts[name] for name in ("pairs", "left_out", "why")), scored_pairs)


@pytest.mark.parametrize(
    ("test", "n_prompts", "why"),
    [
        ([], 0, "no unseen user has a comparison to test on"),
        ([(0, 0, 0, 9)], 0, "unseen users are tested on responses that training knows, every one of them"),
        ([(0, 0, 14, 15)], 2, "unseen users are tested on prompts that training knows, every one of them"),
        ([(0, 0, 14, 15), (0, 1, 0, 9)], 2, "no comparison of unseen users has a new prompt and new responses at once"),
        ([(0, 0, 8, 14)], 0, "unseen users were located by the very items that training never showed"),
    ],
)  # fmt: skip
def test_where_the_cold_start_slice_is_empty_the_reason_is_said(test, n_prompts, why):
    adapt = [(0, 0, n, n + 1) for n in (4, 6, 8, 10, 12)]
    pairs, _, reason, n_scored = cold_start(TRAIN, adapt, test, n_prompts)
    assert (pairs, reason, n_scored) == (0, why, 0)


NO_P = {"seen": {"p": None}, "unseen": {"p": None}}


def score(users, shots, model, right=3.0, *, items="all", balanced=None, **more):
    """Two users with four comparisons each, of which the second is right in all."""
    judged = Judged(np.array([right, 4.0]), np.array([4, 4]))
    labels = {"users": users, "items": items, "test": "", "pairs": "all", "shots": shots, "model": model}
    metrics = {"accuracy": judged.micro, "macro": judged.macro}
    metrics |= {"balanced": balanced, "worst_decile": right / 4}
    return Score(**{**labels, **more}, user=np.arange(2), judged=judged, metrics=metrics)


def numbers(results, shots=(1, 5, 20), headline_shots=20, p=NO_P):
    given = knobs(shots=list(shots), headline_shots=headline_shots)
    return dict(flatten(headline(results, p, given)))


def everything():
    """Known and new items, baselines, and eight numbers of shots."""
    return [
        score(users, n, model, items=items, balanced=0.5)
        for users in ("seen", "unseen")
        for items in ("known", "new")
        for model in ("model", "k1", "majority", "oracle")
        for n in ([None] if users == "seen" or model != "model" else range(9))
    ]


def test_there_are_at_most_15_with_everything_there_is_to_measure():
    """8 numbers of seen users; zero-shot, 4 few-shot, new items and k1 of unseen users. 7 right of 8; the
    worst tenth is the user with 3 right of 4."""
    p = {"seen": {"differ_p": 0.01}, "unseen": {"differ_p": 0.02}}
    found = numbers(Scores(everything()), range(1, 9), 1, p)
    assert len(found) == 15
    shots = [name.split(".")[2] for name in found if name.startswith("unseen.few_shot")]
    assert shots == ["1", "6", "7", "8"]
    assert found["seen.accuracy"] == found["unseen.new_items.accuracy"] == 7 / 8
    assert found["seen.worst_decile"] == 3 / 4


def test_the_four_cells_of_two_test_sets_are_named_by_set_and_users():
    cells = [
        score(users, shots, "model", right, test=test)
        for test, (seen, every) in {"test": (4, 3), "test_unique": (2, 1)}.items()
        for users, shots, right in (("seen", None, seen), ("unseen", 0, 0), ("all", 0, every))
    ]
    found = numbers(Scores([], cells, test="test"))
    by_set = {"test.seen": 1, "test.all": 7 / 8, "test_unique.seen": 6 / 8, "test_unique.all": 5 / 8}
    assert found == {f"tests.{name}.accuracy": value for name, value in by_set.items()}
