"""TL;DR's protocols: whose rows go where, worked out by hand; nothing is dropped uncounted."""

import polars as pl
import pytest

from pipeline.datasets import summarize as protocols
from pipeline.datasets.summarize import SCHEMA


def rows(worker, split, count, /, **changes):
    """So many distinct comparisons of one worker in one split (`t` for train, `v` for validation)."""
    base = {
        "worker": worker, "batch": "b", "split": {"t": "train", "v": "validation"}[split], "post": "a post",
        "article": None, "text_0": "short", "policy_0": "sup1", "text_1": "much longer", "policy_1": "sup2",
        "choice": 0,
    }  # fmt: skip
    return [{**base, "text_0": f"{i:05d}", **changes} for i in range(count)]


def frame(*groups):
    return pl.DataFrame([row for group in groups for row in group], schema=SCHEMA, orient="row")


def places(placed):
    """Row counts by worker, half and split."""
    counts = placed.rows.group_by("worker", "users", "split").len().sort("worker", "split")
    return {f"{worker} {users} {split}": n for worker, users, split, n in counts.iter_rows()}


def accounted(placed, whole):
    return len(whole) == len(placed.rows) + sum(placed.dropped.values())


def test_stiennon_sees_workers_of_training_and_halves_the_others():
    """Of 20 training rows 2 are val; b's 5 rows give 2 to adapt from, c's only row is a test."""
    whole = frame(rows("a", "t", 20), rows("a", "v", 3), rows("b", "v", 5), rows("c", "v", 1))
    placed = protocols.apply("stiennon", whole, 0)
    assert places(placed) == {
        "a seen test": 3, "a seen train": 18, "a seen val": 2, "b unseen adapt": 2, "b unseen test": 3,
        "c unseen test": 1,
    }  # fmt: skip
    assert accounted(placed, whole)
    assert placed.rows["group"].null_count() == 29


def test_a_question_asked_again_is_not_adapted_from_and_tested_on():
    """Of b's ten questions each is asked three times, once with the summaries swapped: none is in two places."""
    again = rows("b", "v", 10)
    swapped = [{**row, "text_0": row["text_1"], "text_1": row["text_0"], "choice": 1} for row in again]
    whole = frame(rows("a", "t", 20), rows("a", "v", 3), again, swapped, again)
    placed = protocols.apply("stiennon", whole, 0)
    unseen = placed.rows.filter(users="unseen")
    number = pl.min_horizontal("text_0", "text_1").alias("number")
    assert unseen.group_by(number).agg(pl.col("split").n_unique())["split"].to_list() == [1] * 10
    assert {"adapt", "test"} == set(unseen["split"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"worker": " "}, "dropped_without_worker"),
        ({"text_1": "\n"}, "dropped_without_summary"),
        ({"post": "", "article": ""}, "dropped_without_post"),
        ({"split": "test"}, "dropped_other_split"),
    ],
)
@pytest.mark.parametrize("name", ["stiennon", "li2024"])
def test_incomplete_rows_are_dropped_and_counted(name, changes, reason):
    good = [rows("a", "t", 20), rows("a", "v", 3), rows("b", "t", 2), rows("b", "v", 3)]
    before = protocols.apply(name, frame(*good), 0)
    whole = frame(*good, rows("a", "t", 1, **changes))
    placed = protocols.apply(name, whole, 0)
    assert placed.dropped[reason] == 1
    assert len(placed.rows) == len(before.rows)
    assert accounted(placed, whole)


def eleven():
    """w00 to w11 with 30, 29, … training rows and four validation rows each; w12 in validation alone."""
    groups = [rows(f"w{i:02d}", "t", 30 - i) + rows(f"w{i:02d}", "v", 4) for i in range(12)]
    return frame(*groups, rows("w12", "v", 7), rows("w13", "t", 3))


