"""Two responses and a winner, times, and odd tables: each with its result."""

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

from pal.errors import PalError as PipelineError
from pipeline.datasets import own
from pipeline.datasets.own import Prepare
from pipeline.datasets.own import tables as own_times
from pipeline.datasets.own.items import TextItems as Texts

DUEL = {"user_id": "ann", "prompt": "why?", "response_a": "so", "response_b": "no", "winner": "a"}
GOOD = {"user_id": "ann", "prompt": "why?", "chosen": "so", "rejected": "no"}


def as_csv(*rows, separator=","):
    lines = [rows[0].keys(), *(row.values() for row in rows)]
    return "".join(separator.join(map(str, line)) + "\n" for line in lines).encode()


def as_jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(table, **options):
    out = io.BytesIO()
    pq.write_table(pa.table(table), out, **options)
    return out.getvalue()


def columns(*rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.fixture
def read(tmp_path):
    """Read files given by name and bytes; the rows that are kept, and the counts."""

    def read(ties="drop", prompts="text", responses="text", **contents):
        paths = {}
        for name, content in contents.items():
            paths[name] = tmp_path / f"{len(paths)}"
            paths[name].write_bytes(content)
        knobs = Prepare(ties=ties, prompts=prompts, responses=responses)
        return own.keep(own.read(paths, knobs), {"text": Texts()}, knobs)

    return read


@pytest.mark.parametrize(
    ("winner", "chosen", "label"),
    [("a", "so", 1.0), (" B ", "no", 1.0), ("response_a", "so", 1.0), ("Response_B", "no", 1.0)],
)
def test_the_winner_is_chosen_and_the_other_rejected(read, winner, chosen, label):
    frame, counts = read(**{"a.csv": as_csv(DUEL | {"winner": winner})})
    assert frame.select("chosen", "rejected", "label").row(0) == (
        chosen,
        {"so": "no", "no": "so"}[chosen],
        label,
    )
    assert counts["read"] == counts["kept"] == 1


@pytest.mark.parametrize(("ties", "kept"), [("drop", 1), ("keep", 2)])
def test_a_tie_is_dropped_or_kept_as_a_soft_label(read, ties, kept):
    frame, counts = read(ties, **{"a.jsonl": as_jsonl(DUEL, DUEL | {"winner": "tie"})})
    assert frame["label"].to_list() == [1.0, 0.5][:kept]
    assert (counts["ties"], counts["ties_dropped"], counts["kept"]) == (1, 2 - kept, kept)


def test_both_shapes_say_the_same(read):
    """Ann takes so, bob no: as chosen and rejected, and as two responses and a winner."""
    first, _ = read(**{"a.csv": as_csv(GOOD, GOOD | {"user_id": "bob", "chosen": "no", "rejected": "so"})})
    second, _ = read(**{"a.csv": as_csv(DUEL, DUEL | {"user_id": "bob", "winner": "b"})})
    assert first.drop("winner").equals(second.drop("winner"))


MOMENT = datetime(2026, 3, 1, 12, 30)
TIMES = {
    "2026-03-01T12:30:00Z": MOMENT,
    "2026-03-01 12:30": MOMENT,
    "2026-03-01T13:30:00.5+01:00": MOMENT + timedelta(seconds=0.5),
    "2026-03-01": datetime(2026, 3, 1),
    "1772368200": MOMENT,
    "1772368200.25": MOMENT + timedelta(seconds=0.25),
    " 2026-03-01T12:30 ": MOMENT,
}


@pytest.mark.parametrize("cell", TIMES)
def test_times_are_read_as_utc(read, cell):
    """2026-03-01 12:30 is 20,513 days and 45,000 seconds after 1970 began: 1,772,368,200 seconds."""
    for content in (
        {"a.csv": as_csv(GOOD | {"timestamp": cell})},
        {"a.jsonl": as_jsonl(GOOD | {"timestamp": cell})},
        {"a.parquet": as_parquet(columns(GOOD | {"timestamp": cell}))},
    ):
        frame, _ = read(**content)
        assert frame["timestamp"].to_list() == [TIMES[cell]]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (MOMENT, pa.timestamp("ns")),
        (MOMENT, pa.timestamp("ms")),
        (MOMENT.replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=5))), pa.timestamp("us", "+05:00")),
        (1_772_368_200, pa.int64()),
        (1_772_368_200.0, pa.float64()),
    ],
)
def test_parquet_has_times_of_its_own(read, value, kind):
    table = columns(GOOD | {"timestamp": value}) | {"timestamp": pa.array([value], kind)}
    frame, _ = read(**{"a.parquet": as_parquet(table)})
    assert frame["timestamp"].to_list() == [MOMENT]


