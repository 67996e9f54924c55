"""split: every pair in one place, every user in one half, and whatever was dropped counted."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pal.errors import PalError
from pal.evaluation.holding_out import Shares
from pal.logs.answers import read_answers
from pal.logs.shapes import read_log
from pipeline import PipelineError, paths
from pipeline.stages import split
from pipeline.storage import tables

HALVES = {"seen": {"train", "val", "test"}, "unseen": {"adapt", "test"}}


def shares(**changes):
    usual = {"unseen_users": 0.2, "new_items": 0.0, "val": 0.1, "test": 0.2, "adapt": 0.5, "min_pairs": 2}
    return Shares(**{**usual, "by": "items", **changes})


def table(rows):
    """Pairs from rows of (user, prompt, chosen, rejected[, users, split])."""
    names = ["user_id", "prompt", "chosen", "rejected", "users", "split"]
    rows = [dict(zip(names, [*row, None, None], strict=False)) for row in rows]
    schema = dict.fromkeys(names, pl.String)
    return pl.DataFrame(rows, schema=schema).with_columns(pair_id=pl.int_range(pl.len()))


def coded(pairs):
    """As split reads them from a file: names as codes."""
    names = [pl.col(name).cast(pl.Categorical) for name in split.COLUMNS if name != "pair_id"]
    with TemporaryDirectory() as folder:
        file = Path(folder, "pairs.parquet")
        pq.write_table(pairs.select(*names, "pair_id").to_arrow(), file)
        return tables.read_coded(file, "", split.COLUMNS)


def drawn(pairs, seed=0, times=None, **changes):
    """Places, and how many pairs have none, by the reason."""
    return split.draw_places(coded(pairs), shares(**changes), seed, times)


def grid(n_users, n_pairs):
    """Every user answers a question on each of n_pairs prompts."""
    return table([(f"u{u}", f"p{p}", "a", "b") for u in range(n_users) for p in range(n_pairs)])


def counted(placed, *columns):
    return {row[:-1]: row[-1] for row in placed.group_by(*columns).len().iter_rows()}


def with_users(placed, pairs):
    return placed.join(pairs.select("pair_id", "user_id", "prompt"), on="pair_id")


@pytest.mark.parametrize(
    ("n_users", "n_pairs", "changes", "adapt", "unseen_test", "train", "val", "test"),
    [
        # 0.2 of 10 users are unseen: 2, with 5 adapt and 5 test each; of a seen user's 10, 2 test and 1 val.
        (10, 10, {}, 10, 10, 56, 8, 16),
        # 0.2 of 2 rounds to none, but where there are two pairs one is tested on.
        (5, 2, {}, 1, 1, 4, None, 4),
        # An unseen user keeps something to adapt from, and something to test on.
        (5, 4, {"adapt": 0.01}, 1, 3, 12, None, 4),
        (5, 4, {"adapt": 0.99}, 3, 1, 12, None, 4),
    ],
)
def test_shares(n_users, n_pairs, changes, adapt, unseen_test, train, val, test):
    for by in ("items", "pairs"):  # which are the same where a user's pairs share no items
        placed, dropped = drawn(grid(n_users, n_pairs), by=by, **changes)
        assert dropped == {"mixed": 0, "across": 0, "few": 0}
    found = counted(placed, "users", "split")
    assert [found.get(("unseen", name)) for name in ("adapt", "test")] == [adapt, unseen_test]
    assert [found.get(("seen", name)) for name in ("train", "val", "test")] == [train, val, test]


def test_new_prompts_are_tested_on_and_nothing_else():
    """Half of 4 prompts are new: a seen user's 2 pairs on them are tests, of the other 2 one is a test (by the
    rule of two) and one trains; an unseen user adapts from the 2 known ones and is tested on the new ones."""
    pairs = grid(10, 4)
    placed = with_users(drawn(pairs, new_items=0.5)[0], pairs)
    assert counted(placed, "users", "split") == {
        ("seen", "train"): 8, ("seen", "test"): 24, ("unseen", "adapt"): 4, ("unseen", "test"): 4,
    }  # fmt: skip
    learned = placed.filter(placed["split"].is_in(["train", "adapt"]))["prompt"].unique()
    assert len(learned) == 2
    marked = split.mark_items(coded(pairs), placed.select("pair_id", "users", "split"))
    assert counted(marked, "users", "split", "items") == {
        ("seen", "train", "known"): 8, ("seen", "test", "known"): 8, ("seen", "test", "new"): 16,
        ("unseen", "adapt", "known"): 4, ("unseen", "test", "new"): 4,
    }  # fmt: skip


def times(hours):
    """Times, so many hours after the start of 2026."""
    start = datetime(2026, 1, 1)
    each = [None if hour is None else start + timedelta(hours=hour) for hour in hours]
    return pl.Series(each, dtype=pl.Datetime("us"))


def test_by_time_the_latest_pairs_of_a_user_are_tested_on():
    """Ten users with ten pairs each, which they answered backwards: pair 0 last. Of a seen user's ten the
    latest two are tests, the one before them validates; an unseen user adapts from the first five."""
    pairs, backwards = grid(10, 10), times([9 - n for n in range(10)] * 10)
    placed = with_users(drawn(pairs, times=backwards, by="time")[0], pairs).sort("pair_id")
    found = {"seen": set(), "unseen": set()}
    for (_, users), own in placed.group_by("user_id", "users", maintain_order=True):
        found[users].add(tuple(own["split"]))
    seen, unseen = ("test",) * 2 + ("val",) + ("train",) * 7, ("test",) * 5 + ("adapt",) * 5
    assert found == {"seen": {seen}, "unseen": {unseen}}


def test_by_time_needs_every_time():
    message = r"^own\.split\.by is time, but 2 of 20 pairs have no timestamp; fill in the column timestamp"
    with pytest.raises(PipelineError, match=message):
        drawn(grid(5, 4), times=times([None, None, *range(18)]), by="time")


def test_without_prompts_a_share_of_the_responses_is_new():
    """Ten users compare all of ten responses: of two new ones one pair is left, which all users are tested on;
    the 16 pairs of each with a known one are dropped."""
    letters = "abcdefghij"
    rows = [(f"u{u}", None, a, b) for u in range(10) for a in letters for b in letters if a < b]
    pairs = table(rows)
    for by in ("pairs", "items"):
        placed, dropped = drawn(pairs, new_items=0.2, by=by)
        assert (dropped["mixed"], dropped["few"]) == (160, 0)
        marked = split.mark_items(coded(pairs), placed)
        assert counted(marked.filter(pl.col("items") == "new"), "users", "split") == {
            ("seen", "test"): 8, ("unseen", "test"): 2,
        }  # fmt: skip


USER, PROMPT = st.sampled_from([f"user {n}" for n in range(6)]), st.sampled_from(["p", "q", "r", None])
ROW = st.tuples(USER, PROMPT, *[st.sampled_from("abcde")] * 2)
DRAWN = st.fixed_dictionaries(
    {
        "unseen_users": st.floats(0.1, 0.9), "new_items": st.floats(0, 0.9), "val": st.floats(0, 0.4),
        "test": st.floats(0.01, 0.5), "adapt": st.floats(0.01, 0.99), "min_pairs": st.integers(2, 4),
        "by": st.sampled_from(["items", "pairs", "time"]),
    }
)  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    rows=st.lists(ROW.filter(lambda row: row[2] != row[3]), min_size=4, max_size=60),
    no_prompts=st.booleans(),
    options=DRAWN,
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_no_pair_is_in_two_places_and_no_user_in_both_halves(rows, no_prompts, options, seed, data):
    units = {(u, p if not no_prompts else None, frozenset(pair)): pair for u, p, *pair in rows}
    pairs = table([(u, p, *pair) for (u, p, _), pair in units.items()])
    hours = None
    if options["by"] == "time":
        hours = times([data.draw(st.integers(0, 5)) for _ in range(len(pairs))])
    try:
        placed, dropped = drawn(pairs, seed, hours, **options)
    except PipelineError as error:
        assert "at least one user seen and one unseen" in str(error)  # noqa: PT017 - too few users drawn
        return
    assert placed["pair_id"].is_unique().all()
    assert set(placed["pair_id"]) <= set(pairs["pair_id"])
    assert len(pairs) - len(placed) == sum(dropped.values())
    assert all(n >= 0 for n in dropped.values())
    for _, own in placed.join(pairs, on="pair_id").group_by("user_id"):
        (half,) = set(own["users"])
        assert set(own["split"]) <= HALVES[half]
        parts = (["train", "adapt"], ["test", "val"])
        learned, tested = (own.filter(pl.col("split").is_in(names)) for names in parts)
        assert len(learned)
        assert len(own) >= options["min_pairs"] or dropped["across"]
        if options["by"] == "items":
            sides = [{(p, r) for p, *both in each.select("prompt", "chosen", "rejected").iter_rows() for r in both}
                     for each in (learned, tested)]  # fmt: skip
            assert not sides[0] & sides[1]
        elif half == "unseen":
            assert len(tested)


SPELT = st.sampled_from(["{}", " {}", "{}\n", "é {}", "e\u0301  {}"])


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    rows=st.lists(st.tuples(ROW, SPELT, SPELT), min_size=8, max_size=60),
    by=st.sampled_from(["items", "pairs"]),
    seed=st.integers(0, 3),
)
def test_who_knows_by_heart_what_was_learned_knows_no_answer_that_is_tested(rows, by, seed):
    """Coin flips, repeated, swapped and spelt otherwise: right on any would be right by a leak."""
    log = [
        {"user_id": user, "prompt": spelt.format(prompt), "chosen": other.format(one), "rejected": two}
        for (user, prompt, one, two), spelt, other in rows
        if one != two
    ]
    try:
        answers = read_answers(read_log(log), ties="keep")
        text = answers.items["text"].contents.str.normalize("NFC").str.replace_all(r"\s+", " ")
        text = text.str.strip_chars()
        sides = [text[answers.pairs[side]].alias(side) for side in ("prompt", "chosen", "rejected")]
        units = answers.pairs.select("user_id", *sides)
        pairs = table(units.rows())
        placed, _ = drawn(pairs, seed, by=by)
    except (PalError, PipelineError):  # too few rows that compare, or too few users
        return
    known, asked = (
        {(user, prompt, frozenset(both))
         for user, prompt, *both in each.select("user_id", "prompt", "chosen", "rejected").rows()}
        for name in (["train", "adapt"], ["val", "test"])
        for each in [placed.join(pairs, on="pair_id").filter(pl.col("split").is_in(name))]
    )  # fmt: skip
    assert not known & asked


def test_known_are_prompts_that_any_user_trained_on_or_without_prompts_both_responses():
    rows = [("ann", "p", "a", "b", "seen", "train"), ("ann", "q", "a", "b", "seen", "val"),
            ("bob", "p", "c", "d", "unseen", "test"), ("bob", "q", "a", "b", "unseen", "test")]  # fmt: skip
    without = [("ann", None, "a", "b", "seen", "train"), ("ann", None, "c", "b", "seen", "train"),
            ("bob", None, "c", "a", "unseen", "test"), ("bob", None, "a", "d", "unseen", "test")]  # fmt: skip
    for pairs, marks in ((table(rows), "known new known new"), (table(without), "known known known new")):
        marked = split.mark_items(coded(pairs), pairs.select("pair_id", "users", "split"))
        assert " ".join(marked["items"]) == marks


def test_a_split_without_a_place_is_one_sentence():
    splits = pl.DataFrame({"users": ["seen", "seen"], "split": ["train", "test"]})
    message = r"the split of own must have test pairs of unseen users, got none; add data"
    with pytest.raises(PipelineError, match=message):
        split.check_places(splits, "own")


@pytest.fixture
def own(project):
    """Five users with 10 pairs each and one with a single pair, as prepare leaves them."""
    pairs = pl.concat([grid(5, 10), table([("lonely 🦉", "p0", "a", "b")])])
    pairs = pairs.with_columns(pair_id=pl.int_range(pl.len()), label=pl.lit(1.0))
    tables.write_table(paths.prepared("own") / tables.PAIRS, pairs)
    return project


def test_main_counts_what_it_dropped(own, capsys):
    """51 pairs in, 50 out, 1 of one user dropped."""
    split.main("own")
    manifest = json.loads((paths.splits("own") / "manifest.json").read_text())
    reasons = {"mixed_dropped": 0, "across_dropped": 0, "few_dropped": 1}
    assert manifest["counts"] == {"read": 51, "kept": 50, "dropped": 1, "users_dropped": 1, **reasons}
    assert manifest["notes"] == []
    splits = tables.read_table(paths.splits("own") / tables.SPLITS, "")
    assert len(splits) == 50
    assert sum(manifest["places"].values()) == 50
    assert "split@own: 1 pairs of 1 users with too few pairs were dropped" in capsys.readouterr().out


def test_main_takes_the_split_of_the_file_and_tells_of_items_that_it_shares(own, capsys):
    """Bob has nothing to adapt from. Ann was trained on p with a and b, and is tested on p with b and c."""
    rows = [("ann", "p", "a", "b", "seen", "train"), ("ann", "p", "b", "c", "seen", "test")]
    pairs = table([*rows, ("bob", "p", "a", "b", "unseen", "test")]).with_columns(label=pl.lit(1.0))
    tables.write_table(paths.prepared("own") / tables.PAIRS, pairs)
    split.main("own")
    manifest = json.loads((paths.splits("own") / "manifest.json").read_text())
    assert manifest["places"] == {
        "seen.test.known": 1, "seen.train.known": 1, "unseen.test.known": 1,
    }  # fmt: skip
    assert manifest["tests_sharing_items"] == 1
    assert manifest["notes"][0].startswith("In 1 of 2 test pairs (50.0%) is a response, to the same prompt")
    said = capsys.readouterr().out
    assert "split@own: the file's column `split` says who is where; own.split is not used" in said
    assert manifest["notes"][0] in said


def test_items_are_the_same_where_codes_of_chosen_and_rejected_differ_in_width():
    """Ann chose c over 200 others in training, for whose codes two bytes are needed; then r7 over x."""
    rows = [("ann", "p", "c", f"r{n}", "seen", "train") for n in range(200)]
    pairs = table([*rows, ("ann", "p", "r7", "x", "seen", "test"), ("ann", "q", "r7", "x", "seen", "test")])
    assert split.tests_sharing_items(coded(pairs), pairs.select("pair_id", "split")) == 1
