"""Tables in and out: formats, faults and their places."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pal.cli.tables import Table
from pal.errors import PalError

ROWS = [{"response": 'a, "b"\nc', "n": "1"}, {"response": "ü", "n": "2"}]


def written(name: str, rows: list[dict]) -> str:
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), name)
    elif name.endswith("csv"):
        lines = [
            "n,response",
            *(f'{row["n"]},"{row["response"].replace(chr(34), chr(34) * 2)}"' for row in rows),
        ]
        Path(name).write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    else:
        Path(name).write_text("\n\n".join(map(json.dumps, rows)), encoding="utf-8")
    return name


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet", "ROWS.JSONL"])
def test_every_format_gives_the_same_rows(here, name):
    with Table(written(name, ROWS), None, ["response"]) as table:
        assert [[row.cells for row in batch] for batch in table.batches(1)] == [[row] for row in ROWS]


def test_places_are_lines_where_there_are_lines(here):
    places = {}
    for name in ("rows.csv", "rows.jsonl", "rows.parquet"):
        with Table(written(name, ROWS), None, []) as table:
            places[name] = [row.place for batch in table.batches(9) for row in batch]
    assert places == {
        "rows.csv": ["row 1 (line 2) of rows.csv", "row 2 (line 4) of rows.csv"],
        "rows.jsonl": ["line 1 of rows.jsonl", "line 3 of rows.jsonl"],
        "rows.parquet": ["row 1 of rows.parquet", "row 2 of rows.parquet"],
    }


def test_progress_counts_bytes_or_rows(here):
    for name, total in (
        ("rows.jsonl", Path(written("rows.jsonl", ROWS)).stat().st_size),
        ("rows.parquet", 2),
    ):
        with Table(written(name, ROWS), None, []) as table:
            assert table.total == total
            list(table.batches(1))
            assert table.done == total


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.jsonl", b"", r"x.jsonl must hold at least one row, got none"),
        ("x.csv", b"", r"x.csv must hold at least one row"),
        ("x.csv", b"response\n", r"x.csv must hold at least one row"),
        ("x.jsonl", b"\n \n", r"x.jsonl must hold at least one row"),
        ("x.jsonl", b'{"response": "a"}\n{"response": "b"', r"line 2 of x.jsonl is not valid JSON \(Expecting .* at character 17\)"),
        ("x.jsonl", b'{"response": "a"}\n[1]\n', r"line 2 of x.jsonl must be a JSON object, got list"),
        ("x.jsonl", b'{"answer": "a"}\n', r"line 1 of x.jsonl lacks the column response; it has 'answer'; rename 'answer' to response"),
        ("x.jsonl", b"[" * 100_000, r"line 1 of x.jsonl is not valid JSON"),
        ("x.csv", b"response\na\n\"b\n", r"line 3 of x.csv has a quote that is not closed"),
        ("x.csv", b"response\na,b\n", r"row 1 \(line 2\) of x.csv must have 1 values, one per column, got 2"),
        ("x.csv", b"response;n\na;1\n", r"separate its columns by commas, not by ';'"),
        ("x.csv", b"response,response\na,b\n", r"x.csv must have one column response, got 2"),
        ("x.csv", b"response,n,n\na,b,c\n", r"x.csv must have one column n, got 2; rename one"),
        ("x.csv", "response\nü".encode("latin-1"), r"line 2 of x.csv must be UTF-8, got the byte 0xfc; save it as UTF-8"),
        ("x.csv", "response\na".encode("utf-16"), r"line 1 of x.csv must be UTF-8"),
        ("x.parquet", b"", r"x.parquet is damaged or not Parquet"),
        ("x.parquet", b"PAR1" * 20, r"x.parquet is damaged or not Parquet"),
        ("x.txt", b"a", r"x.txt must end in .jsonl, .csv or .parquet, or --format must say what it is"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_sentence(here, name, content, sentence):
    Path(name).write_bytes(content)
    with pytest.raises(PalError, match=sentence), Table(name, None, ["response"]) as table:
        list(table.batches(10))


def test_what_is_not_there_is_one_sentence(here):
    with pytest.raises(PalError, match=r"no.csv cannot be read \(No such file.*; name a file, or - for"):
        Table("no.csv", None, [])
    with pytest.raises(PalError, match=r"cannot be read .Is a directory"):
        Table(".", "csv", [])


def test_lines_have_a_limit(here, monkeypatch):
    monkeypatch.setattr("pal.cli.tables.LONGEST", 20)
    Path("x.jsonl").write_text('{"response": "aaaaaaaaaaaaa"}\n')
    with pytest.raises(PalError, match=r"line 1 of x.jsonl must have at most 20 bytes"):
        Table("x.jsonl", None, [])
    Path("x.csv").write_text('response\n"aaaaaaaaaa\naaaaaaaaaaaa\n"')
    with pytest.raises(PalError, match=r"field larger than field limit"):
        Table("x.csv", None, [])


POINTS = [{"response": [1.0], "id": 7}, {"response": [0.0], "id": 8}]


def test_columns_keep_their_types_through_parquet(pal, on_a_line):
    given = pa.Table.from_pylist(
        POINTS, schema=pa.schema({"response": pa.list_(pa.float32()), "id": pa.int16()})
    )
    pq.write_table(given, "points.parquet")
    pal("score", on_a_line, "points.parquet", "--out", "scored.parquet")
    scored = pq.read_table("scored.parquet")
    assert scored.drop(["reward"]) == given
    assert scored.schema.field("reward").type == pa.float64()


def test_parquet_passes_through_pipes(pal, on_a_line):
    from typer.testing import CliRunner

    from pal.cli.app import app

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(POINTS), buffer)
    options = ["score", str(on_a_line), "-", "--format", "parquet"]
    done = CliRunner().invoke(app, options, input=buffer.getvalue())
    assert pq.read_table(io.BytesIO(done.stdout_bytes))["id"].to_pylist() == [7, 8]


def test_standard_output_is_jsonl_unless_said_otherwise(pal, on_a_line, rows):
    pq.write_table(pa.Table.from_pylist(POINTS), "points.parquet")
    assert rows(pal("score", on_a_line, "points.parquet"))[1]["id"] == 8
    assert rows(pal("score", on_a_line, "points.parquet", "--format", "csv"))[1]["response"] == "[0.0]"


@pytest.mark.parametrize(
    ("second", "out", "sentence"),
    [
        ({"response": [1.0], "b": 1}, "x.csv", "rows must all have the same columns for CSV, got 'a' in some; write JSONL"),
        ({"response": [1.0], "b": 1}, "x.parquet", "rows must all have the same columns, got 'b' in some"),
        ({"response": [1.0], "a": "no number"}, "x.parquet", "rows cannot be written as Parquet"),
        ({"response": [1.0], "a": "\ud800"}, "x.jsonl", "a row cannot be written as JSON"),
        ({"response": [1.0], "a": "\ud800"}, "x.csv", "half of a surrogate pair"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_the_format_leave_no_file(pal, on_a_line, monkeypatch, second, out, sentence):
    monkeypatch.setattr("pal.cli.serving.ROWS", 1)
    given = "".join(json.dumps(row) + "\n" for row in ({"response": [0.0], "a": 1}, second))
    Path(out).write_text("old")
    assert sentence in pal("score", on_a_line, "-", "--out", out, stdin=given, code=1)
    assert [(path.name, path.read_text()) for path in Path().iterdir()] == [(out, "old")]


def test_a_column_empty_at_first_is_taken_for_texts(pal, on_a_line, monkeypatch):
    monkeypatch.setattr("pal.cli.serving.ROWS", 1)
    given = '{"response": [0], "note": null}\n{"response": [1], "note": "yes"}\n'
    pal("score", on_a_line, "-", "--out", "x.parquet", stdin=given)
    assert pq.read_table("x.parquet")["note"].to_pylist() == [None, "yes"]
