"""Pick-a-Filter: who takes part, in which group, seen or not; which pictures get filters; the paper's table."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import PipelineError, params
from pipeline.datasets import pickafilter
from pipeline.datasets.pickafilter import Prepare, Recolour

COLOURS = {"beta": 1.0, "cool": "#0000FF", "warm": "#ff0000", "strength": 0.5}
COOL, WARM = "mix #0000ff 0.5", "mix #ff0000 0.5"


def test_pickapic_v1_means_what_its_source_names(project, shards):
    shards.write("train-0.parquet", [shards.row()])
    assert pickafilter.find(params.load()).make is not None  # the sample
    project.set({"pickafilter.source": "pickapic_v1", "pickapic_v1.source": str(shards.folder)})
    found = pickafilter.find(params.load())
    assert list(found.links) == ["train-0.parquet"]
    assert found.source == f"Pick-a-Pic v1 from {shards.folder}"


@pytest.fixture
def small(project, shards):
    """Users 1 to 8 with 9 - user train rows and one in test; 9 has few labels, 10 and 11 lack a split."""
    train = [(user, 9 - user) for user in range(1, 9)] + [(9, 1), (10, 9)]
    shards.write("train-0.parquet", [shards.row(user=user) for user, n in train for _ in range(n)])
    shards.write("validation-0.parquet", [shards.row(user=user) for user in (1, 4, 9, 10)])
    test = [shards.row(user=user) for user in (*range(1, 9), 8, 9, 11)]
    shards.write("test-0.parquet", [*test, shards.row(user=1, label=0.5)])
    shards.write("test_unique-0.parquet", [shards.row(user=1)])
    project.set({"pickafilter.prepare.min_labels": 2, "pickafilter.prepare.seen_users_per_group": 2})
    project.files = shards.files()
    project.out = project.root / "out"
    project.out.mkdir()
    return project


def test_who_takes_part_and_who_of_them_is_seen(small, read_pairs):
    """Labels are train and test together: 9, 8, 7, 6, 5, 4, 3 and 1 + 2 = 3; user 9 has 2. Groups of the first
    four are (1, 4) and (2, 3), of the others (5, 8) and (6, 7), in either order: train 8 + 5 and 7 + 6 = 13
    each, 4 + 1 and 3 + 2 = 5 each; both validation rows are of 1 and 4."""
    counts = pickafilter.prepare(params.load(), small.files, small.out)
    assert counts["read"] == counts["kept"] + counts["dropped"] == 36 + 1 + 9 + 4 + 12 + 1
    reasons = ("ties", "test_unique", "users_not_in_both", "users_with_few_labels", "users_in_both", "users")
    assert [counts[name] for name in reasons] == [1, 1, 11, 3, 9, 8]
    pairs, _ = read_pairs(small.out)
    users = pairs.select("user_id", "users", "group").unique().sort("user_id")
    assert users["user_id"].to_list() == [str(user) for user in range(1, 9)]
    assert users["users"].to_list() == ["seen"] * 4 + ["unseen"] * 4
    assert users.group_by("users", "group").len()["len"].to_list() == [2, 2, 2, 2]
    places = {"seen": ("train", "val", "test"), "unseen": ("adapt", "test")}
    found = set(pairs.select("users", "split").unique().iter_rows())
    assert found == {(half, split) for half, splits in places.items() for split in splits}
    table = json.loads((small.out / "table3.json").read_text())
    numbers = [tuple(row[split] for split in pickafilter.SPLITS) for row in table]
    assert {row["group"] for row in table[:3]} == {"cool, seen", "cool, unseen", "cool, total"}
    assert sorted(numbers[::3]) == [(13, 0, 2), (13, 2, 2)]
    assert sorted(numbers[1::3]) == [(5, 0, 2), (5, 0, 3)]
    assert numbers[2] == tuple(map(sum, zip(numbers[0], numbers[1], strict=True)))


def test_too_few_users_to_leave_some_unseen_are_refused(small):
    small.set({"pickafilter.prepare.seen_users_per_group": 4})
    message = r"must leave unseen users in both groups, got 4 of groups of 4 and 4 users .*lower it"
    with pytest.raises(PipelineError, match=message):
        pickafilter.prepare(params.load(), small.files, small.out)


@given(st.lists(st.integers(51, 4000), min_size=8, max_size=250), st.integers(0, 9))
def test_totals_match_and_the_order_of_rows_changes_nothing(labels, seed):
    knobs = Prepare(min_labels=50, seen_users_per_group=2, recolour=COLOURS)
    people = pl.DataFrame({"user_id": range(len(labels)), "labels": labels})
    groups = pickafilter.assign(people, knobs, seed)
    again = pickafilter.assign(people.sample(fraction=1, shuffle=True, seed=seed), knobs, seed)
    assert again.sort("user_id").equals(groups.sort("user_id"))
    totals = groups.join(people, on="user_id").group_by("group").agg(pl.col("labels").sum())["labels"]
    # Each four's difference is at most that of its neighbours in order, so all of them at most the largest.
    assert abs(totals[0] - totals[1]) <= max(labels)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.floats(0, 1), st.integers(0, 99))
def test_a_share_of_each_users_pairs_is_filtered_half_and_half(sizes, beta, seed):
    users = [user for user, size in enumerate(sizes) for _ in range(size)]
    rows = pl.DataFrame({"user_id": users, "group": "cool", "label": 1.0})
    filtered = pickafilter.put_filters(rows, Recolour(**{**COLOURS, "beta": beta}), seed)
    assert filtered.select(rows.columns).equals(rows)
    for user, size in enumerate(sizes):
        words = filtered.filter(user_id=user)["filtered"]
        n_filtered = int(beta * size + 0.5)
        winners, losers = (int((words == word).sum()) for word in ("winner", "loser"))
        assert winners + losers == n_filtered
        assert abs(winners - losers) == n_filtered % 2


def test_winners_get_their_groups_colour_and_losers_the_other(project, shards, read_pairs):
    """Each compares picture 0 with a picture of their own each time, on either side; all pairs are filtered."""
    for split, count in {"train": 9, "test": 1}.items():
        rows = [
            shards.row(user=user, images=("0", f"{split} {user} {n}")[:: 1 if n % 2 else -1], label=n % 3 % 2)
            for user in range(4)
            for n in range(count)
        ]
        shards.write(f"{split}-0.parquet", rows)
    project.set({"pickafilter.prepare": {"min_labels": 2, "seen_users_per_group": 1, "recolour": COLOURS}})
    counts = pickafilter.prepare(params.load(), shards.files(), project.root)
    pairs, items = read_pairs(project.root)
    shown, _ = read_pairs(project.root, shards.files())
    filter_of = dict(items.select("item_id", pl.col("filter").cast(pl.String)).iter_rows())
    seen = set()
    for pair in pairs.iter_rows(named=True):
        own, other = (COOL, WARM) if pair["group"] == "cool" else (WARM, COOL)
        wanted = (own, None) if pair["filtered"] == "winner" else (None, other)
        assert (filter_of[pair["chosen"]], filter_of[pair["rejected"]]) == wanted
        seen.add((pair["group"], pair["filtered"]))
    assert len(seen) == 4
    assert sum(int((shown[side] == "0").sum()) for side in ("chosen", "rejected")) == len(pairs) == 40
    assert counts["winner_filtered"] + counts["loser_filtered"] == 40
    # Of the pictures those that a pair shows: an own one as it is or filtered, and picture 0 in three ways.
    assert counts["images"] == len(items) - 1 == 43
