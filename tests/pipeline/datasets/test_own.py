"""Your own comparisons: three formats give one frame, and every fault is one sentence with its place."""

import csv
import io
import json
import re
import subprocess
import sys

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pal.errors import PalError as PipelineError
from pipeline.datasets import own
from pipeline.datasets.own import Prepare
from pipeline.datasets.own.items import TextItems as Texts
from pipeline.storage.tables import items_schema, pairs_schema, text_id

TEXTS = ["user_id", "prompt", "chosen", "rejected"]
SHAPE = [*TEXTS, "label", "split", "timestamp"]
GOOD = {"user_id": "007", "prompt": "why?", "chosen": "so", "rejected": "no"}


def row(**changes):
    return {**GOOD, **changes}


def lacking(column):
    return {name: value for name, value in GOOD.items() if name != column}


def as_csv(rows):
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def as_jsonl(rows):
    return "".join(json.dumps(each) + "\n" for each in rows).encode()


def as_parquet(rows, **types):
    out = io.BytesIO()
    columns = {name: pa.array([each[name] for each in rows], types.get(name)) for name in rows[0]}
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def counted(read, **others):
    """All counts, where what is not said is 0, and what is not dropped is kept."""
    none = dict.fromkeys(("ties", "ties_dropped", "identical_dropped", "duplicates"), 0)
    counts = {"read": read, **none, **others}
    dropped = counts["ties_dropped"] + counts["identical_dropped"]
    return {**counts, "dropped": dropped, "kept": read - dropped}


WRITERS = {"a.csv": as_csv, "a.jsonl": as_jsonl, "a.parquet": as_parquet}


def kept(paths, ties="drop"):
    knobs = Prepare(ties=ties, prompts="text", responses="text")
    return own.keep(own.read(paths, knobs), {"text": Texts()}, knobs)


@pytest.fixture
def read(tmp_path):
    """Read files given by name and bytes; they lie under names without a suffix, as in the store."""

    def read(ties="drop", **contents):
        paths = {}
        for name, content in contents.items():
            paths[name] = tmp_path / f"{len(paths)}"
            paths[name].write_bytes(content)
        return kept(paths, ties)

    return read


def splits(*of):
    """Rows of (user, split)."""
    return [row(user_id=user, prompt=f"{n}?", split=split) for n, (user, split) in enumerate(of)]


WHOLE = [("ann", "train"), ("ann", "test"), ("bob", "adapt"), ("bob", "test")]


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_frame(read, name):
    rows = [row(label=1.0), row(user_id="b", chosen='say "no", \n please', label=0.75)]
    frame, counts = read(**{name: WRITERS[name](rows)})
    assert frame.select(SHAPE).to_dicts() == [{**each, "split": None, "timestamp": None} for each in rows]
    assert frame.select(SHAPE).dtypes == [*[pl.String] * 4, pl.Float32, pl.String, pl.Datetime("us")]
    assert counts == counted(2)


@pytest.mark.parametrize("name", WRITERS)
def test_a_split_survives_in_every_format(read, name):
    frame, _ = read(**{name: WRITERS[name](splits(*WHOLE))})
    assert frame["split"].to_list() == ["train", "test", "adapt", "test"]


def test_without_a_label_every_row_is_certain(read):
    frame, _ = read(**{"a.csv": as_csv([GOOD])})
    assert frame["label"].to_list() == [1.0]


def test_an_id_of_digits_keeps_its_zeros_in_csv(read):
    frame, _ = read(**{"a.csv": as_csv([GOOD])})
    assert frame["user_id"].to_list() == ["007"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", as_jsonl([row(user_id=7)])),
        ("a.parquet", as_parquet([row(user_id=7)], user_id=pa.uint64())),
    ],
)
def test_a_whole_number_as_user_id_becomes_text(read, name, content):
    frame, _ = read(**{name: content})
    assert frame["user_id"].to_list() == ["7"]


