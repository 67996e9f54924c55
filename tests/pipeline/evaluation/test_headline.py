"""The few numbers kept in Git, from judgements made up here."""

import numpy as np
import pytest
from pipeline.results import flatten

from pal.evaluation.accuracy import Judged
from pipeline.evaluation import headline
from pipeline.evaluation.answers import Test as Judgement
from pipeline.evaluation.judging import Results
from pipeline.params import Evaluate

NO_P = {"seen": {"p": None}, "unseen": {"p": None}}


def knobs(**changes):
    usual = {"seed": 0, "shots": [1, 5, 20], "headline_shots": 20, "draws": 20, "asked": 0, "resamples": 100}
    return Evaluate(**{**usual, **changes})


def judgement(users, shots, model, right=3.0, *, items="all", balanced=None, **more):
    """Two users with four comparisons each, of which the second is right in all."""
    judged = Judged(np.array([right, 4.0]), np.array([4, 4]))
    return Judgement(users, items, shots, model, judged, balanced, **more)


def numbers(results, shots=(1, 5, 20), headline_shots=20, p=NO_P):
    given = knobs(shots=list(shots), headline_shots=headline_shots)
    return dict(flatten(headline.headline(results, p, given)))


def everything(shots=(1, 2, 3, 4, 5, 6, 7, 8), models=("k1", "majority", "oracle"), balanced=0.5):
    """Known and new items, baselines, and eight numbers of shots."""
    return [
        judgement(users, n, model, items=items, balanced=balanced)
        for users in ("seen", "unseen")
        for items in ("known", "new")
        for model in ("model", *models)
        for n in ([None] if users == "seen" or model != "model" else [0, *shots])
    ]


def test_there_are_at_most_15_with_everything_there_is_to_measure():
    """8 numbers of seen users; zero-shot, 4 few-shot, new items and k1 of unseen users. 7 right of 8; the
    worst tenth is the user with 3 right of 4."""
    p = {"seen": {"differ_p": 0.01}, "unseen": {"differ_p": 0.02}}
    found = numbers(Results(everything()), range(1, 9), 1, p)
    assert len(found) == 15
    shots = [name.split(".")[2] for name in found if name.startswith("unseen.few_shot")]
    assert shots == ["1", "6", "7", "8"]
    assert found["seen.accuracy"] == found["unseen.new_items.accuracy"] == 7 / 8
    assert found["seen.worst_decile"] == 3 / 4


def test_what_a_seventeenth_number_pushes_out_is_the_least_telling():
    """`longer` and `similarity` are shown where there are many answers, in place of balanced accuracy: 16."""
    main = everything(models=("k1", "majority", "oracle", "longer", "similarity"), balanced=None)
    p = {"seen": {"differ_p": 0.01}, "unseen": {"differ_p": 0.02}}
    found = numbers(Results(main), range(1, 9), 1, p)
    assert len(found) == 15
    assert {"seen.longer.accuracy", "seen.similarity.accuracy", "seen.k1.accuracy"} <= set(found)
    assert "unseen.k1.accuracy" not in found


def test_where_answers_are_few_the_encoders_similarity_is_left_to_the_details():
    main = [
        judgement("seen", None, "model", balanced=0.5),
        judgement("seen", None, "similarity", balanced=0.5),
    ]
    assert set(numbers(Results(main))) == {"seen.accuracy", "seen.balanced_accuracy", "seen.worst_decile"}


def test_the_four_cells_of_two_test_sets_are_named_by_set_and_users():
    cells = [
        judgement(users, shots, "model", right, test=test)
        for test, (seen, every) in {"test": (4, 3), "test_unique": (2, 1)}.items()
        for users, shots, right in (("seen", None, seen), ("unseen", 0, 0), ("all", 0, every))
    ]
    found = numbers(Results([], cells, test="test"))
    assert found == {
        "tests.test.seen.accuracy": 1,
        "tests.test.all.accuracy": 7 / 8,
        "tests.test_unique.seen.accuracy": 6 / 8,
        "tests.test_unique.all.accuracy": 5 / 8,
    }


def test_filtered_and_untouched_pairs_are_named_for_seen_users_and_at_the_headline_shots():
    filters = [
        judgement(users, shots, "model", right, pairs=pairs)
        for pairs, right in (("filtered", 4), ("untouched", 0))
        for users, shots in (("seen", None), ("unseen", 0), ("unseen", 20))
    ]
    assert numbers(Results([], filters=filters)) == {
        "seen.filtered.accuracy": 1, "seen.untouched.accuracy": 0.5,
        "unseen.filtered.accuracy": 1, "unseen.untouched.accuracy": 0.5,
    }  # fmt: skip


def test_without_shots_filtered_pairs_of_unseen_users_are_judged_from_none():
    filters = [judgement("unseen", 0, "model", 2, pairs="filtered")]
    assert numbers(Results([], filters=filters)) == {"unseen.filtered.accuracy": 6 / 8}


def test_all_items_go_before_known_ones():
    main = [judgement("seen", None, "model", 0, items="known"), judgement("seen", None, "model", 4)]
    assert numbers(Results(main))["seen.accuracy"] == 1


def test_plurality_of_unseen_users_without_shots_is_judged_from_none():
    main = [judgement("unseen", 0, "model", 4), judgement("unseen", None, "k1", 2)]
    assert headline.plurality(main, "unseen", knobs())["difference"] == pytest.approx(0.25)
    assert headline.plurality(main, "seen", knobs()) == headline.NOTHING


def test_each_users_accuracy_is_from_the_most_shots_and_from_none_for_those_never_located():
    nan = float("nan")
    main = [judgement("unseen", n, "model", n / 10) for n in (0, 20)]
    alone = Judged(np.array([0.0, 1.0, 0.0]), np.array([0, 2, 0]))
    main = [
        Judgement(
            "unseen", "all", n, "model", Judged(np.array([n / 10, 0.0, 0.0]), np.array([4, 0, 0])), None
        )
        for n in (0, 20)
    ]
    main += [Judgement("unlocated", "all", 0, "model", alone, None)]
    found = headline.per_user(main)
    assert list(found) == ["unseen"]
    assert found["unseen"] == pytest.approx([0.5, 0.5, nan], nan_ok=True)
