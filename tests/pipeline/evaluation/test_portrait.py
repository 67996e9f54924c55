"""What the report shows of a model: users, prototypes in words, and the truth where it is known."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from pal.comparisons import Comparisons
from pal.serving.reward_model import RewardModel
from pipeline import paths, study
from pipeline.evaluation import portrait


@pytest.fixture
def own(small):
    return study.load("own"), RewardModel.load(paths.models("own") / "model")


@pytest.fixture
def simulated(small):
    return study.load("simulated"), RewardModel.load(paths.models("simulated") / "model")


def test_every_user_stands_on_the_simplex_and_of_many_those_evenly_spaced(own, monkeypatch):
    data, model = own
    right = {"seen": np.linspace(0, 1, 6), "unseen": np.array([0.5, np.nan])}
    users = portrait.portrait(data, model, study.items("own"), 3, right)["users"]
    assert [user["user_id"] for user in users] == data.user_ids["seen"] + data.user_ids["unseen"]
    assert all(sum(user["weights"]) == pytest.approx(1, abs=1e-3) for user in users)
    assert [user["accuracy"] for user in users] == [0, 0.2, 0.4, 0.6, 0.8, 1, 0.5, None]
    assert {user["group"] for user in users} == {None}
    monkeypatch.setattr(portrait, "MAX_USERS", 6)  # 3 of each half: of 6 seen every second; both unseen
    found = portrait.portrait(data, model, study.items("own"), 3, {})
    seen, unseen = data.user_ids["seen"], data.user_ids["unseen"]
    assert [user["user_id"] for user in found["users"]] == [*seen[::2], *unseen]
    assert found["truth"] is None


def test_prototypes_are_told_by_what_they_prefer_most_and_least(own):
    data, model = own
    found = portrait.portrait(data, model, study.items("own"), 4, {})["prototypes"]
    assert [p["prototype"] for p in found] == [1, 2]
    assert sum(p["share"] for p in found) == pytest.approx(1, abs=1e-3)
    for each in found:
        most, least = ([item["score"] for item in each[end]] for end in ("most", "least"))
        assert len(most) == len(least) == 4
        assert most == sorted(most, reverse=True)
        assert least == sorted(least)
        # Preferring one answer by a margin is refusing its alternative by the same margin.
        assert most == pytest.approx([-score for score in least], abs=2e-3)
        assert all(item["prompt"].startswith("which of") for item in each["most"] + each["least"])


def test_of_two_answers_the_rarer_is_shown(own):
    """As yes and no: here red is chosen by one user in six of the training pairs alone."""
    data, model = own
    ids = data.response_ids
    texts = study.texts("own")
    yes, no = (
        next(row for row, i in enumerate(ids) if texts[i] == f"a {c} thing 0") for c in ("red", "blue")
    )
    q, c = data.comparisons.questions, data.comparisons
    low, high = min(yes, no), max(yes, no)
    questions = replace(q, first=torch.full_like(q.first, low), second=torch.full_like(q.second, high))
    says_yes = torch.arange(len(c)) % 6 == 0
    sign = torch.where(says_yes == (yes < no), 1.0, -1.0)
    two = replace(data, comparisons=replace(c, questions=questions, sign=sign))
    found = portrait.portrait(two, model, study.items("own"), 3, {})["prototypes"]
    assert {item["response"] for p in found for item in p["most"] + p["least"]} == {"a red thing 0"}


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
    assert portrait.portrait(data, model, study.items("simulated"), 3, {})["prototypes"] == []
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
        modality=pl.when(thing).then(pl.lit("image")).otherwise("modality"),
        text=pl.when(~thing).then("text"),
    )
    found = portrait.portrait(data, model, items, 4, {})["prototypes"]
    rows = [row for p in found for row in p["most"] + p["least"]]
    assert {row["response"] for row in rows} == {""}
    assert all(row["prompt"].startswith("which of") for row in rows)
    images = {row["image"] for row in rows}
    assert None in images
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in images - {None})
    assert len(images) == len(set(asked)) == len(asked)
    for p in found:
        for end in ("most", "least"):
            shown = [(row["prompt"], row["image"]) for row in p[end]]
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


def row(group, filtered, prompt):
    return {"group": group, "filtered": filtered, "prompt": prompt}


def test_groups_and_filters_take_turns_and_prompts_do_not_repeat_while_others_are_left():
    rows = [
        row("red", "winner", "p"),
        row("red", "winner", "p"),
        row("red", "winner", "q"),
        row("blue", "loser", "p"),
    ]
    taken = portrait.take_turns(rows, 3)
    assert [(r["group"], r["prompt"]) for r in taken] == [("blue", "p"), ("red", "q"), ("red", "p")]
    assert len(portrait.take_turns(rows, 9)) == 4
    assert portrait.take_turns([], 3) == portrait.take_turns(rows, 0) == []


def filtered_study(marks, groups=None):
    """Pairs of prompt 0, of which image 1 was chosen over image 2 by user b, then image 2 by user a."""
    return SimpleNamespace(
        dataset="own",
        places=pl.DataFrame(marks, schema=["users", "split", "filtered"], orient="row"),
        comparisons=Comparisons.from_pairs(
            user=torch.tensor([1, 0]),
            prompt=torch.tensor([0, 0]),
            chosen=torch.tensor([1, 2]),
            rejected=torch.tensor([2, 1]),
        ),
        prompt_ids=["i0"],
        response_ids=["i0", "i1", "i2"],
        user_ids={"seen": ["a", "b"], "unseen": ["a", "b"]},
        groups=groups,
    )


def test_filtered_test_pairs_are_shown_of_seen_users_else_of_unseen_ones(monkeypatch):
    monkeypatch.setattr(portrait.images, "thumbnails", lambda *_: {"i1": JPEG})
    groups = {"seen": ["red", "blue"], "unseen": []}
    data = filtered_study([("seen", "test", "loser"), ("seen", "train", "winner")], groups)
    assert portrait.gallery(data, table_of("text", "image", "image"), 5) == [
        {
            "prompt": "text 0",
            "chosen": URI,
            "rejected": None,
            "filtered": "loser",
            "group": "blue",
            "user": "b",
        }
    ]
    monkeypatch.setattr(portrait.images, "thumbnails", lambda *_: {"i2": JPEG})
    data = filtered_study([("seen", "test", None), ("unseen", "test", "winner")])
    (pair,) = portrait.gallery(data, table_of("text", "image", "image"), 5)
    assert (pair["user"], pair["group"], pair["chosen"]) == ("a", None, URI)
    without = filtered_study([("seen", "test", None), ("seen", "test", None)])
    assert portrait.gallery(without, table_of("text", "image", "image"), 5) == []
    assert [portrait.data_uri(data) for data in (None, b"<svg/>", JPEG + bytes(70_000))] == [None] * 3
