"""Users' own comparisons: both shapes in three formats, and each kind of fault as one sentence with its place."""

import csv
import io
import json
import re
from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pal.errors import PalError
from pipeline import params
from pipeline.datasets import own
from pipeline.datasets.own.checks import doubtful_ids
from pipeline.datasets.own.items import TextItems
from pipeline.datasets.own.tables import TIMES
from pipeline.storage.tables import items_schema, pairs_schema, text_id

GOOD = {"user_id": "007", "prompt": "why?", "chosen": "so", "rejected": "no"}
DUEL = {"user_id": "ann", "prompt": "why?", "response_a": "so", "response_b": "no", "winner": "a"}
TEXTS = list(GOOD)
SHAPE = [*TEXTS, "label", "split", "timestamp"]


def row(**changes):
    return {**GOOD, **changes}


def duel(**changes):
    return {**DUEL, **changes}


def without(column, cells=GOOD):
    return {name: value for name, value in cells.items() if name != column}


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


OPTIONS = own.Prepare(user_ids="as_given", ties="drop", prompts="text", responses="text")


def kept(paths, ties):
    options = OPTIONS.model_copy(update={"ties": ties})
    return own.keep(own.read(paths, options), {"text": TextItems()}, options)


@pytest.fixture
def read(tmp_path):
    """Read files given by name and bytes; they lie under names without a suffix, as in the store."""

    def read(contents, ties="drop"):
        paths = {}
        for name, content in contents.items():
            paths[name] = tmp_path / f"{len(paths)}"
            paths[name].write_bytes(content)
        return kept(paths, ties)

    return read


def splits(*users):
    """Rows of (user, split)."""
    return [row(user_id=user, prompt=f"{n}?", split=split) for n, (user, split) in enumerate(users)]


WHOLE = [("ann", "train"), ("ann", "test"), ("bob", "adapt"), ("bob", "test")]


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_frame(read, name):
    rows = [row(label=1.0), row(user_id="b", chosen='say "no", \n please', label=0.75)]
    frame, counts = read({name: WRITERS[name](rows)})
    assert frame.select(SHAPE).to_dicts() == [{**each, "split": None, "timestamp": None} for each in rows]
    assert frame.select(SHAPE).dtypes == [*[pl.String] * 4, pl.Float32, pl.String, pl.Datetime("us")]
    assert counts["read"] == counts["kept"] == 2
    frame, _ = read({name: WRITERS[name](splits(*WHOLE))})
    assert frame["split"].to_list() == ["train", "test", "adapt", "test"]
    assert frame["label"].to_list() == [1.0] * 4
    frame, _ = read({name: WRITERS[name]([row(prompt="", split="")])})
    assert frame.select("prompt", "split").null_count().row(0) == (1, 1)


def test_both_shapes_say_the_same(read):
    """Ann takes so, bob no: as chosen and rejected, and as two responses and a winner."""
    first, _ = read({"a.csv": as_csv([GOOD, row(user_id="bob", chosen="no", rejected="so")])})
    second, _ = read({"a.csv": as_csv([duel(user_id="007"), duel(user_id="bob", winner=" Response_B ")])})
    assert first.drop("winner").equals(second.drop("winner"))


def test_a_tie_is_dropped_or_kept_as_a_soft_label(read):
    for ties, left in (("drop", 1), ("keep", 2)):
        frame, _ = read({"a.jsonl": as_jsonl([DUEL, duel(winner="tie", prompt="who?")])}, ties)
        assert frame["label"].to_list() == [1.0, 0.5][:left]


