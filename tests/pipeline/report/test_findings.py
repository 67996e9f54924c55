"""Sentences of the report, from findings made up here."""

import pytest

from pipeline.paths import AS_FITTED, ONE_PER_USER
from pipeline.report import findings


def accuracy(users, items, shots, model, value):
    """One row of accuracies, its interval two points wide."""
    row = {"users": users, "items": items, "shots": shots, "model": model, "accuracy": value}
    return {**row, "low": value - 0.01, "high": min(value + 0.01, 1)}


def found(n_prototypes=3, **more):
    """Two kinds of items for seen users, three numbers of shots for unseen ones, K = 1 measured once."""
    rows = [accuracy("unseen", "all", n, "model", a) for n, a in ((20, 0.994), (0, 0.833), (1, 0.9))]
    rows += [accuracy("seen", "new", None, "model", 0.981), accuracy("seen", "known", None, "model", 0.998)]
    rows += [accuracy("seen", "known", None, "k1", 0.834), accuracy("unseen", "all", 0, "k1", 0.832)]
    fit = {"objective": "pal", "grid_points": 40}
    encoder = {"prompts": None, "responses": {"name": "untrained-vit-h-14"}}
    made = {"head": {"K": n_prototypes}, "fit": fit, "accuracies": rows, "plurality": None, "beside": {}}
    return {**made, "encoder": encoder, **more}


def test_headline_says_seen_and_unseen_accuracies_with_what_they_are_held_against():
    seen, unseen = findings.headline(found()).replace("\u00a0", " ").split("; ")
    assert seen == (
        "Seen users 99.8 % (95 % interval 98.8\u2013100.0) on known items and 98.1 % on new ones, "
        "against 83.4 % with one reward for everyone on the known items"
    )
    assert unseen == "unseen users 99.4 % from 20 comparisons, 83.3 % from none."


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ((0.164, 0.16, 0.168, 0.0001), "beats K = 1 by 16.4 points (95 % interval 16.0 to 16.8, p < 0.001)"),
        ((0.003, -0.002, 0.008, 0.24), "no evidence that K > 1 helps here: a difference of 0.3 points"),
        ((0.02, 0.001, 0.04, 0.06), "no evidence that K > 1 helps here"),
        (
            (-0.02, -0.03, -0.01, 0.002),
            "is worse than K = 1, by 2.0 points (95 % interval 1.0 to 3.0, p = 0.002)",
        ),
        ((None, None, None, None), "was not compared"),
    ],
)
def test_plurality_claims_no_more_than_its_interval(difference, said):
    seen = dict(zip(("difference", "low", "high", "p"), difference, strict=True))
    assert said in findings.plurality(found(plurality={"seen": seen})).replace("\u00a0", " ")


def test_plurality_says_whether_people_differ():
    seen, unseen = (
        compared(0.1, 0.05, 0.15) | {"differ_p": 0.001},
        compared(0.0, -0.1, 0.1, 1) | {"differ_p": 0.4},
    )
    said = findings.plurality(found(plurality={"seen": seen, "unseen": unseen})).replace("\u00a0", " ")
    assert "The own weights of seen users foretell their answers better than weights dealt among them" in said
    assert "Weights dealt among unseen users foretell their answers as well as the own (p = 0.4)." in said


@pytest.mark.parametrize(
    ("objective", "grid_points", "said"),
    [("pal", 40, "need not be"), ("mixture", 40, "need not be"), ("mixture", 0, "is the number of groups")],
)
def test_meaning_of_the_number_of_prototypes_follows_the_fit(objective, grid_points, said):
    fit = {"objective": objective, "grid_points": grid_points}
    assert said in findings.meaning_of_k(found(fit=fit))


def compared(difference, low, high, p=0.001):
    return {"difference": difference, "low": low, "high": high, "p": p}


def test_one_reward_is_held_against_length_and_against_the_encoder_by_its_name():
    beside = {"longer": compared(0.03, 0.01, 0.05), "similarity": compared(0.1, 0.08, 0.12)}
    assert findings.against_baselines(found(beside=beside)).replace("\u00a0", " ") == (
        "On seen users one reward for everyone (K = 1) beats the longer response by 3.0 points "
        "(95 % interval 1.0 to 5.0, p = 0.001). "
        "On seen users one reward for everyone (K = 1) beats untrained-vit-h-14 similarity by 10.0 points "
        "(95 % interval 8.0 to 12.0, p = 0.001)."
    )