def test_categories_and_decimals_in_parquet_are_read(read):
    content = as_parquet(
        [row(label=1)],
        user_id=pa.dictionary(pa.int8(), pa.string()),
        prompt=pa.string_view(),
        label=pa.decimal128(3, 1),
    )
    frame, _ = read(**{"a.parquet": content})
    assert frame.select(SHAPE).row(0) == ("007", "why?", "so", "no", 1.0, None, None)


def test_other_columns_are_ignored(read):
    frame, _ = read(**{"a.jsonl": as_jsonl([row(when="now", nested={"a": [1]})])})
    assert not {"when", "nested"} & set(frame.columns)


def test_files_are_read_in_their_order(read):
    first, second = as_csv([row(user_id="z"), row(user_id="y")]), as_jsonl([row(user_id=1)])
    frame, counts = read(**{"b.csv": first, "a.jsonl": second})
    assert frame["user_id"].to_list() == ["z", "y", "1"]
    assert counts["read"] == 3


@pytest.mark.parametrize(("ties", "left", "dropped"), [("drop", 1, 2), ("keep", 3, 0)])
def test_ties_are_dropped_or_kept_and_counted(read, ties, left, dropped):
    rows = [row(label=0.5), row(label=1), row(label=0.5, chosen="maybe")]
    frame, counts = read(ties, **{"a.csv": as_csv(rows)})
    assert len(frame) == left
    assert counts == counted(3, ties=2, ties_dropped=dropped)


@pytest.mark.parametrize(("ties", "dropped"), [("drop", (2, 2)), ("keep", (0, 3))])
def test_a_response_compared_with_itself_is_dropped_and_counted(read, ties, dropped):
    """Five rows: two say that a text beats itself, one that it ties with itself, one is a tie, one is left."""
    same, tie = row(chosen="no"), row(label=0.5)
    rows = [same | {"label": 1}, tie, same | {"label": 0.7}, same | {"label": 0.5}, row(label=1)]
    frame, counts = read(ties, **{"a.csv": as_csv(rows)})
    assert counts == counted(5, ties=2, ties_dropped=dropped[0], identical_dropped=dropped[1])
    assert (frame["chosen"] == "so").all()


def test_duplicates_are_kept_and_counted(read):
    rows = [row(split=split) for split in ("train", "train", "test")] + splits(("b", "adapt"), ("b", "test"))
    frame, counts = read(**{"a.csv": as_csv(rows)})
    assert len(frame) == 5
    assert counts["duplicates"] == 2


def test_a_byte_order_mark_and_windows_line_ends_are_fine(read):
    for name in ("a.csv", "a.jsonl"):
        content = WRITERS[name]([GOOD]).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        frame, _ = read(**{name: b"\xef\xbb\xbf" + content})
        assert frame.select(TEXTS).row(0) == tuple(GOOD.values())


def test_blank_lines_are_no_rows(read):
    for name in ("a.csv", "a.jsonl"):
        content = WRITERS[name]([GOOD, GOOD]).replace(b"\n", b"\n\n")
        _, counts = read(**{name: content})
        assert counts["read"] == 2


def test_a_last_line_without_an_end_is_read(read):
    for name in ("a.csv", "a.jsonl"):
        _, counts = read(**{name: WRITERS[name]([GOOD, GOOD]).rstrip()})
        assert counts["read"] == 2


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("user", ["a.b c", "😀", 'it\'s "me"', "two\nlines", "nul\0inside", " padded "])
def test_odd_user_ids_are_fine(read, name, user):
    frame, _ = read(**{name: WRITERS[name]([row(user_id=user)])})
    assert frame["user_id"].to_list() == [user]


@pytest.mark.parametrize("name", WRITERS)
def test_prompts_empty_throughout_are_none(read, name):
    frame, _ = read(**{name: WRITERS[name]([row(prompt=""), row(prompt="")])})
    assert frame["prompt"].to_list() == [None, None]


@pytest.mark.parametrize("name", WRITERS)
def test_a_split_empty_throughout_is_none(read, name):
    frame, _ = read(**{name: WRITERS[name]([row(split=""), row(split="")])})
    assert frame["split"].to_list() == [None, None]