@pytest.mark.parametrize(("ties", "dropped"), [("drop", (2, 2)), ("keep", (0, 3))])
def test_a_response_compared_with_itself_is_dropped_and_counted(read, ties, dropped):
    """Five rows: two say that a text beats itself, one that it ties with itself, one is a tie, one is left."""
    same = row(chosen="no")
    rows = [same | {"label": 1}, row(label=0.5), same | {"label": 0.7}, same | {"label": 0.5}, row(label=1)]
    frame, counts = read({"a.csv": as_csv(rows)}, ties)
    expected = {"read": 5, "ties": 2, "ties_dropped": dropped[0], "identical_dropped": dropped[1]}
    others = {"merged": 0, "contradicted": 0, "undecided_dropped": 0}
    if ties == "keep":  # the tie is about the question that the last row answers
        others["merged"] = 1
    assert counts == {
        **expected, **others, "dropped": sum(dropped), "kept": 5 - sum(dropped) - others["merged"],
    }  # fmt: skip
    assert (frame["chosen"] == "so").all()


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
def test_repeats_of_one_question_are_one_comparison_of_their_mean(read, tmp_path, answers, drop, keep):
    """A row of bob's stays beside them. Spellings that differ in white space or Unicode's form are one."""
    spellings = [("so", "no"), (" so", "no\n"), ("so ", "no"), ("so", "\tno")]
    rows = [
        row(chosen=pair[answer < 0.5], rejected=pair[answer >= 0.5], label=max(answer, 1 - answer))
        for answer, pair in zip(answers, spellings, strict=False)
    ]
    for ties, expected in (("drop", drop), ("keep", keep)):
        frame, counts = read({"a.jsonl": as_jsonl([*rows, row(user_id="bob", label=1.0)])}, ties)
        assert counts["read"] == counts["kept"] + counts["dropped"] + counts["merged"] == len(rows) + 1
        assert counts["contradicted"] == ({0, 1} <= set(answers) or 0.9 in answers)
        assert counts["undecided_dropped"] == (expected is None)
        write(frame, tmp_path)
        pairs = pl.read_parquet(tmp_path / "pairs.parquet")
        texts = dict(pl.read_parquet(tmp_path / "items.parquet").select("item_id", "text").iter_rows())
        assert pairs["user_id"].to_list() == ["007", "bob"][expected is None :]
        if expected:
            weight = pairs["weight"][0] or 1
            assert (pytest.approx(pairs["label"][0]), texts[pairs["chosen"][0]], weight) == expected


def test_texts_that_differ_in_spaces_or_unicode_form_alone_are_one_item(read):
    """Composed and decomposed: one prompt and one response; so the last row compares a text with itself."""
    rows = [
        row(prompt="caf\u00e9  ?"),
        row(prompt="cafe\u0301 ?\n", user_id="bob"),
        row(chosen="r\u00e9", rejected="re\u0301 "),
    ]
    frame, counts = read({"a.jsonl": as_jsonl(rows)})
    assert (frame["prompt_id"].n_unique(), counts["identical_dropped"], counts["kept"]) == (1, 1, 2)


def test_the_last_time_of_repeats_is_theirs(read):
    frame, _ = read(
        {"a.csv": as_csv([row(timestamp=time) for time in ("2026-03-02", "2026-03-03", "2026-03-01")])}
    )
    assert frame["timestamp"].to_list() == [datetime(2026, 3, 3)]


def test_files_are_read_in_their_order_and_other_columns_ignored(read):
    first = b"user_id,prompt,chosen,rejected,x,x\nz,p,so,no,1,2\n"
    frame, counts = read({"b.csv": first, "a.jsonl": as_jsonl([row(user_id=1, nested={"a": [1]})])})
    assert frame["user_id"].to_list() == ["z", "1"]
    assert counts["read"] == 2
    assert not {"x", "nested"} & set(frame.columns)


def test_texts_longer_than_the_csv_module_likes_are_read(read):
    frame, _ = read({"a.csv": as_csv([row(chosen="x" * 200_000)])})
    assert frame["chosen"].str.len_chars().to_list() == [200_000]
    assert csv.field_size_limit() == 131_072


TYPES = {
    "categories": ({name: pa.dictionary(pa.int8(), pa.string()) for name in TEXTS}, GOOD),
    "decimals": ({"label": pa.decimal128(3, 1)}, row(label=1)),
    "whole numbers": ({"user_id": pa.uint64()}, row(user_id=7)),
    "whole numbers as floats": ({"user_id": pa.float64()}, row(user_id=7)),
}


