"""What the report says of prototypes, chosen comparisons and the strictest split."""

import pytest

from pipeline.report import trust

GOOD = {
    "seeds": 2,
    "agreement": 0.97,
    "by_prototype": [0.98, 0.97, 0.96],
    "same_groups": 0.95,
    "same_answers": 0.99,
    "true_groups": 0.98,
    "n_groups": 3,
    "dead": [],
    "outside": {"seen": {"users": 1, "of": 300}, "unseen": {"users": 0, "of": 0}},
}


def evaluated(fit=None, **more):
    fit = fit or {"objective": "pal", "grid_points": 40}
    return {"dataset": "persona", "head": {"K": 3}, "fit": fit, "stability": {**GOOD, **more}}


def shot(n, model, value):
    row = {"users": "unseen", "items": "all", "shots": n, "model": model, "accuracy": value}
    return {**row, "low": value - 0.01, "high": value + 0.01}


def test_nothing_alarming_raises_no_alarm():
    assert trust.alarms(evaluated()) == []
    assert trust.alarms({"stability": None}) == []
    assert trust.trust({"stability": None}) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"agreement": 0.5}, "from 2 other seeds, they come out different (agreement 0.50"),
        ({"agreement": 0.5, "seeds": 1}, "from another seed"),
        ({"dead": [2]}, "Prototype 2 is dead"),
        ({"dead": [1, 3]}, "Prototypes 1, 3 are dead"),
        ({"true_groups": 0.2}, "not the true groups"),
        (
            {"outside": {"seen": {"users": 30, "of": 300}, "unseen": {"users": 0, "of": 10}}},
            "describes 10.0\u00a0% of seen users",
        ),
    ],
)
def test_each_reason_for_distrust_is_one_sentence(more, said):
    (alarm,) = trust.alarms(evaluated(**more))
    assert said in alarm


def test_other_groups_than_prototypes_are_no_reason():
    assert trust.alarms(evaluated(true_groups=0.2, n_groups=6)) == []


def test_free_places_between_prototypes_are_named_as_what_leaves_them_open():
    fit = {"objective": "mixture", "grid_points": 40}
    (alarm,) = trust.alarms(evaluated(fit, agreement=0.5))
    assert "persona.train.grid_points: 0 ties each user to one" in alarm
    (alarm,) = trust.alarms(evaluated({**fit, "grid_points": 0}, agreement=0.5))
    assert "grid_points" not in alarm


def test_without_further_fits_the_table_has_what_is_known():
    nothing = dict.fromkeys(("agreement", "by_prototype", "same_groups", "same_answers", "true_groups"))
    found = trust.trust(evaluated(seeds=0, outside=None, **nothing))
    assert found == [{"name": "Dead prototypes", "value": "none"}]


def test_how_few_chosen_comparisons_do_is_said():
    drawn = [shot(n, "model", a) for n, a in ((0, 0.8), (5, 0.9), (20, 0.95))]
    chosen = [shot(n, "asked", a) for n, a in ((1, 0.85), (2, 0.96))]
    assert trust.asking([*drawn, *chosen]).startswith(
        "2 chosen comparisons reach 96.0\u00a0%, no less than 20"
    )
    assert "less than 20 drawn ones" in trust.asking([*drawn, chosen[0]])
    assert trust.asking(drawn) == ""


def test_the_strictest_split_says_why_it_is_not_there_and_what_was_left_out():
    assert trust.never_seen({"why": "no one is new", "pairs": 0, "left_out": 0}).endswith(
        "here: no one is new."
    )
    said = trust.never_seen({"why": "", "pairs": 1200, "left_out": 3})
    assert said.startswith("1,200 comparisons of unseen users; 3 were left out")
