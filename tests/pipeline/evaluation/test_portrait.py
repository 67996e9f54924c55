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


def test_every_user_stands_on_the_simplex(own):
    data, model = own
    right = {"seen": np.linspace(0, 1, 6), "unseen": np.array([0.5, np.nan])}
    users = portrait.portrait(data, model, study.items("own"), 3, right)["users"]
    assert [user["user_id"] for user in users] == data.user_ids["seen"] + data.user_ids["unseen"]
    assert all(sum(user["weights"]) == pytest.approx(1, abs=1e-3) for user in users)
    assert [user["accuracy"] for user in users] == [0, 0.2, 0.4, 0.6, 0.8, 1, 0.5, None]
    assert {user["group"] for user in users} == {None}


def test_many_users_are_shown_evenly_spaced(own, monkeypatch):
    """At most 3 of each half: of 6 seen every second; both unseen."""
    monkeypatch.setattr(portrait, "MAX_USERS", 6)
    data, model = own
    users = portrait.portrait(data, model, study.items("own"), 3, {})["users"]
    seen, unseen = data.user_ids["seen"], data.user_ids["unseen"]
    assert [user["user_id"] for user in users] == [*seen[::2], *unseen]


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


def test_a_score_is_the_prototypes_reward_less_that_of_the_other_response(own):
    data, model = own
    row = {text: data.response_ids.index(item) for item, text in study.texts("own").items()}
    for k, each in enumerate(portrait.portrait(data, model, study.items("own"), 3, {})["prototypes"]):
        for item in each["most"] + each["least"]:
            colours = ("red", "blue") if "red" in item["response"] else ("blue", "red")
            other = item["response"].replace(*colours)
            at = torch.tensor([row[item["response"]], row[other]])
            prompts = data.embeddings.prompts[row[item["prompt"]]].expand(2, -1)
            scores = model.score(prompts, data.embeddings.responses[at], user=torch.eye(2)[k])
            assert item["score"] == pytest.approx(float(scores[0] - scores[1]), abs=2e-3)


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


def test_vectors_have_no_words_and_texts_no_truth(own, simulated):
    assert portrait.portrait(*own, study.items("own"), 3, {})["truth"] is None
    assert portrait.portrait(*simulated, study.items("simulated"), 3, {})["prototypes"] == []


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


def test_a_text_is_shown_as_it_is_and_an_image_as_a_data_uri(monkeypatch):
    asked = []

    def draw(frame, dataset, size):
        asked.append((frame["item_id"].to_list(), dataset, size))
        return {"i1": JPEG}

    monkeypatch.setattr(portrait.images, "thumbnails", draw)
    assert [portrait.data_uri(data) for data in (None, b"<svg/>", JPEG + bytes(70_000))] == [None] * 3
    shown = portrait.show_items(
        table_of("text", "image", "image", "vector", "image"), "own", {"i0", "i1", "i2", "i3"}
    )
    assert asked == [(["i1", "i2"], "own", 96)]
    assert shown == {
        "i0": portrait.ShownItem(text="text 0"),
        "i1": portrait.ShownItem(image=URI),
        "i2": portrait.ShownItem(),
    }


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


def test_a_filtered_test_pair_is_shown_with_its_user_group_and_filter(monkeypatch):
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


def test_unseen_users_pairs_are_shown_where_seen_users_have_none(monkeypatch):
    monkeypatch.setattr(portrait.images, "thumbnails", lambda *_: {"i2": JPEG})
    data = filtered_study([("seen", "test", None), ("unseen", "test", "winner")])
    (pair,) = portrait.gallery(data, table_of("text", "image", "image"), 5)
    assert (pair["user"], pair["group"], pair["chosen"]) == ("a", None, URI)
    without = filtered_study([("seen", "test", None), ("seen", "test", None)])
    assert portrait.gallery(without, table_of("text", "image", "image"), 5) == []
