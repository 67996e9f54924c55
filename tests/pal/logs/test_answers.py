"""Answers: texts survive every format, repeats of a question are one comparison, places are held to what they need."""

import csv
import io
import json
import re
from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pal.errors import PalError
from pal.logs.answers import read_answers
from pal.logs.shapes import read_log

GOOD = {"user_id": "007", "prompt": "why?", "chosen": "so", "rejected": "no"}
TEXTS = list(GOOD)


def row(**changes):
    return {**GOOD, **changes}


def as_csv(rows):
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def as_jsonl(rows):
    return "".join(json.dumps(each) + "\n" for each in rows).encode()


def as_parquet(rows, types=None, **options):
    """Parquet, some of whose columns have these types."""
    out = io.BytesIO()
    columns = {name: pa.array([each[name] for each in rows], (types or {}).get(name)) for name in rows[0]}
    pq.write_table(pa.table(columns), out, **options)
    return out.getvalue()


WRITERS = {"a.csv": as_csv, "a.jsonl": as_jsonl, "a.parquet": as_parquet}


@pytest.fixture
def read(tmp_path):
    """Read a file given by name and bytes."""

    def read(name, content, ties="drop", **options):
        (tmp_path / name).write_bytes(content)
        log = read_log(tmp_path / name, ties=ties, **options)
        return log, read_answers(log, ties=ties)

    return read


def shown(answers):
    """Rows of user, prompt, chosen and rejected as texts."""
    texts = answers.items["text"].contents.to_list()
    return [
        (user, *(texts[at] if at >= 0 else None for at in items))
        for user, *items in answers.pairs.select(TEXTS).iter_rows()
    ]


REPEATS = [
    # What a user answered to one question: 1 says so, 0 says no, 0.5 is a tie; then label, chosen and weight,
    # without ties (which are left out first) and with them.
    ([1], (1, "so", 1), (1, "so", 1)),
    ([0, 0], (1, "no", 2), (1, "no", 2)),
    ([0, 1, 1, 1], (0.75, "so", 4), (0.75, "so", 4)),
    ([1, 0.5], (1, "so", 1), (0.75, "so", 2)),
    ([0.9, 0.2, 0.2, 0.2], (0.625, "no", 4), (0.625, "no", 4)),
    ([1, 0], None, (0.5, "so", 2)),
]


@pytest.mark.parametrize(("answers", "drop", "keep"), REPEATS)
def test_repeats_of_one_question_are_one_comparison_of_their_mean(read, answers, drop, keep):
    """A row of bob's stays beside them. Spellings that differ in white space or Unicode's form are one."""
    spellings = [("so", "no"), (" so", "no\n"), ("so ", "no"), ("so", "\tno")]
    rows = [
        row(chosen=pair[answer < 0.5], rejected=pair[answer >= 0.5], label=max(answer, 1 - answer))
        for answer, pair in zip(answers, spellings, strict=False)
    ]
    for ties, expected in (("drop", drop), ("keep", keep)):
        _, found = read("a.jsonl", as_jsonl([*rows, row(user_id="bob", label=1.0)]), ties)
        counts = found.counts
        assert counts["read"] == counts["kept"] + counts["dropped"] + counts["merged"] == len(rows) + 1
        assert counts["contradicted"] == ({0, 1} <= set(answers) or 0.9 in answers)
        assert counts["undecided_dropped"] == (expected is None)
        assert found.pairs["user_id"].to_list() == ["007", "bob"][expected is None :]
        if expected:
            first = found.pairs.row(0, named=True)
            assert (pytest.approx(first["label"]), shown(found)[0][2], first["weight"]) == expected
        else:
            assert [each[1:] for each in found.rejected.rows()] == [
                (1, "answered both ways equally often"), (2, "answered both ways equally often")
            ]  # fmt: skip