@pytest.mark.parametrize(("types", "cells"), TYPES.values(), ids=TYPES)
def test_types_of_parquet_are_read(read, types, cells):
    rows = [cells | {"prompt": prompt} for prompt in ("why?", "who?", "how?")]
    frame, _ = read({"a.parquet": as_parquet(rows, types, row_group_size=1)})
    assert frame.select(TEXTS).rows() == [(str(cells["user_id"]), row["prompt"], "so", "no") for row in rows]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"user_id": TEXT.filter(str.strip), "prompt": TEXT, "chosen": TEXT, "rejected": TEXT}
    ).filter(lambda each: each["chosen"] != each["rejected"]),
    min_size=1,
    max_size=4,
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(rows=ROWS)
def test_any_text_survives_every_format(tmp_path_factory, rows):
    for name, write in WRITERS.items():
        path = tmp_path_factory.mktemp("any") / "content"
        path.write_bytes(write(rows))
        frame = own.read({name: path}, OPTIONS)
        assert frame.select(TEXTS).to_dicts() == rows, name


MOMENT = datetime(2026, 3, 1, 12, 30)
CELLS = {
    "2026-03-01T12:30:00Z": MOMENT,
    "2026-03-01T13:30:00.5+01:00": MOMENT + timedelta(seconds=0.5),
    "2026-03-01": datetime(2026, 3, 1),
    "1772368200.25": MOMENT + timedelta(seconds=0.25),
    " 2026-03-01T12:30 ": MOMENT,
    "": None,
}


@pytest.mark.parametrize("name", WRITERS)
def test_times_are_read_as_utc_and_reach_the_pairs(read, tmp_path, name):
    """2026-03-01 12:30 is 20,513 days and 45,000 seconds after 1970 began: 1,772,368,200 seconds."""
    frame, _ = read(
        {name: WRITERS[name]([row(timestamp=cell, prompt=f"{n}?") for n, cell in enumerate(CELLS)])}
    )
    assert frame["timestamp"].to_list() == list(CELLS.values())
    write(frame, tmp_path)
    assert pl.read_parquet(tmp_path / "pairs.parquet")["time"].to_list() == list(CELLS.values())


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
    frame, _ = read({"a.parquet": as_parquet([row(timestamp=value)], {"timestamp": kind})})
    assert frame["timestamp"].to_list() == [CELLS["2026-03-01"] if kind == pa.date32() else MOMENT]


HEADER = b"user_id,prompt,chosen,rejected\n"
IN_QUOTES = "put quotes around a value that holds a comma or a line break"