def test_dates_in_parquet_are_their_midnight(read):
    frame, _ = read(**{"a.parquet": as_parquet(columns(GOOD | {"timestamp": date(2026, 3, 1)}))})
    assert frame["timestamp"].to_list() == [datetime(2026, 3, 1)]


@pytest.mark.parametrize("content", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_time_may_be_unknown(read, content):
    rows = [GOOD | {"timestamp": "2026-03-01"}, GOOD | {"timestamp": None if content[-1] == "t" else ""}]
    written = {"a.csv": as_csv, "a.jsonl": as_jsonl, "a.parquet": lambda *r: as_parquet(columns(*r))}
    frame, _ = read(**{content: written[content](*rows)})
    assert frame["timestamp"].to_list() == [datetime(2026, 3, 1), None]


def test_a_time_reaches_the_pairs(read, tmp_path):
    frame, _ = read(**{"a.csv": as_csv(GOOD | {"timestamp": "2026-03-01T12:30Z"})})
    texts = Texts()
    for role in own.ROLES:
        texts.ids(frame, role)
    own.write_tables(frame, {"text": texts}, tmp_path)
    assert pl.read_parquet(tmp_path / "pairs.parquet")["time"].to_list() == [MOMENT]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.one_of(st.text(max_size=30), st.floats(), st.integers()))
def test_any_cell_is_a_time_or_a_sentence(cell):
    try:
        found = own_times.parse_time(cell)
    except ValueError as error:
        assert str(error).startswith(f"must be {own_times.TIMES}, got ")  # noqa: PT017 - either will do
    else:
        assert found is None or found.tzinfo is None


ALLOWED = own_times.TIMES
EVEN = [GOOD | {"user_id": user, "split": split} for user in "xy" for split in ("train", "test", "adapt")]

