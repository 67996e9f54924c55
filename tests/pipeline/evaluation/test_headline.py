"""The few numbers kept in Git, from scores made up by hand."""

import numpy as np

from pal.evaluation.accuracy import Judged
from pipeline.__main__ import flatten
from pipeline.evaluation import headline
from pipeline.evaluation.slices import Score, Scores
from tests.pipeline.conftest import knobs

NO_P = {"seen": {"p": None}, "unseen": {"p": None}}


def score(users, shots, model, right=3.0, *, items="all", balanced=None, **more):
    """Two users with four comparisons each, of which the second is right in all."""
    judged = Judged(np.array([right, 4.0]), np.array([4, 4]))
    labels = {"users": users, "items": items, "test": "", "pairs": "all", "shots": shots, "model": model}
    metrics = {
        "accuracy": judged.micro,
        "macro": judged.macro,
        "balanced": balanced,
        "worst_decile": right / 4,
    }
    return Score(**{**labels, **more}, user=np.arange(2), judged=judged, metrics=metrics)


def numbers(results, shots=(1, 5, 20), headline_shots=20, p=NO_P):
    given = knobs(shots=list(shots), headline_shots=headline_shots)
    return dict(flatten(headline.headline(results, p, given)))


def everything(shots=(1, 2, 3, 4, 5, 6, 7, 8), models=("k1", "majority", "oracle"), balanced=0.5):
    """Known and new items, baselines, and eight numbers of shots."""
    return [
        score(users, n, model, items=items, balanced=balanced)
        for users in ("seen", "unseen")
        for items in ("known", "new")
        for model in ("model", *models)
        for n in ([None] if users == "seen" or model != "model" else [0, *shots])
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
    assert found == {
        "tests.test.seen.accuracy": 1,
        "tests.test.all.accuracy": 7 / 8,
        "tests.test_unique.seen.accuracy": 6 / 8,
        "tests.test_unique.all.accuracy": 5 / 8,
    }