@pytest.mark.parametrize(
    ("longer", "said"),
    [
        (
            compared(0.003, -0.01, 0.02, 0.6),
            "no evidence that one reward for everyone (K = 1) beats the longer",
        ),
        (compared(-0.05, -0.07, -0.03), "is worse than the longer response, by 5.0 points"),
    ],
)
def test_where_length_is_not_beaten_the_report_says_why(longer, said):
    text = findings.against_baselines(found(beside={"longer": longer})).replace("\u00a0", " ")
    assert said in text
    assert "its length can hardly be read" in text


def test_unseen_users_who_cannot_be_located_are_told_from_none():
    rows = [accuracy("unseen", "all", 0, "model", 0.6)]
    said = findings.headline(found(accuracies=rows)).replace("\u00a0", " ")
    assert said == "Unseen users 60.0 % from no comparisons."


def test_the_sentence_on_choose_k_gives_both_numbers_and_says_why_they_may_differ():
    curves = {AS_FITTED: {"K": 2}, ONE_PER_USER: {"K": 3}}
    said = findings.choices_of_k(curves, 2).replace("\u00a0", " ")
    assert "With every user at one prototype, 3 groups describe these users (K = 3)." in said
    assert "Fitted as this model is, K = 2 suffices." in said
    assert "affine in the weights" in said
    assert said.endswith("The model of this page has K = 2.")
    alone = findings.choices_of_k({ONE_PER_USER: {"K": 1}}, 2).replace("\u00a0", " ")
    assert "nobody is told apart (K = 1)" in alone
    assert "affine" not in alone
    assert findings.choices_of_k({}, 2) == ""


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


def judged(fit=None, **more):
    fit = fit or {"objective": "pal", "grid_points": 40}
    return {"dataset": "persona", "head": {"K": 3}, "fit": fit, "stability": {**GOOD, **more}}


def shot(n, model, value):
    row = {"users": "unseen", "items": "all", "shots": n, "model": model, "accuracy": value}
    return {**row, "low": value - 0.01, "high": value + 0.01}


def test_nothing_alarming_raises_no_alarm():
    assert findings.alarms(judged()) == []
    assert findings.alarms({"stability": None}) == []
    assert findings.trust({"stability": None}) == []


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
    (alarm,) = findings.alarms(judged(**more))
    assert said in alarm


def test_free_places_between_prototypes_are_named_as_what_leaves_them_open():
    fit = {"objective": "mixture", "grid_points": 40}
    (alarm,) = findings.alarms(judged(fit, agreement=0.5))
    assert "persona.train.grid_points: 0 ties each user to one" in alarm
    (alarm,) = findings.alarms(judged({**fit, "grid_points": 0}, agreement=0.5))
    assert "grid_points" not in alarm


def test_without_further_fits_the_table_has_what_is_known():
    nothing = dict.fromkeys(("agreement", "by_prototype", "same_groups", "same_answers", "true_groups"))
    found = findings.trust(judged(seeds=0, outside=None, **nothing))
    assert found == [{"name": "Dead prototypes", "value": "none"}]


def test_how_few_chosen_comparisons_do_is_said():
    drawn = [shot(n, "model", a) for n, a in ((0, 0.8), (5, 0.9), (20, 0.95))]
    chosen = [shot(n, "asked", a) for n, a in ((1, 0.85), (2, 0.96))]
    assert findings.asking([*drawn, *chosen]).startswith(
        "2 chosen comparisons reach 96.0\u00a0%, no less than 20"
    )
    assert "less than 20 drawn ones" in findings.asking([*drawn, chosen[0]])
    assert findings.asking(drawn) == ""


def test_the_strictest_split_says_why_it_is_not_there_and_what_was_left_out():
    assert findings.never_seen({"why": "no one is new", "pairs": 0, "left_out": 0}).endswith(
        "here: no one is new."
    )
    said = findings.never_seen({"why": "", "pairs": 1200, "left_out": 3})
    assert said.startswith("1,200 comparisons of unseen users; 3 were left out")