# What is odd, the file, and the whole sentence, or how many rows are kept.
ODD_TABLES = {
    "columns of both shapes": (
        "a.csv",
        as_csv(GOOD | DUEL),
        "a.csv must say in one way who won, by chosen, rejected or by response_a, response_b, winner, got chosen, "
        "rejected, response_a, response_b, winner; remove or rename what belongs to the other",
    ),
    "half of each shape": (
        "a.jsonl",
        as_jsonl({"user_id": 1, "prompt": "p", "response_a": "x", "chosen": "x"}),
        "a.jsonl must say in one way who won, by chosen, rejected or by response_a, response_b, winner, got "
        "chosen, response_a; remove or rename what belongs to the other",
    ),
    "a winner beside chosen and rejected": (
        "a.csv",
        as_csv(GOOD | {"winner": "a"}),
        "a.csv must say in one way who won, by chosen, rejected or by response_a, response_b, winner, got chosen, "
        "rejected, winner; remove or rename what belongs to the other",
    ),
    "two responses without a winner": (
        "a.csv",
        as_csv({name: value for name, value in DUEL.items() if name != "winner"}),
        "a.csv lacks the column winner; it has 'user_id', 'prompt', 'response_a', 'response_b'; add it; the first line of a CSV",
    ),
    "two responses under other names": (
        "a.csv",
        b"annotator,question,answer_a,answer_b,preference\n1,2,3,4,a\n",
        "a.csv lacks the columns user_id, prompt, response_a, response_b, winner; it has 'annotator', 'question', "
        "'answer_a', 'answer_b', 'preference'; rename 'annotator' to user_id, 'question' to prompt, 'answer_a' to "
        "response_a, 'answer_b' to response_b, 'preference' to winner",
    ),
    "a label beside a winner": (
        "a.csv",
        as_csv(DUEL | {"label": 1}),
        "a.csv must not have a column label beside response_a, response_b, winner, since label says how surely "
        "`chosen` won; remove or rename it",
    ),
    "a third winner": (
        "a.csv",
        as_csv(DUEL, DUEL | {"winner": "c"}, DUEL | {"winner": "C"}),
        "winner in row 2 (line 3) of a.csv (and 1 more row) must be a, b or tie, got 'c'",
    ),
    "a winner by number": (
        "a.csv",
        as_csv(DUEL | {"winner": 1}),
        "winner in row 1 (line 2) of a.csv must be a, b or tie, got '1'; write a for response_a, b for response_b",
    ),
    "a winner by number in JSONL": (
        "a.jsonl",
        as_jsonl(DUEL | {"winner": 1}),
        "winner in row 1 of a.jsonl must be text, got 1",
    ),
    "no winner": (
        "a.jsonl",
        as_jsonl(DUEL, DUEL | {"winner": None}),
        "winner in row 2 of a.jsonl must be a, b or tie, got nothing",
    ),
    "an empty response": (
        "a.csv",
        as_csv(DUEL | {"response_b": ""}),
        "response_b in row 1 (line 2) of a.csv must not be empty",
    ),
    "a winner column twice": (
        "a.csv",
        b"user_id,prompt,response_a,response_b,winner,winner\nu,p,x,y,a,b\n",
        "a.csv must have one column winner, got 2",
    ),
    "two responses separated by semicolons, after a byte order mark": (
        "a.csv",
        b"\xef\xbb\xbf" + as_csv(DUEL, separator=";"),
        "a.csv lacks the columns user_id, prompt, chosen, rejected; it has "
        "'user_id;prompt;response_a;response_b;winner'; separate its columns by commas, not by ';'",
    ),
    "a byte order mark": ("a.csv", b"\xef\xbb\xbf" + as_csv(DUEL), 1),
    "a user in both halves": (
        "a.csv",
        as_csv(*EVEN),
        "user 'x' (and 1 more user) must not have both train rows (row 1 (line 2) of a.csv) and adapt rows (row 3 "
        "(line 4) of a.csv); a user is either seen or unseen",
    ),
    "words for a time": (
        "a.csv",
        as_csv(GOOD | {"timestamp": "2026-03-01"}, GOOD | {"timestamp": "yesterday"}),
        f"timestamp in row 2 (line 3) of a.csv must be {ALLOWED}, got 'yesterday'",
    ),
    "a day that is none": (
        "a.parquet",
        as_parquet(columns(GOOD | {"timestamp": "2026-02-30"})),
        f"timestamp in row 1 of a.parquet must be {ALLOWED}, got '2026-02-30'",
    ),
    "milliseconds for seconds": (
        "a.jsonl",
        as_jsonl(GOOD | {"timestamp": 1772368200000}),
        f"timestamp in row 1 of a.jsonl must be {ALLOWED}, got 1772368200000; divide milliseconds by 1,000",
    ),
    "nanoseconds for seconds": (
        "a.parquet",
        as_parquet(columns(GOOD | {"timestamp": 1772368200123456789})),
        f"timestamp in row 1 of a.parquet must be {ALLOWED}, got 1.7723682001234568e+18; divide milliseconds by",
    ),
    "a date written as digits": (
        "a.csv",
        as_csv(GOOD | {"timestamp": 20260301}),
        f"timestamp in row 1 (line 2) of a.csv must be {ALLOWED}, got '20260301'; write dates as 2026-03-01",
    ),
    "NaN for a time": (
        "a.jsonl",
        as_jsonl(GOOD | {"timestamp": float("nan")}),
        f"timestamp in row 1 of a.jsonl must be {ALLOWED}, got nan; divide",
    ),
    "true for a time": (
        "a.jsonl",
        as_jsonl(GOOD | {"timestamp": True}),
        f"timestamp in row 1 of a.jsonl must be {ALLOWED}, got True",
    ),
    "a time before there were any": (
        "a.csv",
        as_csv(GOOD | {"timestamp": "0001-01-01T00:00+14:00"}),
        f"timestamp in row 1 (line 2) of a.csv must be {ALLOWED}, got '0001-01-01T00:00+14:00'",
    ),
    "times of day in Parquet": (
        "a.parquet",
        as_parquet(columns(GOOD) | {"timestamp": pa.array([1], pa.time64("us"))}),
        f"timestamp in a.parquet must hold {ALLOWED}, got time64[us]",
    ),
    "a time in capitals": (
        "a.csv",
        as_csv(GOOD | {"Timestamp": "2026-03-01"}),
        "a.csv has a column 'Timestamp'; rename it to timestamp, or to something else",
    ),
    "Parquet in chunks of one row": ("a.parquet", as_parquet(columns(*[DUEL] * 5), row_group_size=1), 5),
    "chunked columns": (
        "a.parquet",
        as_parquet({n: pa.chunked_array([[v], [], [v, v]]) for n, v in DUEL.items()}),
        3,
    ),
    "dictionary columns": (
        "a.parquet",
        as_parquet({n: pa.array([v] * 3).dictionary_encode() for n, v in DUEL.items()}),
        3,
    ),
    "large strings": (
        "a.parquet",
        as_parquet({n: pa.array([v] * 3, pa.large_string()) for n, v in DUEL.items()}),
        3,
    ),
    "zero rows": (
        "a.parquet",
        as_parquet({n: pa.array([], pa.string()) for n in DUEL}),
        "a.parquet must hold at least one row, got none",
    ),
    "columns of nothing": (
        "a.parquet",
        as_parquet({n: pa.nulls(2) for n in DUEL}),
        "user_id in row 1 of a.parquet (and 1 more row) must name the user, got nothing",
    ),
    "bytes for text": (
        "a.parquet",
        as_parquet(columns(DUEL) | {"response_a": pa.array([b"so"])}),
        "response_a in a.parquet must hold text, got binary",
    ),
    "the same row many times": ("a.csv", as_csv(*[DUEL] * 40), 40),
    "a response against itself": ("a.csv", as_csv(DUEL, DUEL | {"response_b": "so"}), 1),
}


