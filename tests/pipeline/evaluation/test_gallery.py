"""Filtered pairs on show: from every group and filter in turn, with thumbnails and without what is no picture."""

from types import SimpleNamespace

import polars as pl
import torch

from pal.comparisons import Comparisons
from pipeline.evaluation import gallery, thumbnails

JPEG = b"\xff\xd8\xff small"
URI = "data:image/jpeg;base64,/9j/IHNtYWxs"


def items(*modalities):
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

    monkeypatch.setattr(thumbnails, "draw", draw)
    shown = thumbnails.show(
        items("text", "image", "image", "vector", "image"), "own", {"i0", "i1", "i2", "i3"}
    )
    assert asked == [(["i1", "i2"], "own", 96)]
    assert shown == {
        "i0": thumbnails.Shown(text="text 0"),
        "i1": thumbnails.Shown(image=URI),
        "i2": thumbnails.Shown(),
    }


def test_what_is_no_small_jpeg_does_not_become_part_of_the_page():
    assert [thumbnails.uri(data) for data in (None, b"", b"<svg/>", JPEG + bytes(70_000))] == [None] * 4
    assert thumbnails.uri(JPEG) == URI


def test_texts_alone_open_no_picture(monkeypatch):
    monkeypatch.setattr(thumbnails, "draw", None)
    assert thumbnails.show(items("text"), "own", {"i0"}) == {"i0": thumbnails.Shown(text="text 0")}


def row(group, filtered, prompt):
    return {"group": group, "filtered": filtered, "prompt": prompt}


def test_groups_and_filters_take_turns_and_prompts_do_not_repeat_while_others_are_left():
    rows = [
        row("red", "winner", "p"),
        row("red", "winner", "p"),
        row("red", "winner", "q"),
        row("blue", "loser", "p"),
    ]
    taken = gallery.in_turn(rows, 3)
    assert [(r["group"], r["prompt"]) for r in taken] == [("blue", "p"), ("red", "q"), ("red", "p")]
    assert len(gallery.in_turn(rows, 9)) == 4
    assert gallery.in_turn([], 3) == gallery.in_turn(rows, 0) == []


def study(marks, groups=None):
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
    monkeypatch.setattr(thumbnails, "draw", lambda *_: {"i1": JPEG})
    groups = {"seen": ["red", "blue"], "unseen": []}
    data = study([("seen", "test", "loser"), ("seen", "train", "winner")], groups)
    assert gallery.gallery(data, items("text", "image", "image"), 5) == [
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
    monkeypatch.setattr(thumbnails, "draw", lambda *_: {"i2": JPEG})
    data = study([("seen", "test", None), ("unseen", "test", "winner")])
    (pair,) = gallery.gallery(data, items("text", "image", "image"), 5)
    assert (pair["user"], pair["group"], pair["chosen"]) == ("a", None, URI)


def test_without_filters_there_is_no_gallery():
    data = study([("seen", "test", None), ("seen", "test", None)])
    assert gallery.gallery(data, items("text", "image", "image"), 5) == []