def test_texts_longer_than_the_csv_module_likes_are_read(read):
    frame, _ = read(**{"a.csv": as_csv([row(chosen="x" * 200_000)])})
    assert frame["chosen"].str.len_chars().to_list() == [200_000]
    assert csv.field_size_limit() == 131_072


def test_rows_are_counted_across_chunks(read, monkeypatch):
    monkeypatch.setattr("pipeline.datasets.own.tables.CHUNK", 2)
    rows = [GOOD, GOOD, GOOD, row(chosen=1), row(chosen=1)]
    with pytest.raises(PipelineError, match=re.escape("row 4 of a.jsonl (and 1 more row) must be text")):
        read(**{"a.jsonl": as_jsonl(rows)})


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
        frame, _ = kept({name: path})
        assert frame.select(TEXTS).to_dicts() == rows, name


# What is wrong, the file, and the whole sentence.
BAD_FILES = {
    "a file of no bytes": ("a.csv", b"", "a.csv is empty (0 bytes); export it again"),
    "an empty JSONL file": ("a.jsonl", b"", "a.jsonl is empty (0 bytes); export it again"),
    "a header without rows": (
        "a.csv",
        b"user_id,prompt,chosen,rejected\n",
        "a.csv must hold at least one row, got a header only",
    ),
    "blank lines without rows": (
        "a.jsonl",
        b"\n\n",
        "a.jsonl must hold at least one row, got none",
    ),
    "a file of another kind": ("a.tsv", b"x", "a.tsv must be a .csv, .jsonl, .parquet file"),
    "JSONL cut off": (
        "a.jsonl",
        as_jsonl([GOOD, GOOD])[:-20],
        "row 2 of a.jsonl is not valid JSON (Expecting ',' delimiter at character 52); the file seems cut "
        "off there",
    ),
    "invalid JSON amid JSONL": (
        "a.jsonl",
        b"\n{'user_id': 7}\n" + as_jsonl([GOOD]) + b"{]\n",
        "row 1 (line 2) of a.jsonl (and 1 more row) is not valid JSON (Expecting property name enclosed in "
        "double quotes at character 2); write one JSON object a line",
    ),
    "JSON too deep to read": (
        "a.jsonl",
        b'{"prompt": ' + b"[" * 100_000 + b"\n",
        "row 1 of a.jsonl is not valid JSON (maximum recursion depth exceeded",
    ),
    "a JSON list as a row": (
        "a.jsonl",
        b'["ann", "why?", "so", "no"]\n',
        "row 1 of a.jsonl must be a JSON object, got a list",
    ),
    "a CSV row too long": (
        "a.csv",
        b"user_id,prompt,chosen,rejected\nann,why,so,no\nann,why,so, well,no\nbob,why,so\n",
        "row 2 (line 3) of a.csv (and 1 more row) must have 4 values, one per column, got 5; put quotes "
        "around a value that holds a comma or a line break",
    ),
    "a CSV quote never closed": (
        "a.csv",
        b'user_id,prompt,chosen,rejected\nann,"why\nnot",so,no\nann,"why,so,no\nbob,why,so,no\n',
        "row 2 (line 4) of a.csv has a quote that is not closed or not doubled (unexpected end of data); put "
        "quotes around the value and double each quote within it",
    ),
    "a CSV quote not doubled": (
        "a.csv",
        b'user_id,prompt,chosen,rejected\nann,"say "why"",so,no\n',
        "row 1 (line 2) of a.csv has a quote that is not closed or not doubled (',' expected after '\"'); "
        "put quotes around the value and double each quote within it",
    ),
    "a CSV file in Latin-1": (
        "a.csv",
        "user_id,prompt,chosen,rejected\nandré,why,so,no\n".encode("latin-1"),
        "line 2 of a.csv must be UTF-8, got the byte 0xe9; save the file as UTF-8",
    ),
    "a JSONL file in UTF-16": (
        "a.jsonl",
        as_jsonl([GOOD]).decode().encode("utf-16"),
        "line 1 of a.jsonl must be UTF-8, got the byte 0xff; save the file as UTF-8",
    ),
    "Parquet cut off": (
        "a.parquet",
        as_parquet([GOOD])[:-30],
        "a.parquet is damaged or not Parquet (",
    ),
    "CSV called Parquet": ("a.parquet", as_csv([GOOD]), "a.parquet is damaged or not Parquet ("),
    "a column missing": (
        "a.csv",
        as_csv([lacking("prompt")]),
        "a.csv lacks the column prompt; it has 'user_id', 'chosen', 'rejected'; add it; the first line of a CSV file names its columns",
    ),
    "columns under other names": (
        "a.csv",
        b"user,prompt,winner,loser_text\nann,why,so,no\n",
        "a.csv lacks the columns user_id, chosen, rejected; it has 'user', 'prompt', 'winner', 'loser_text'; "
        "rename 'user' to user_id, 'winner' to chosen",
    ),
    "a column misspelt in Parquet": (
        "a.parquet",
        as_parquet([lacking("chosen") | {"choosen": "so"}]),
        "a.parquet lacks the column chosen; it has 'user_id', 'prompt', 'rejected', 'choosen'; rename "
        "'choosen' to chosen",
    ),
    "a key missing from all JSONL rows": (
        "a.jsonl",
        as_jsonl([lacking("user_id") | {"annotator_id": 1}]),
        "a.jsonl lacks the column user_id; it has 'annotator_id', 'chosen', 'prompt', 'rejected'; rename "
        "'annotator_id' to user_id",
    ),
    "columns separated by semicolons": (
        "a.csv",
        b"user_id;prompt;chosen;rejected\nann;why;so;no\n",
        "a.csv lacks the columns user_id, prompt, chosen, rejected; it has 'user_id;prompt;chosen;rejected'; "
        "separate its columns by commas, not by ';'",
    ),
    "a column twice": (
        "a.csv",
        b"user_id,prompt,chosen,rejected,prompt\nann,why,so,no,how\n",
        "a.csv must have one column prompt, got 2",
    ),
    "an optional column in capitals": (
        "a.csv",
        as_csv([row(Label=0.5)]),
        "a.csv has a column 'Label'; rename it to label, or to something else",
    ),
    "a list as text in Parquet": (
        "a.parquet",
        as_parquet([row(chosen=["so"])]),
        "chosen in a.parquet must hold text, got list<",
    ),
    "an object as text in Parquet": (
        "a.parquet",
        as_parquet([row(prompt={"text": "why?"})]),
        "prompt in a.parquet must hold text, got struct<text: string>",
    ),
    "a float as user id in Parquet": (
        "a.parquet",
        as_parquet([row(user_id=7.0)]),
        "user_id in a.parquet must hold text or a whole number, got double",
    ),
    "text as label in Parquet": (
        "a.parquet",
        as_parquet([row(label="yes")]),
        "label in a.parquet must hold a number from 0.5 to 1, got string",
    ),
    "a number as text in JSONL": (
        "a.jsonl",
        as_jsonl([GOOD, row(rejected=5), row(rejected=5.5), row(prompt=1)]),
        "rejected in row 2 of a.jsonl (and 1 more row) must be text, got 5",
    ),
    "a list as text in JSONL": (
        "a.jsonl",
        as_jsonl([row(chosen=["so"])]),
        "chosen in row 1 of a.jsonl must be text, got a list",
    ),
    "a float as user id in JSONL": (
        "a.jsonl",
        as_jsonl([row(user_id=7.5)]),
        "user_id in row 1 of a.jsonl must be text or a whole number, got 7.5",
    ),
    "true as user id in JSONL": (
        "a.jsonl",
        as_jsonl([row(user_id=True)]),
        "user_id in row 1 of a.jsonl must be text or a whole number, got True",
    ),
    "a lone surrogate in JSONL": (
        "a.jsonl",
        as_jsonl([GOOD, row(chosen="\ud800")]),
        "chosen in row 2 of a.jsonl must be valid Unicode, got '\\ud800'; it holds half of a surrogate pair",
    ),
    "a null user": (
        "a.jsonl",
        as_jsonl([GOOD, row(user_id=None), lacking("user_id")]),
        "user_id in row 2 of a.jsonl (and 1 more row) must name the user, got nothing",
    ),
    "a user id of spaces": (
        "a.csv",
        as_csv([GOOD, row(user_id=" \t")]),
        "user_id in row 2 (line 3) of a.csv must name the user, got ' \\t'",
    ),
    "a user id too long": (
        "a.csv",
        as_csv([row(user_id="x" * 512), row(user_id="x" * 513)]),
        f"user_id in row 2 (line 3) of a.csv must have at most 512 characters, got '{'x' * 78}…; is this the "
        "right column?",
    ),
    "a prompt missing": (
        "a.csv",
        as_csv([GOOD, row(prompt=""), row(prompt="")]),
        "prompt in row 2 (line 3) of a.csv (and 1 more row) is empty, while other rows have one; fill it in, "
        "or leave it empty in every row if there are no prompts",
    ),
    "a null prompt": (
        "a.parquet",
        as_parquet([GOOD, row(prompt=None)]),
        "prompt in row 2 of a.parquet is empty, while other rows have one; fill it in, or leave it empty in "
        "every row if there are no prompts",
    ),
    "a null chosen": (
        "a.parquet",
        as_parquet([GOOD, row(chosen=None)]),
        "chosen in row 2 of a.parquet must not be empty",
    ),
    "an empty rejected": (
        "a.csv",
        as_csv([row(rejected="")]),
        "rejected in row 1 (line 2) of a.csv must not be empty",
    ),
    "nothing but responses compared with themselves": (
        "a.csv",
        as_csv([row(chosen="no", label=1), row(chosen="no", label=1), row(label=0.5)]),
        "none of 3 rows is left once ties (1) and responses compared with themselves (2) are dropped; add "
        "comparisons",
    ),
    "text as label": (
        "a.csv",
        as_csv([row(label=1), row(label="yes"), row(label="no")]),
        "label in row 2 (line 3) of a.csv (and 1 more row) must be a number from 0.5 to 1, got 'yes'",
    ),
    "digits in quotes as label in JSONL": (
        "a.jsonl",
        as_jsonl([row(label="1")]),
        "label in row 1 of a.jsonl must be a number from 0.5 to 1, got '1'",
    ),
    "true as label": (
        "a.jsonl",
        as_jsonl([row(label=True)]),
        "label in row 1 of a.jsonl must be a number from 0.5 to 1, got True",
    ),
    "a label missing": (
        "a.csv",
        as_csv([row(label=1), row(label="")]),
        "label in row 2 (line 3) of a.csv must be a number from 0.5 to 1, got nothing",
    ),
    "a key missing from one JSONL row": (
        "a.jsonl",
        as_jsonl([row(label=1), GOOD]),
        "label in row 2 of a.jsonl must be a number from 0.5 to 1, got nothing",
    ),
    "NaN as label": (
        "a.csv",
        as_csv([row(label="NaN")]),
        "label in row 1 (line 2) of a.csv must be a number from 0.5 to 1, got nan",
    ),
    "NaN as label in Parquet": (
        "a.parquet",
        as_parquet([row(label=float("nan"))]),
        "label in row 1 of a.parquet must be a number from 0.5 to 1, got nan",
    ),
    "infinity as label": (
        "a.jsonl",
        as_jsonl([row(label=1), row(label=float("inf")), row(label=-(10**400))]),
        "label in row 2 of a.jsonl (and 1 more row) must be a number from 0.5 to 1, got inf",
    ),
    "a label above 1": (
        "a.csv",
        as_csv([row(label=2)]),
        "label in row 1 (line 2) of a.csv must be a number from 0.5 to 1, got 2.0",
    ),
    "a label that prefers the rejected": (
        "a.csv",
        as_csv([row(label=0)]),
        "label in row 1 (line 2) of a.csv must be a number from 0.5 to 1, got 0.0; swap chosen and rejected, "
        "and write 1 minus that",
    ),
    "nothing but ties": (
        "a.csv",
        as_csv([row(label=0.5)] * 2),
        "all 2 rows are ties (label 0.5); set own.prepare.ties to 'keep'",
    ),
    "an unknown split": (
        "a.csv",
        as_csv(splits(*WHOLE, ("ann", "dev"))),
        "split in row 5 (line 6) of a.csv must be one of train, adapt, val, test, got 'dev'",
    ),
    "a split missing": (
        "a.csv",
        as_csv(splits(*WHOLE, ("ann", ""), ("bob", ""))),
        "split in row 5 (line 6) of a.csv (and 1 more row) is empty, while other rows have one; fill it in, "
        "or leave it empty in every row to have the pipeline split",
    ),
    "a user in both halves": (
        "a.csv",
        as_csv(splits(*WHOLE, ("bob", "train"), ("eve", "adapt"), ("eve", "train"))),
        "user 'bob' (and 1 more user) must not have both train rows (row 5 (line 6) of a.csv) and adapt rows "
        "(row 3 (line 4) of a.csv); a user is either seen or unseen",
    ),
    "a user in neither half": (
        "a.jsonl",
        as_jsonl(splits(*WHOLE, ("eve", "val"))),
        "user 'eve' of row 5 of a.jsonl must have train rows or adapt rows, got only val",
    ),
    "nobody to adapt to": (
        "a.csv",
        as_csv(splits(("ann", "train"), ("ann", "test"))),
        "split must have rows of train, adapt and test, got only test, train; "
        "add them, or leave split out to have the pipeline split",
    ),
    "nothing to train on": (
        "a.csv",
        as_csv(splits(("ann", "adapt"), ("ann", "test"))),
        "split must have rows of train, adapt and test, got only adapt, test; "
        "add them, or leave split out to have the pipeline split",
    ),
    "nothing to test on": (
        "a.csv",
        as_csv(splits(("ann", "train"), ("bob", "adapt"))),
        "split must have rows of train, adapt and test, got only adapt, train; "
        "add them, or leave split out to have the pipeline split",
    ),
    "no test of seen users": (
        "a.csv",
        as_csv(splits(("ann", "train"), ("bob", "adapt"), ("bob", "test"))),
        "split must have test rows of seen users (those with train rows), got none",
    ),
    "no test of unseen users": (
        "a.csv",
        as_csv(splits(("ann", "train"), ("ann", "test"), ("bob", "adapt"))),
        "split must have test rows of unseen users (those with adapt rows), got none",
    ),
    "a user trained on ties alone": (
        "a.jsonl",
        as_jsonl(
            [each | {"label": 1} for each in splits(*WHOLE, ("eve", "test"))]
            + [row(user_id="eve", split="train", label=0.5)]
        ),
        "user 'eve' of row 5 of a.jsonl must have train rows or adapt rows, got only test "
        "once ties are dropped",
    ),
}