@pytest.mark.parametrize(("name", "content", "result"), ODD_TABLES.values(), ids=ODD_TABLES)
def test_an_odd_table_is_read_or_refused_in_one_sentence(read, name, content, result):
    if isinstance(result, int):
        frame, counts = read(**{name: content})
        assert len(frame) == counts["kept"] == result
        assert counts["read"] == counts["kept"] + counts["dropped"]
        assert counts["dropped"] == counts["ties_dropped"] + counts["identical_dropped"]
        return
    with pytest.raises(PipelineError, match=f"^{re.escape(result)}") as caught:
        read(**{name: content})
    assert "\n" not in str(caught.value)


def test_files_of_two_shapes_are_refused(read):
    with pytest.raises(
        PipelineError,
        match=r"^b\.csv lacks the column chosen, which a\.csv has; all files must have the same",
    ):
        read(**{"a.csv": as_csv(GOOD), "b.csv": as_csv(DUEL)})


def test_a_split_by_time_needs_times_before_anything_runs(project):
    rows = [GOOD | {"user_id": n, "timestamp": "2026-03-01" if n else ""} for n in range(3)]
    (project.root / "a.csv").write_bytes(as_csv(*rows))
    found = check(project)
    with pytest.raises(
        PipelineError,
        match=r"^timestamp in row 1 \(line 2\) of a\.csv is empty, which own\.split\.by: time does not allow; fill",
    ):
        found()
    (project.root / "a.csv").write_bytes(as_csv(GOOD))
    with pytest.raises(
        PipelineError, match=r"^own\.split\.by is time, which needs a column timestamp; add one"
    ):
        check(project)()


def check(project):
    from pipeline import params

    project.set({"own.source": "a.csv", "own.split.by": "time"})
    return own.find(params.load()).check


ANSWERS = st.lists(
    st.tuples(
        st.sampled_from("uv"),
        st.sampled_from("xyz"),
        st.sampled_from("xyz"),
        st.sampled_from(["a", "B", "tie"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(answers=ANSWERS, ties=st.sampled_from(["drop", "keep"]))
def test_whatever_is_read_is_kept_or_dropped_for_a_reason(tmp_path_factory, answers, ties):
    """Counted by hand from the answers: a tie is dropped or kept, a response against itself never kept."""
    rows = [dict(zip(DUEL, (user, "p", *rest), strict=True)) for user, *rest in answers]
    path = tmp_path_factory.mktemp("any") / "0"
    path.write_bytes(as_csv(*rows))
    knobs = Prepare(ties=ties, prompts="text", responses="text")
    tied = sum(winner == "tie" for *_, winner in answers) if ties == "drop" else 0
    same = sum(a == b and not (winner == "tie" and tied) for _, a, b, winner in answers)
    left = len(rows) - tied - same
    if not left:
        with pytest.raises(PipelineError, match=r"^(all|none of) \d+ rows (are ties|is left)"):
            own.keep(own.read({"a.csv": path}, knobs), {"text": Texts()}, knobs)
        return
    frame, counts = own.keep(own.read({"a.csv": path}, knobs), {"text": Texts()}, knobs)
    assert (counts["read"], counts["kept"], counts["dropped"]) == (len(rows), left, tied + same)
    assert (counts["ties_dropped"], counts["identical_dropped"]) == (tied, same)
    assert (frame["chosen"] != frame["rejected"]).all()
    winners = [
        b if winner == "B" else a for _, a, b, winner in answers if a != b and not (winner == "tie" and tied)
    ]
    assert frame["chosen"].to_list() == winners