# Each kind of fault: the file, and how its sentence starts. What all readers share is in test_table_files.
FAULTS = [
    ("a.csv", b"", "a.csv is empty (0 bytes); export it again"),
    ("a.csv", HEADER, "a.csv must hold at least one row, got a header only"),
    ("a.tsv", b"x", "a.tsv must be a .csv, .jsonl, .parquet file"),
    ("a.jsonl", b"\n{'user_id': 7}\n" + as_jsonl([GOOD]) + b"{]\n", "row 1 (line 2) of a.jsonl (and 1 more row) is not valid JSON (Expecting property name enclosed in double quotes at character 2); write one JSON object a line"),
    ("a.csv", HEADER + b"ann,why,so,no\nann,why,so, well,no\nbob,why,so\n", f"row 2 (line 3) of a.csv (and 1 more row) must have 4 values, one per column, got 5; {IN_QUOTES}"),
    # Columns.
    ("a.jsonl", as_jsonl([without("user_id") | {"annotator_id": 1}]), "a.jsonl lacks the column user_id; it has 'annotator_id', 'chosen', 'prompt', 'rejected'; rename 'annotator_id' to user_id"),
    ("a.csv", b"annotator,question,answer_a,answer_b,preference\n1,2,3,4,a\n", "a.csv lacks the columns user_id, prompt, response_a, response_b, winner; it has 'annotator', 'question', 'answer_a', 'answer_b', 'preference'; rename 'annotator' to user_id, 'question' to prompt, 'answer_a' to response_a, 'answer_b' to response_b, 'preference' to winner"),
    ("a.csv", as_csv([row(Label=0.5)]), "a.csv has a column 'Label'; rename it to label, or to something else"),
    ("a.csv", as_csv([GOOD | DUEL]), "a.csv must say in one way who won, by chosen, rejected or by response_a, response_b, winner, got chosen, rejected, response_a, response_b, winner; remove or rename what belongs to the other"),
    ("a.csv", as_csv([duel(label=1)]), "a.csv must not have a column label beside response_a, response_b, winner, since label says how surely `chosen` won; remove or rename it"),
    # Types of cells.
    ("a.parquet", as_parquet([row(chosen=["so"])]), "chosen in a.parquet must hold text, got list<"),
    ("a.parquet", as_parquet([row(timestamp=1)], {"timestamp": pa.time64("us")}), f"timestamp in a.parquet must hold {TIMES}, got time64[us]"),
    ("a.jsonl", as_jsonl([GOOD, row(rejected=5), row(rejected=5.5), row(prompt=1)]), "rejected in row 2 of a.jsonl (and 1 more row) must be text, got 5"),
    ("a.jsonl", as_jsonl([row(user_id=True)]), "user_id in row 1 of a.jsonl must be text or a whole number, got True"),
    ("a.jsonl", as_jsonl([row(user_id=7.0), row(user_id=7.5)]), "user_id in row 2 of a.jsonl must be text or a whole number, got 7.5"),
    ("a.parquet", as_parquet([row(user_id=7.0), row(user_id=float("nan"))]), "user_id in row 2 of a.parquet must be text or a whole number, got nan"),
    ("a.jsonl", as_jsonl([GOOD, row(chosen="\ud800")]), "chosen in row 2 of a.jsonl must be valid Unicode, got '\\ud800'; it holds half of a surrogate pair"),
    # Texts.
    ("a.jsonl", as_jsonl([GOOD, row(user_id=None), without("user_id")]), "user_id in row 2 of a.jsonl (and 1 more row) must name the user, got nothing"),
    ("a.csv", as_csv([row(user_id="x" * 512), row(user_id="x" * 513)]), f"user_id in row 2 (line 3) of a.csv must have at most 512 characters, got '{'x' * 78}…; is this the right column?"),
    ("a.csv", as_csv([GOOD, row(prompt=""), row(prompt="")]), "prompt in row 2 (line 3) of a.csv (and 1 more row) is empty, while other rows have one; fill it in, or leave it empty in every row if there are no prompts"),
    ("a.csv", as_csv([duel(response_b="")]), "response_b in row 1 (line 2) of a.csv must not be empty"),
    # Labels and winners.
    ("a.csv", as_csv([row(label=1), row(label="yes"), row(label="no")]), "label in row 2 (line 3) of a.csv (and 1 more row) must be a number from 0.5 to 1, got 'yes'"),
    ("a.jsonl", as_jsonl([row(label=1), row(label=float("inf")), row(label=-(10**400))]), "label in row 2 of a.jsonl (and 1 more row) must be a number from 0.5 to 1, got inf"),
    ("a.csv", as_csv([row(label=0)]), "label in row 1 (line 2) of a.csv must be a number from 0.5 to 1, got 0.0; swap chosen and rejected, and write 1 minus that"),
    ("a.csv", as_csv([DUEL, duel(winner="c"), duel(winner="C")]), "winner in row 2 (line 3) of a.csv (and 1 more row) must be a, b or tie, got 'c'"),
    ("a.csv", as_csv([duel(winner=1)]), "winner in row 1 (line 2) of a.csv must be a, b or tie, got '1'; write a for response_a, b for response_b"),
    # Times.
    ("a.csv", as_csv([row(timestamp="2026-03-01"), row(timestamp="yesterday")]), f"timestamp in row 2 (line 3) of a.csv must be {TIMES}, got 'yesterday'"),
    ("a.parquet", as_parquet([row(timestamp=1772368200123456789)]), f"timestamp in row 1 of a.parquet must be {TIMES}, got 1.7723682001234568e+18; divide"),
    ("a.csv", as_csv([row(timestamp=20260301)]), f"timestamp in row 1 (line 2) of a.csv must be {TIMES}, got '20260301'; write dates as 2026-03-01"),
    ("a.csv", as_csv([*splits(*WHOLE), row(prompt="0?\n", user_id="ann", split="test", chosen="no", rejected="so")]), "split in row 5 (line 6) of a.csv must be train as in row 1 (line 2) of a.csv, where user 'ann' answers this question, got test"),
    # What is left.
    ("a.csv", as_csv([row(label=0.5)] * 2), "all 2 rows are ties (label 0.5); set own.prepare.ties to 'keep'"),
    ("a.csv", as_csv([row(chosen="no", label=1), row(chosen="no", label=1), row(label=0.5)]), "none of 3 rows is left once ties (1) and responses compared with themselves (2) are dropped; add comparisons"),
    # Splits.
    ("a.csv", as_csv(splits(*WHOLE, ("ann", "dev"))), "split in row 5 (line 6) of a.csv must be one of train, adapt, val, test, got 'dev'"),
    ("a.csv", as_csv(splits(*WHOLE, ("ann", ""), ("bob", ""))), "split in row 5 (line 6) of a.csv (and 1 more row) is empty, while other rows have one; fill it in, or leave it empty in every row to have the pipeline split"),
    ("a.csv", as_csv(splits(*WHOLE, ("bob", "train"), ("eve", "adapt"), ("eve", "train"))), "user 'bob' (and 1 more user) must not have both train rows (row 5 (line 6) of a.csv) and adapt rows (row 3 (line 4) of a.csv); a user is either seen or unseen"),
    ("a.jsonl", as_jsonl(splits(*WHOLE, ("eve", "val"))), "user 'eve' of row 5 of a.jsonl must have train rows or adapt rows, got only val"),
    ("a.csv", as_csv(splits(("ann", "train"), ("ann", "test"))), "split must have rows of train, adapt and test, got only test, train; add them, or leave split out to have the pipeline split"),
    ("a.csv", as_csv(splits(("ann", "train"), ("ann", "test"), ("bob", "adapt"))), "split must have test rows of unseen users (those with adapt rows), got none"),
    ("a.jsonl", as_jsonl([each | {"label": 1} for each in splits(*WHOLE, ("eve", "test"))] + [row(user_id="eve", split="train", label=0.5)]), "user 'eve' of row 5 of a.jsonl must have train rows or adapt rows, got only test once ties are dropped"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "sentence"), FAULTS)