@pytest.mark.parametrize(("name", "content", "sentence"), BAD_FILES.values(), ids=BAD_FILES)
def test_refuses_in_one_sentence(read, name, content, sentence):
    with pytest.raises(PipelineError, match=f"^{re.escape(sentence)}") as caught:
        read(**{name: content})
    told = str(caught.value)
    assert "\n" not in told
    assert not told.endswith(".")


def test_refuses_a_parquet_file_without_rows(read):
    content = as_parquet([GOOD])
    out = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(content)).slice(0, 0), out)
    with pytest.raises(PipelineError, match=r"^a\.parquet must hold at least one row, got none$"):
        read(**{"a.parquet": out.getvalue()})


def test_refuses_invalid_utf8_in_parquet(read):
    table = pa.table(GOOD | {name: [value] for name, value in GOOD.items()})
    bad = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")]
    )
    out = io.BytesIO()
    pq.write_table(table.set_column(2, "chosen", bad), out)
    with pytest.raises(PipelineError, match=r"^a\.parquet is damaged or not Parquet \(.*UTF8"):
        read(**{"a.parquet": out.getvalue()})


def test_refuses_files_with_different_columns(read):
    with pytest.raises(
        PipelineError,
        match=r"^b\.jsonl lacks the column label, which a\.csv has; all files must have the same columns$",
    ):
        read(**{"a.csv": as_csv([row(label=1)]), "b.jsonl": as_jsonl([GOOD])})