@pytest.mark.parametrize("ties", ["drop", "keep"])
def test_habits_are_of_answers_before_repeats_are_merged(read, ties):
    """Once 1 and 0 never agree; of 1, 1, 0 a third of the pairs agrees; of these two questions 1/6 on average."""
    said = {
        "ann": [("q1", 1), ("q1", 0), ("q2", 1), ("q2", 1), ("q2", 0)],
        "bob": [("q1", 0.75), ("q1", 0.75), ("q2", 0.5), ("q2", 0.5), ("q3", 1)],
    }
    rows = [
        {
            "user_id": user,
            "prompt": prompt,
            "response_a": "so",
            "response_b": "no",
            "winner": {1: "A", 0: "B", 0.75: "A-is-slightly-better", 0.5: "tie"}[answer],
            "timestamp": 1_700_000_000 + 20 * at + 10_000 * (at > 2),
        }
        for user, answers in said.items()
        for at, (prompt, answer) in enumerate(answers)
    ]
    _, found = read("a.jsonl", as_jsonl(rows), ties)
    ann, bob = found.habits.sort("user_id").iter_rows(named=True)
    assert (pytest.approx(ann["itself"]), ann["repeated"]) == (1 / 6, 2)
    assert (ann["first"], ann["shown"], ann["seconds"]) == (0.6, 5, 20.0)
    assert (bob["itself"], bob["repeated"], bob["first"]) == (None, None, 1.0)


@pytest.mark.parametrize(("ties", "dropped"), [("drop", (2, 2)), ("keep", (0, 3))])
def test_a_response_compared_with_itself_is_dropped_and_counted(read, ties, dropped):
    """Five rows: two say that a text beats itself, one that it ties with itself, one is a tie, one is left."""
    same = row(chosen="no")
    rows = [same | {"label": 1}, row(label=0.5), same | {"label": 0.7}, same | {"label": 0.5}, row(label=1)]
    _, found = read("a.csv", as_csv(rows), ties)
    counts = found.counts
    assert (counts["read"], counts["ties_dropped"], counts["identical_dropped"]) == (5, *dropped)
    assert counts["kept"] == 1
    assert [texts[2] for texts in shown(found)] == ["so"]


def test_texts_that_differ_in_spaces_or_unicode_form_alone_are_one_item(read):
    """Composed and decomposed: one prompt and one response; so the last row compares a text with itself."""
    rows = [
        row(prompt="caf\u00e9  ?"),
        row(prompt="cafe\u0301 ?\n", user_id="bob"),
        row(chosen="r\u00e9", rejected="re\u0301 "),
    ]
    _, found = read("a.jsonl", as_jsonl(rows))
    assert (found.pairs["prompt"].n_unique(), found.counts["identical_dropped"], len(found.pairs)) == (
        1,
        1,
        2,
    )
    assert shown(found)[0][1] == "caf\u00e9  ?"  # of as many characters the first in their order


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"user_id": TEXT.filter(str.strip), "prompt": TEXT, "chosen": TEXT, "rejected": TEXT}
    ).filter(lambda each: each["chosen"] != each["rejected"]),
    min_size=1,
    max_size=4,
)


@given(rows=ROWS)
def test_any_text_survives_every_format(tmp_path_factory, rows):
    """With a plain row before them, by which a CSV's dialect is told."""
    rows = [row(), *rows]
    for name, write in WRITERS.items():
        path = tmp_path_factory.mktemp("any") / name
        path.write_bytes(write(rows))
        assert read_log(path).pairs.select(TEXTS).to_dicts() == rows, name


MOMENT = datetime(2026, 3, 1, 12, 30)
CELLS = {
    "2026-03-01T12:30:00Z": MOMENT,
    "2026-03-01T13:30:00.5+01:00": MOMENT + timedelta(seconds=0.5),
    "2026-03-01": datetime(2026, 3, 1),
    "1772368200.25": MOMENT + timedelta(seconds=0.25),
    " 2026-03-01T12:30 ": MOMENT,
    "": None,
    "yesterday": None,
    "20260301": None,
    "1772368200000": None,
}


@pytest.mark.parametrize("name", WRITERS)
def test_times_are_read_as_utc(read, name):
    """2026-03-01 12:30 is 20,513 days and 45,000 seconds after 1970 began: 1,772,368,200 seconds."""
    rows = [row(timestamp=cell, prompt=f"{n}?") for n, cell in enumerate(CELLS)]
    log, found = read(name, WRITERS[name](rows))
    assert found.pairs["timestamp"].to_list() == list(CELLS.values())
    assert log.said == [
        f"warning: timestamp in row 7 of {name} is no time but 'yesterday', and taken as empty; write ISO 8601, "
        "or seconds since 1970"
    ]