def test_a_fault_is_one_sentence_with_its_place(read, name, content, sentence):
    with pytest.raises(PalError, match=f"^{re.escape(sentence)}") as caught:
        read({name: content})
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith(".")
    if place := re.match(r"(?:(\w+) in )?row (\d+) ", sentence):
        assert (caught.value.file, caught.value.row) == (name, int(place[2]))
        assert caught.value.column == place[1]


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (as_jsonl([row(chosen="")]), "chosen in row 1 of b.jsonl must not be empty"),
        (as_jsonl([row(label=1)]), "a.csv lacks the column label, which b.jsonl has; all files must have the same columns"),
    ],
)  # fmt: skip
def test_several_files_have_the_same_columns_and_rows_of_their_own(read, second, sentence):
    with pytest.raises(PalError, match=f"^{sentence}"):
        read({"a.csv": as_csv([GOOD] * 3), "b.jsonl": second})


def test_rows_are_counted_across_chunks(read, monkeypatch):
    monkeypatch.setattr("pipeline.datasets.own.tables.CHUNK", 2)
    rows = [GOOD, GOOD, GOOD, row(chosen=1), row(chosen=1)]
    with pytest.raises(PalError, match=re.escape("row 4 of a.jsonl (and 1 more row) must be text")):
        read({"a.jsonl": as_jsonl(rows)})


def test_a_split_by_time_needs_times_before_anything_runs(project):
    project.set({"own.source": "a.csv", "own.split.by": "time"})
    rows = [row(user_id=n, timestamp="2026-03-01" if n else "") for n in range(3)]
    empty = r"timestamp in row 1 \(line 2\) of a\.csv is empty, which own\.split\.by: time does not allow"
    none = r"own\.split\.by is time, which needs a column timestamp; add one"
    for content, sentence in ((rows, empty), ([GOOD], none)):
        (project.root / "a.csv").write_bytes(as_csv(content))
        with pytest.raises(PalError, match=f"^{sentence}"):
            own.find(params.load()).check()


IDS = ["7", "7.0", "Ann", " ann", "e\u0301", "\u00e9", "bob", "nan", "NULL"]