def test_names_the_file_and_its_own_row(read):
    with pytest.raises(PipelineError, match=r"^chosen in row 2 of b\.jsonl must not be empty$"):
        read(**{"a.csv": as_csv([GOOD] * 3), "b.jsonl": as_jsonl([GOOD, row(chosen="")])})


def test_finds_a_user_in_both_halves_across_files(read):
    first, second = as_csv(splits(*WHOLE)), as_jsonl(splits(("ann", "adapt")))
    with pytest.raises(
        PipelineError, match=r"row 1 \(line 2\) of a\.csv\) and adapt rows \(row 1 of b\.jsonl\)"
    ):
        read(**{"a.csv": first, "b.jsonl": second})


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.7, 0.9])
def test_damaged_parquet_is_an_error_if_it_shows(read, share):
    content = bytearray(as_parquet([row(user_id=str(n)) for n in range(100)]))
    start = int(len(content) * share)
    content[start : start + 8] = b"\xff" * 8
    try:
        told = f"{len(read(**{'a.parquet': bytes(content)})[0])} rows"
    except PipelineError as error:
        told = str(error)
    assert told == "100 rows" or told.startswith("a.parquet ")


def write(frame, folder):
    texts = Texts()
    for role in own.ROLES:
        texts.ids(frame, role)
    own.write_tables(frame, {"text": texts}, folder)