ZONE = timezone(timedelta(hours=5))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (MOMENT, pa.timestamp("ns")),
        (MOMENT.replace(tzinfo=UTC).astimezone(ZONE), pa.timestamp("us", "+05:00")),
        (1_772_368_200, pa.int64()),
        (date(2026, 3, 1), pa.date32()),
    ],
)
def test_parquet_has_times_of_its_own(read, value, kind):
    log, _ = read("a.parquet", as_parquet([row(timestamp=value)], {"timestamp": kind}))
    assert log.pairs["timestamp"].to_list() == [CELLS["2026-03-01"] if kind == pa.date32() else MOMENT]


IDS = ["7", "7.0", "Ann", " ann", "e\u0301", "\u00e9", "bob", "nan", "NULL"]


def test_ids_that_may_be_one_person_s_or_nobody_s_are_told_and_may_be_made_one(read):
    content = as_jsonl([row(user_id=user) for user in [*IDS, "nan"]])
    for how, n in (("as_given", 9), ("normalised", 6)):
        log, _ = read("a.jsonl", content, user_ids=how)
        assert log.pairs["user_id"].n_unique() == n
        alike, nobody = ([], *log.said)[-2:]
        names = {9: "'NULL', 'nan'", 6: "'nan', 'null'"}[n]
        assert nobody.startswith(f"warning: the user_id of 3 rows is {names}, which may name nobody")
        assert bool(alike) == (how == "as_given")
        assert not alike or alike.startswith(
            "warning: 6 user ids may be those of 3 people, as ' ann' and 'Ann', "
        )


def splits(*users):
    """Rows of (user, split)."""
    return [row(user_id=user, prompt=f"{n}?", split=split) for n, (user, split) in enumerate(users)]


WHOLE = [("ann", "train"), ("ann", "test"), ("bob", "adapt"), ("bob", "test")]
AGAIN = row(prompt="0?\n", user_id="ann", split="test", chosen="no", rejected="so")
FAULTS = [
    ([*splits(*WHOLE), AGAIN], "split in row 5 of a.csv must be the same wherever a user answers one question, got 'test'"),
    ([row(user_id="x" * 512), row(user_id="x" * 513)], f"user_id in row 2 of a.csv must have at most 512 characters, got '{'x' * 78}…; is this the right column?"),
    ([row(chosen="no\n", label=1), row(chosen=" no", label=1)], "none of 2 comparisons in "),
    (splits(*WHOLE, ("ann", "dev")), "split in row 5 of a.csv must be one of train, adapt, val, test, got 'dev'; say `split=`"),
    (splits(*WHOLE, ("ann", ""), ("bob", "")), "split in row 5 of a.csv (and 1 more row) is empty, while other rows have one; fill it in, or leave it empty in every row to have places drawn"),
    (splits(*WHOLE, ("bob", "train"), ("eve", "adapt"), ("eve", "train")), "split in row 3 of a.csv (and 1 more row) must not be 'adapt' where the user has train rows too; a user is either seen or unseen"),
    (splits(*WHOLE, ("eve", "val")), "split in row 5 of a.csv must not be 'val' alone; a user needs train rows or adapt rows"),
    (splits(("ann", "train"), ("ann", "test")), "split must have rows of train, adapt and test, got only test, train; add them, or have places drawn: --columns 'split=', or"),
    (splits(("ann", "train"), ("ann", "test"), ("bob", "adapt")), "split must have test rows of unseen users (those with adapt rows), got none"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "sentence"), FAULTS)
def test_a_fault_is_one_sentence_with_its_place(read, rows, sentence):
    with pytest.raises(PalError, match=f"^{re.escape(sentence)}") as caught:
        read("a.csv", as_csv(rows))
    assert "\n" not in str(caught.value)
    if place := re.match(r"(\w+) in row (\d+) ", sentence):
        assert (caught.value.file, caught.value.row, caught.value.column) == (
            "a.csv",
            int(place[2]),
            place[1],
        )


def test_a_zero_byte_in_the_name_of_a_column_is_refused(read):
    with pytest.raises(PalError, match=r"^a\.jsonl must have no zero byte in a column's name, got 'by\\x00'"):
        read("a.jsonl", as_jsonl([GOOD, row() | {"by\0": "x"}]))


def test_half_of_a_surrogate_pair_is_refused_by_its_row(read):
    with pytest.raises(PalError, match=r"^chosen in row 2 of a\.jsonl must be valid Unicode, got '\\ud800'"):
        read("a.jsonl", as_jsonl([GOOD, row(chosen="\ud800")]))