def test_ids_that_may_be_one_person_s_or_nobody_s_are_told_and_may_be_made_one(read, tmp_path):
    (tmp_path / "ids").write_bytes(as_jsonl([row(user_id=user) for user in [*IDS, "nan"]]))
    for how, n in (("as_given", 9), ("normalised", 6)):
        rows = own.read({"a.jsonl": tmp_path / "ids"}, OPTIONS.model_copy(update={"user_ids": how}))
        assert rows["user_id"].n_unique() == n
        alike, nobody = ([], *doubtful_ids(rows["user_id"]))[-2:]
        names = {9: "'NULL', 'nan'", 6: "'nan', 'null'"}[n]
        assert nobody.startswith(f"warning: the user_id of 3 rows is {names}, which may name nobody")
        assert bool(alike) == (how == "as_given")
        assert not alike or alike.startswith(
            "warning: 6 user ids may be those of 3 people, as ' ann' and 'Ann', "
        )


def checked(project, rows, **options):
    """What check says of a file with these rows."""
    (project.root / "a.csv").write_bytes(as_csv(rows))
    project.set({"own.source": "a.csv", **options})
    return own.find(params.load()).check()


def test_what_only_train_needs_is_refused_by_check(project):
    """Of ten users two are kept unseen. Without prompts model A is taken, unless somebody asks for another."""
    rows = [row(user_id=user, chosen=f"so {n}", prompt="") for user in range(10) for n in range(2)]
    assert checked(project, rows, **{"model.K": 8}) == [
        "there are no prompts, so that own.head.model is A, which reads responses alone"
    ]
    with pytest.raises(
        PalError, match=r"^own\.split\.unseen_users must leave at least one user seen and one unseen"
    ):
        checked(project, rows[:4], **{"model.K": 1})
    for options, sentence in (
        ({"model.K": 9}, "model.K must be at most 8, the seen users of own, got 9; lower it or add users"),
        (
            {"model.K": 2, "own.head.model": "B"},
            "own.head.model must be 'A' where there are no prompts, got 'B' (in",
        ),
        (
            {"own.head.model": "A", "own.head.inputs": "prompt_and_response"},
            "own.head.inputs must be 'response' where",
        ),
    ):
        with pytest.raises(PalError, match=f"^{re.escape(sentence)}"):
            checked(project, rows, **options)


def test_the_column_split_is_obeyed_and_check_says_so(project):
    assert checked(project, splits(*WHOLE), **{"model.K": 1, "own.split.by": "time"}) == [
        "the file's column split says who trains and who is tested; own.split is not used"
    ]
    with pytest.raises(PalError, match=r"^model\.K must be at most 1, the seen users of own, got 2"):
        checked(project, splits(*WHOLE), **{"model.K": 2})


def write(frame, folder):
    items = TextItems()
    for role in own.ROLES:
        items.ids(frame, role)
    own.write_tables(frame, {"text": items}, folder)


def test_prepare_writes_items_and_pairs(read, tmp_path):
    frame, _ = read({"a.csv": as_csv([GOOD, row(user_id="b", chosen="no", rejected="so")])})
    write(frame, tmp_path / "out")
    items = pq.read_table(tmp_path / "out/items.parquet")
    pairs = pq.read_table(tmp_path / "out/pairs.parquet")
    assert items.schema.equals(items_schema())
    assert pairs.schema.equals(pairs_schema())
    why, so, no = map(text_id, ("why?", "so", "no"))
    texts = dict(zip(items["item_id"].to_pylist(), items["text"].to_pylist(), strict=True))
    assert texts == {why: "why?", so: "so", no: "no"}
    assert [tuple(each.values()) for each in pairs.to_pylist()] == [
        (0, "007", why, so, no, 1.0, *[None] * 7),
        (1, "b", why, no, so, 1.0, *[None] * 7),
    ]


def test_a_user_with_adapt_rows_is_unseen_and_prompts_may_be_null(read, tmp_path):
    frame, _ = read(
        {
            "a.csv": as_csv(
                [
                    each | {"prompt": "", "chosen": f"so {n}"}
                    for n, each in enumerate(splits(*WHOLE, ("bob", "val")))
                ]
            )
        }
    )
    write(frame, tmp_path)
    pairs = pl.read_parquet(tmp_path / "pairs.parquet")
    assert pairs["users"].to_list() == ["seen", "seen", "unseen", "unseen", "unseen"]
    assert pairs["split"].to_list() == frame["split"].to_list()
    assert pairs["prompt"].null_count() == 5