def test_prepare_writes_items_and_pairs(read, tmp_path):
    frame, _ = read(**{"a.csv": as_csv([GOOD, row(user_id="b", chosen="no", rejected="so")])})
    write(frame, tmp_path / "out")
    items = pq.read_table(tmp_path / "out/items.parquet")
    pairs = pq.read_table(tmp_path / "out/pairs.parquet")
    assert items.schema.equals(items_schema())
    assert pairs.schema.equals(pairs_schema())
    assert dict(zip(items["item_id"].to_pylist(), items["text"].to_pylist(), strict=True)) == {
        text_id(text): text for text in ("why?", "so", "no")
    }
    why, so, no = map(text_id, ("why?", "so", "no"))
    assert [tuple(each.values()) for each in pairs.to_pylist()] == [
        (0, "007", why, so, no, 1.0, *[None] * 7),
        (1, "b", why, no, so, 1.0, *[None] * 7),
    ]


def test_prepare_calls_a_user_unseen_who_has_adapt_rows(read, tmp_path):
    frame, _ = read(**{"a.csv": as_csv(splits(*WHOLE, ("ann", "val"), ("bob", "val")))})
    write(frame, tmp_path)
    pairs = pl.read_parquet(tmp_path / "pairs.parquet")
    assert pairs["users"].to_list() == ["seen", "seen", "unseen", "unseen", "seen", "unseen"]
    assert pairs["split"].to_list() == frame["split"].to_list()


def test_prepare_leaves_prompts_null_where_there_are_none(read, tmp_path):
    frame, _ = read(**{"a.csv": as_csv([row(prompt="")])})
    write(frame, tmp_path)
    assert pl.read_parquet(tmp_path / "pairs.parquet")["prompt"].to_list() == [None]
    assert sorted(pl.read_parquet(tmp_path / "items.parquet")["text"]) == ["no", "so"]


def test_importing_the_dataset_imports_no_polars():
    code = "import sys, pipeline.datasets.own; print({'polars', 'pyarrow', 'torch'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
