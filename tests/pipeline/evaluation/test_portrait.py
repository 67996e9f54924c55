"""What the report shows of a model: users, and prototypes in words."""

import json
import shutil

import polars as pl
import pytest

from pal.serving.reward_model import RewardModel
from pipeline import params, paths, study
from pipeline.evaluation import portrait


@pytest.fixture
def own(small):
    return study.load("own"), RewardModel.load(paths.models("own") / "model")


def test_people_stand_by_their_weights_and_are_judged_on_held_out_answers(own):
    data, model = own
    k1 = RewardModel.load(paths.models("own") / "k1")
    drawn = portrait.portrait(data, {"model": model, "k1": k1}, study.items("own"), 3, ["user 1"])
    users = data.user_ids["seen"] + data.user_ids["unseen"]
    assert [point["user_id"] for point in drawn["map"]["points"]] == users
    assert {person["user_id"] for person in drawn["people"]} <= set(users)
    one = next(person for person in drawn["people"] if person["users"] == "seen")
    assert sum(one["weights"]) == pytest.approx(1, abs=1e-3)
    test = data.select("seen", "test")
    row = data.user_ids["seen"].index(one["user_id"])
    assert one["n"] == int((test.user == row).sum())
    assert one["gain"] == pytest.approx(one["accuracy"] - one["one"], abs=1e-3)
    assert drawn["whom"]["outside"] == ["user 1"]
    assert json.loads(json.dumps(drawn)) == drawn


def test_pictures_are_shown_small_and_none_twice_for_one_prompt(own, monkeypatch):
    """The responses as if they were pictures: whatever is asked for is drawn, and nothing else."""
    asked = []

    def draw(frame, dataset, size):
        asked.extend(frame["item_id"].to_list())
        return {item: b"\xff\xd8\xff" + item.encode() for item in frame["item_id"].to_list()[1:]}

    monkeypatch.setattr(portrait.images, "thumbnails", draw)
    data, model = own
    thing = pl.col("text").str.contains("thing")
    items = study.items("own").with_columns(pl.col("modality").cast(pl.String))
    items = items.with_columns(
        modality=pl.when(thing).then(pl.lit("image")).otherwise("modality"),
        text=pl.when(~thing).then("text"),
    )
    drawn = portrait.portrait(data, {"model": model}, items, 4, [])
    rows = [row for each in drawn["wants"] for row in each["likes"] + each["dislikes"]]
    assert {row["text"] for row in rows} <= {"", None}
    assert all(row["prompt"].startswith("which of") for row in rows)
    images = {row["image"] for row in rows}
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in images - {None})
    assert set(drawn["pictures"].values()) >= images - {None}
    assert len(asked) == len(set(asked))
    for each in drawn["wants"]:
        for end in ("likes", "dislikes"):
            shown = [(row["prompt"], row["image"]) for row in each[end]]
            assert len(shown) == len(set(shown)) == 4


def found(dataset):
    return portrait.prototype_stability(
        study.load(dataset), RewardModel.load(paths.models(dataset) / "model")
    )


def test_a_model_held_against_itself_agrees_in_everything(small):
    shutil.rmtree(paths.models("own") / "again-1")
    shutil.copytree(paths.models("own") / "model", paths.models("own") / "again-1")
    same = found("own")
    assert (same["seeds"], same["agreement"], same["same_groups"], same["same_answers"]) == (1, 1, 1, 1)
    assert same["by_prototype"] == [1, 1]
    assert (same["true_groups"], same["n_groups"]) == (None, None)


def test_true_groups_and_users_outside_are_counted_where_they_are_known(small):
    """The partition of two groups; 8 seen and 6 unseen users, all with comparisons to locate them by."""
    known = found("simulated")
    assert known["n_groups"] == 2
    assert -1 <= known["true_groups"] <= 1
    assert [half["of"] for half in known["outside"].values()] == [8, 6]


def plurality(dataset, users):
    model = RewardModel.load(paths.models(dataset) / "model")
    return portrait.plurality(study.load(dataset), model, users, params.load().evaluate)


def test_two_groups_differ(small):
    """Own comparisons: half like red, half blue. A tenth or so of six seen users' shuffles keep everyone's kind.

    Of two unseen users either shuffle is likely, so nothing can be shown, whatever they prefer.
    """
    assert plurality("own", "seen")["differ_p"] < 0.15
    assert plurality("own", "unseen")["differ_p"] > 0.4
