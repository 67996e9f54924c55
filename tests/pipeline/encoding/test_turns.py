"""Turns: what others have stored or are at is not encoded here, and what they leave is."""

import numpy as np
import pytest

from pipeline import progress
from pipeline.encoding.turns import Plan, Turns, group_rows
from pipeline.storage import embedding_store, shards
from pipeline.storage.shards import Embedder

IDS = shards.packed([f"{n:032x}" for n in range(9)])
PLAN = Plan(np.array([8, 7, 6, 5, 4, 3, 2, 1, 0]), np.array([0, 3, 6, 9]))


def open_store(root):
    return embedding_store.EmbeddingStore(Embedder("toy", "w", "f", 1, "float32", ""), "cpu", root)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path)


def turns(store, missing=range(9), mine=range(3)):
    wanted = np.isin(np.arange(9), list(missing))
    return Turns(store, IDS, wanted, PLAN, mine, progress.bar(0, "", ""))


def keep(taken, group):
    rows = PLAN.rows(group)
    taken.keep(group, rows, rows[:, None].astype(np.float32))


def stored(store):
    return [
        int(i, 16)
        for path in sorted(store.folder.glob("*.parquet"))
        for i in shards.unpacked(shards.read_ids(path))
    ]


def test_groups_that_miss_something_come_once_each(store):
    taken = turns(store, missing=[0, 4, 5])
    for group in taken:
        keep(taken, group)
    assert taken.groups == [1, 2]
    assert sorted(stored(store)) == [0, 4, 5]


def test_a_share_is_kept_to(store):
    assert list(turns(store, mine=range(1, 2))) == [1]


def test_what_another_stored_meanwhile_is_left_out(store, tmp_path):
    taken, other = turns(store), open_store(tmp_path)
    seen = []
    for group in taken:
        if not seen:
            other.add(IDS[[3, 4, 5]], np.ones((3, 1)))  # all of group 1
            other.add(IDS[[0]], np.ones((1, 1)))  # and a third of group 2
        seen.append(group)
        keep(taken, group)
    assert seen == [0, 2]
    assert sorted(stored(store)) == list(range(9))


@pytest.mark.parametrize("finished", [True, False])
def test_what_another_is_at_comes_last_and_only_if_it_is_still_missing(
    store, tmp_path, monkeypatch, finished
):
    taken, other = turns(store), open_store(tmp_path)
    monkeypatch.setattr(taken._claims, "take", lambda name: name != taken._name(0))
    seen = []
    for group in taken:
        seen.append(group)
        keep(taken, group)
        if finished and group == 2:
            other.add(IDS[[6, 7, 8]], np.ones((3, 1)))
    assert seen == ([1, 2] if finished else [1, 2, 0])
    assert sorted(stored(store)) == list(range(9))


def test_groups_are_a_thousandth_within_bounds():
    assert [group_rows(n) for n in (10, 512_000, 2_000_000, 60_000_000)] == [512, 512, 2000, 16_384]
    assert group_rows(10, 8) == 8
