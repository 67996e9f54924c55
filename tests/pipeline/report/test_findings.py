"""Sentences, tables and charts of the report, from findings made up here."""

import pytest

from pipeline.paths import AS_FITTED, ONE_PER_USER
from pipeline.report import charts, findings


def accuracy(users, items, shots, model, value):
    """One row of accuracies, its interval two points wide."""
    row = {"users": users, "items": items, "shots": shots, "model": model, "accuracy": value}
    return {**row, "test": "", "pairs": "all", "low": value - 0.01, "high": min(value + 0.01, 1)}


def found(**more):
    """Two kinds of items for seen users, three numbers of shots for unseen ones, K = 1 measured once."""
    rows = [accuracy("unseen", "all", n, "model", a) for n, a in ((20, 0.994), (0, 0.833), (1, 0.9))]
    rows += [accuracy("seen", "new", None, "model", 0.981), accuracy("seen", "known", None, "model", 0.998)]
    rows += [accuracy("seen", "known", None, "k1", 0.834), accuracy("unseen", "all", 0, "k1", 0.832)]
    fit = {"objective": "pal", "grid_points": 40}
    encoder = {"prompts": None, "responses": {"name": "untrained-vit-h-14"}}
    made = {"head": {"K": 3}, "fit": fit, "accuracies": rows, "plurality": None, "beside": {}}
    return {**made, "encoder": encoder, **more}


def compared(difference, low, high, p=0.001, **more):
    return {"difference": difference, "low": low, "high": high, "p": p, **more}


def plain(text):
    return text.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (compared(0.164, 0.16, 0.168, 0.0001), "beats one reward for everyone by 16.4 points (95 % interval 16.0 to 16.8, p < 0.001)"),
        (compared(0.003, -0.002, 0.008, 0.24), "cannot be told apart: a difference of 0.3 points"),
        (compared(0.02, 0.001, 0.04, 0.06), "cannot be told apart"),
        (
            compared(-0.02, -0.03, -0.01, 0.002),
            "is worse than one reward for everyone, by 2.0 points (95 % interval 1.0 to 3.0, p = 0.002)",
        ),
        (compared(None, None, None, None), "was not compared"),
        (compared(0.1, 0.05, 0.15, differ_p=0.001), "The own weights of seen users foretell their answers better"),
        (
            compared(0.0, -0.1, 0.1, 1, differ_p=0.4),
            "is not shown: weights shuffled among them foretell their answers about as well (p = 0.4).",
        ),
        (compared(0.1, 0.05, 0.15, differ_p=0.4), "The gain may come from what they are asked, or from how carefully they answer."),
        (
            compared(0.1, 0.05, 0.15, why="users are asked of different things"),
            "prefer differently cannot be told: users are asked of different things.",
        ),
        (
            compared(1.0, -1.0, 1.0, 0.5, users=2),
            "2 users are too few to tell K = 3 from one reward for everyone: a difference of 100.0 points",
        ),
        (
            compared(0.1, 0.05, 0.15, new=compared(-0.1, -0.15, -0.05)),
            "On new items of seen users K = 3 is worse than one reward for everyone, by 10.0 points "
            "(95 % interval 5.0 to 15.0, p = 0.001). For items like these, keep one reward for everyone.",
        ),
    ],
)  # fmt: skip
def test_plurality_claims_no_more_than_its_interval(test, said):
    assert said in plain(findings.plurality(found(plurality={"seen": test})))


def test_the_model_is_held_against_length_and_against_the_encoder_by_its_name():
    beside = {"longer": compared(0.03, 0.01, 0.05), "similarity": compared(0.1, 0.08, 0.12)}
    assert plain(findings.against_baselines(found(beside=beside))) == (
        "On seen users K = 3 beats the longer response by 3.0 points "
        "(95 % interval 1.0 to 5.0, p = 0.001). "
        "On seen users K = 3 beats untrained-vit-h-14 similarity by 10.0 points "
        "(95 % interval 8.0 to 12.0, p = 0.001)."
    )
    worse = plain(findings.against_baselines(found(beside={"longer": compared(-0.05, -0.07, -0.03)})))
    assert "is worse than the longer response, by 5.0 points" in worse
    assert "its length can hardly be read" in worse