def test_li2024_sees_the_ten_busiest_and_tests_the_others_on_all_their_rows():
    """Seen: 30 + 29 + … + 21 = 255 training rows, 26 of them val, 40 test. Unseen: w10 has 20 training rows to
    adapt from, w11 19; both are tested on 4, w12 on 7. w13 has no validation row: 3 dropped."""
    whole = eleven()
    placed = protocols.apply("li2024", whole, 0)
    assert placed.sizes == {
        "training rows of supervised policies": 255 + 20 + 19 + 3,
        "validation rows of supervised policies": 48 + 7,
        "train comparisons of seen users": 229,
        "val comparisons of seen users": 26,
        "test comparisons of seen users": 40,
        "adapt comparisons of unseen users": 39,
        "test comparisons of unseen users": 15,
    }
    unseen = placed.rows.filter(users="unseen")
    assert set(unseen["worker"]) == {"w10", "w11", "w12"}
    assert placed.dropped["dropped_other_workers"] == 3
    assert accounted(placed, whole)


def simulated():
    """The twelve of `eleven`, and two workers with 100 and 99 validation rows."""
    whole = pl.concat([eleven(), frame(rows("x0", "v", 100), rows("x1", "v", 99))])
    return whole.with_columns(text_0=pl.format("s {}", "text_0"), text_1=pl.lit("much longer"))


def test_simulated_answers_follow_length_and_ranks_three_to_five_prefer_the_shorter():
    """text_1 is longer everywhere, so whoever prefers longer chooses 1; the recorded choice 0 is not read. Of the
    unseen x0 has 100 validation rows, of which half are for shots, x1 only 99; w10 and w11 have four."""
    whole = simulated()
    placed = protocols.apply("iclr_simulated", whole, 0)
    seen, unseen = (placed.rows.filter(users=half) for half in ("seen", "unseen"))
    words = {0: "prefers shorter (simulated)", 1: "prefers longer (simulated)"}
    assert set(seen.select("worker", "choice", "group").iter_rows()) == {
        (f"w0{n}", choice, words[choice]) for n in range(10) for choice in [int(n not in (3, 4, 5))]
    }
    assert places(protocols.Placed(unseen)) == {"x0 unseen adapt": 50, "x0 unseen test": 50}
    assert placed.sizes["unseen users"] == 1
    assert placed.dropped["dropped_other_workers"] == 20 + 19 + 8 + 7 + 3 + 99
    assert accounted(placed, whole)


def as_published():
    """178,944 rows with the published numbers per worker: the ten busiest, 31 with 300 validation rows, others."""
    train = [5245, 2920, 2437, 2366, 2200, 2126, 1824, 1606, 1366, 1209]
    validation = [1175, 643, 381, 604, 586, 360, 321, 263, 177, 411]
    groups = [("sup2", f"top{i}", "train", n) for i, n in enumerate(train)]
    groups += [("sup2", f"top{i}", "validation", n) for i, n in enumerate(validation)]
    groups += [("sup2", f"mid{i}", "validation", 300) for i in range(31)]
    groups += [("sup2", f"few{i}", "validation", n) for i, n in enumerate([69] * 27 + [70] * 3)]
    groups += [("sup2", f"mid{i % 31}", "train", 1) for i in range(38_487 - 23_299)]
    groups += [("ref", "top0", "train", 92_858 - 38_487), ("ref", "few0", "validation", 86_086 - 16_294)]
    counts = pl.DataFrame(groups, schema=["policy_1", "worker", "split", "n"], orient="row")
    whole = counts.select(pl.exclude("n").repeat_by("n")).explode("policy_1", "worker", "split")
    rest = {"batch": "b", "post": "p", "article": None, "text_0": "a", "policy_0": "sup1", "text_1": "bc"}
    whole = whole.with_columns(**{name: pl.lit(value) for name, value in rest.items()}, choice=pl.lit(0))
    return whole.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())


def test_data_of_the_published_shape_meet_every_published_count():
    """Li et al.'s notebook: 11,373 validation rows of others = 31 x 300 + 27 x 69 + 3 x 70."""
    whole = as_published()
    for name, n in (("li2024", 6), ("iclr_simulated", 4)):
        placed = protocols.apply(name, whole, 0)
        assert placed.notes[-1] == f"All {n} row counts of protocol {name} are the published ones."
        assert accounted(placed, whole)
    fewer = whole.with_columns(policy_0=pl.when(worker="top9").then(pl.lit("ppo")).otherwise("policy_0"))
    notes = protocols.apply("li2024", fewer, 0).notes
    assert "Protocol li2024 should give 38,487 training rows of supervised policies, as published, but gives 37,278." in notes  # fmt: skip
