"""What the report shows of a model: users, prototypes in words, and the truth where it is known."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from pal.comparisons import Comparisons
from pal.serving.reward_model import RewardModel
from pipeline import params, paths, study
from pipeline.evaluation import portrait


@pytest.fixture
def own(small):
    return study.load("own"), RewardModel.load(paths.models("own") / "model")


@pytest.fixture
def simulated(small):
    return study.load("simulated"), RewardModel.load(paths.models("simulated") / "model")


def test_people_stand_by_their_weights_and_are_judged_on_held_out_answers(own):
    data, model = own
    k1 = RewardModel.load(paths.models("own") / "k1")
    found = portrait.portrait(data, {"model": model, "k1": k1}, study.items("own"), 3, ["user 1"])
    drawn, truth = found["portrait"], found["truth"]
    users = data.user_ids["seen"] + data.user_ids["unseen"]
    assert truth is None
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


def test_a_model_that_is_the_truth_turned_and_scaled_is_laid_onto_it(simulated):
    """f = 3 R M and prototypes 3 R M p, with R a rotation of the first two of 16 axes: predicted equals true."""
    data, model = simulated
    truth = json.loads((paths.prepared("simulated") / "truth.json").read_text())
    matrix, prototypes = np.array(truth["matrix"]), np.array(truth["prototypes"])
    turn = np.eye(16)
    turn[:2, :2] = [[0.6, -0.8], [0.8, 0.6]]
    f = 3 * turn @ np.pad(matrix, ((0, 13), (0, 0)))
    state = model.head.state_dict()
    (name,) = (key for key in state if key != "prototypes")
    state[name] = torch.tensor(f, dtype=torch.float32).reshape(state[name].shape)
    state["prototypes"] = torch.tensor(prototypes @ f.T, dtype=torch.float32)
    model.head.load_state_dict(state)
    weights = dict(zip(truth["user_ids"], truth["weights"], strict=True))
    placed = {
        half: torch.tensor([weights[user] for user in data.user_ids[half]]) for half in ("seen", "unseen")
    }
    found = portrait.true_points(data, model, placed)
    assert len(found["users"]) == 14
    drawn = portrait.portrait(data, {"model": model}, study.items("simulated"), 3, [])["portrait"]
    assert drawn["wants"] == []
    assert all(one["telling"] == one["mistakes"] == [] for one in drawn["people"])
    for user in found["users"]:
        assert user["predicted"] == pytest.approx(user["true"], abs=2e-3)
    for true, predicted in zip(found["prototypes"], found["predicted_prototypes"], strict=True):
        assert predicted == pytest.approx(true["true"], abs=2e-3)
    assert {user["group"] for user in found["users"]} == {"nearest prototype 1", "nearest prototype 2"}


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
        modality=pl.when(thing).then(pl.lit("image")).otherwise("modality"), text=pl.when(~thing).then("text")
    )
    drawn = portrait.portrait(data, {"model": model}, items, 4, [])["portrait"]
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


JPEG = b"\xff\xd8\xff small"
URI = "data:image/jpeg;base64,/9j/IHNtYWxs"


def table_of(*modalities):
    return pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(len(modalities))],
            "modality": list(modalities),
            "text": [f"text {n}" if kind == "text" else None for n, kind in enumerate(modalities)],
        }
    )


def filtered_study(marks, groups=None):
    """Pairs of prompt 0, of which image 1 was chosen over image 2 by user b, then image 2 by user a."""
    rows = {"user": [1, 0], "prompt": [0, 0], "chosen": [1, 2], "rejected": [2, 1]}
    return SimpleNamespace(
        dataset="own", places=pl.DataFrame(marks, schema=["users", "split", "filtered"], orient="row"),
        comparisons=Comparisons.from_pairs(**{name: torch.tensor(row) for name, row in rows.items()}),
        prompt_ids=["i0"], response_ids=["i0", "i1", "i2"],
        user_ids={"seen": ["a", "b"], "unseen": ["a", "b"]}, groups=groups,
    )  # fmt: skip


def test_filtered_test_pairs_are_shown_of_seen_users_else_of_unseen_ones(monkeypatch):
    monkeypatch.setattr(portrait.images, "thumbnails", lambda *_: {"i1": JPEG})
    groups = {"seen": ["red", "blue"], "unseen": []}
    data = filtered_study([("seen", "test", "loser"), ("seen", "train", "winner")], groups)
    about = {"filtered": "loser", "group": "blue", "user": "b"}
    assert portrait.gallery(data, table_of("text", "image", "image"), 5) == [
        {"prompt": "text 0", "chosen": URI, "rejected": None, **about}
    ]
    monkeypatch.setattr(portrait.images, "thumbnails", lambda *_: {"i2": JPEG})
    data = filtered_study([("seen", "test", None), ("unseen", "test", "winner")])
    (pair,) = portrait.gallery(data, table_of("text", "image", "image"), 5)
    assert (pair["user"], pair["group"], pair["chosen"]) == ("a", None, URI)
    without = filtered_study([("seen", "test", None), ("seen", "test", None)])
    assert portrait.gallery(without, table_of("text", "image", "image"), 5) == []
    assert [portrait.data_uri(data) for data in (None, b"<svg/>", JPEG + bytes(70_000))] == [None] * 3


def found(dataset):
    model = RewardModel.load(paths.models(dataset) / "model")
    return portrait.prototype_stability(study.load(dataset), model)


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


def test_the_test_of_plurality_on_known_items_does_not_see_new_ones(own):
    """Of two groups with opposite tastes; on new items everybody's answers are turned round."""
    data, model = own
    new = (data.places["items"] == "new").fill_null(value=False).to_torch()
    assert new.any()
    sign = torch.where(new, -data.comparisons.sign, data.comparisons.sign)
    turned = dataclasses.replace(data, comparisons=dataclasses.replace(data.comparisons, sign=sign))
    knobs = params.load().evaluate

    def p_values(items):
        return [
            portrait.plurality(each, model, "seen", knobs, items=items)["differ_p"] for each in (data, turned)
        ]

    as_given, new_turned = p_values("known")
    assert as_given == new_turned < 0.2
    assert p_values("new")[0] < 0.5 < p_values("new")[1]
    assert p_values("all")[1] != as_given