def judged(fit=None, **more):
    good = {
        "seeds": 2, "agreement": 0.97, "by_prototype": [0.98, 0.97, 0.96], "same_groups": 0.95,
        "same_answers": 0.99, "true_groups": 0.98, "n_groups": 3, "dead": [],
        "outside": {"seen": {"users": 1, "of": 300}, "unseen": {"users": 0, "of": 0}},
    }  # fmt: skip
    fit = fit or {"objective": "pal", "grid_points": 40}
    return {"dataset": "persona", "head": {"K": 3}, "fit": fit, "stability": {**good, **more}}


CHANGED = [0.98, 0.5, 0.96]
FREE = {"objective": "mixture", "grid_points": 40}
FAR = {"seen": {"users": 30, "of": 300}, "unseen": {"users": 0, "of": 10}}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (judged(by_prototype=CHANGED), "2: fitted again from 2 other seeds, not the same come out (least agreement 0.50"),
        (judged(by_prototype=CHANGED, seeds=1), "from another seed"),
        (judged(FREE, by_prototype=CHANGED), "persona.train.grid_points: 0 ties each user to one"),
        (judged(dead=[2]), "Prototype 2 is dead"),
        (judged(dead=[1, 3]), "Prototypes 1, 3 are dead"),
        (judged(true_groups=0.2), "not the true groups"),
        (judged(outside=FAR), "describes 10.0 % of seen users"),
    ],
)  # fmt: skip
def test_each_reason_for_distrust_is_one_sentence(found, said):
    (alarm,) = findings.alarms(found)
    assert said in plain(alarm)


def test_people_who_differ_about_an_average_have_rewards_of_their_own_without_prototypes():
    test = {"seen": compared(0.1, 0.05, 0.15, users=32)}
    own = found(head={"K": 1}, portrait={"alike": False}, plurality=test)
    assert findings.does_it_pay(own)["answer"] == "Yes"
    assert "the personal reward beats one reward for everyone by 10.0 points" in findings.plurality(own)
    alike = found(head={"K": 1}, portrait={"alike": True}, plurality=test)
    assert findings.does_it_pay(alike)["answer"] == "One reward for everyone"


def measured(users, shots, model, value, items="all", **more):
    """One row of accuracies, its interval two points wide."""
    row = {"users": users, "items": items, "shots": shots, "model": model, "accuracy": value}
    row |= {"test": "", "pairs": "all"}
    return {**row, "low": value - 0.01, "high": min(value + 0.01, 1), **more}


def test_what_would_squeeze_the_other_marks_is_not_drawn():
    def drawn(*rows):
        names = {model: model for model in findings.MODELS}
        picture = findings.dots(findings.table([*rows]), names)
        return {mark["name"] for row in picture["rows"] for mark in row["marks"]}

    model, similar = measured("seen", None, "model", 0.9), measured("seen", None, "similarity", 0.5)
    assert drawn(model, similar) == {"model", "similarity"}
    assert drawn({**model, "balanced": 0.9}, similar) == {"model"}  # answers are few
    undecided = {**measured("unseen", None, "majority", 0.5), "low": 0.5, "high": 0.5}
    rows = [measured("unseen", n, "model", 0.8) for n in (0, 5)]
    assert drawn(*rows, undecided) == {"model"}
    assert findings.references([*rows, undecided]) == []
    assert findings.references([*rows, {**undecided, "high": 0.6}]) == [
        {"series": "majority", "accuracy": 0.5}
    ]


def curve(K, *accuracies):
    rows = [
        {"K": k, "accuracy": accuracy, "standard_error": 0.01, "sufficient": k >= K}
        for k, accuracy in enumerate(accuracies, 1)
    ]
    return {"K": K, "candidates": rows, "n_users": 30, "n_comparisons": 600}


def test_bars_are_one_standard_error_and_end_at_a_hundred():
    drawn = charts.choices({AS_FITTED: curve(2, 0.8, 0.95, 0.95), ONE_PER_USER: curve(3, 0.8, 0.9, 0.995)})
    (values,) = drawn["datasets"].values()
    last = next(value for value in values if value["way"] == ONE_PER_USER and value["K"] == 3)
    assert (last["accuracy"], last["low"], last["high"], last["chosen"]) == (99.5, 98.5, 100.0, True)
    assert [value["K"] for value in values if value["chosen"]] == [2, 3]
