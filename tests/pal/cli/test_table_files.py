"""Tables in three formats: the same rows, places, faults, and files written whole or not at all."""

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pal.errors import PalError
from pal.table_files import TableReader, open_writer, table_format

ROWS = [{"response": 'a, "b"\nc', "n": "1"}, {"response": "ü", "n": "2"}]
POINTS = [{"response": [1.0], "id": 7}, {"response": [0.0], "id": 8}]


def parquet_bytes(rows: list[dict], schema: pa.Schema | None = None) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), out)
    return out.getvalue()


CSV = '\ufeffn,response\r\n1,"a, ""b""\nc"\r\n\r\n2,ü'
CONTENTS = {
    "csv": CSV.encode(),
    "jsonl": "\n\n".join(json.dumps(row) for row in ROWS).encode(),
    "parquet": parquet_bytes(ROWS),
}


def reader(content: bytes, kind: str, needed=(), **options) -> TableReader:
    table = TableReader(io.BytesIO(content), f"x.{kind}", kind, **options)
    table.require(needed)
    return table


CONTENTS_AND_MAC = [*CONTENTS.items(), ("csv", CSV.replace("\r\n", "\r").encode())]


@pytest.mark.parametrize(
    ("kind", "content"), CONTENTS_AND_MAC, ids=["csv", "jsonl", "parquet", "csv of a Mac"]
)
def test_every_format_gives_the_same_rows_and_says_how_much_is_read(kind, content):
    table = reader(content, kind, ["response"])
    assert table.first().cells == ROWS[0]
    assert [row.cells for row in table] == ROWS
    assert table.done == (2 if kind == "parquet" else len(content))
    assert table.total == (2 if kind == "parquet" else None)


def test_rows_know_their_places():
    places = {kind: [row.place for row in reader(content, kind)] for kind, content in CONTENTS.items()}
    assert places == {
        "csv": ["row 1 (line 2) of x.csv", "row 2 (line 5) of x.csv"],
        "jsonl": ["row 1 of x.jsonl", "row 2 (line 3) of x.jsonl"],
        "parquet": ["row 1 of x.parquet", "row 2 of x.parquet"],
    }


FAULTS = [
    ("jsonl", b"", r"x.jsonl must hold at least one row, got none"),
    ("csv", b"response\n", r"x.csv must hold at least one row, got a header only"),
    ("jsonl", b'{"response": "a"}\n{"response": "b"', r"row 2 of x.jsonl is not valid JSON \(Expecting .* at character 17\); the file seems cut off"),
    ("jsonl", b"[" * 100_000, r"row 1 of x.jsonl is not valid JSON"),
    ("jsonl", b'{"response": "a"}\n[1]\n', r"row 2 of x.jsonl must be a JSON object, got a list"),
    ("jsonl", b'\n{"answer": "a"}\n', r"row 1 \(line 2\) of x.jsonl lacks the column response; it has 'answer'; rename 'answer' to response"),
    ("csv", b"response\na\n\"b\n", r"row 2 \(line 3\) of x.csv has a quote that is not closed"),
    ("csv", b"response\na,b\n", r"row 1 \(line 2\) of x.csv must have 1 values, one per column, got 2; put quotes"),
    ("csv", b"response;n\na;1\n", r"separate its columns by commas, not by ';'"),
    ("csv", b"a,b\n1,2\n", r"x.csv lacks the column response; it has 'a', 'b'; add it; the first line of a CSV file names"),
    ("csv", b"response,n,n\na,b,c\n", r"x.csv must have one column n, got 2; rename one"),
    ("csv", "response\nü".encode("latin-1"), r"line 2 of x.csv must be UTF-8, got the byte 0xfc; save the file as UTF-8"),
    ("csv", gzip.compress(b"response\n" * 9, mtime=0), r"x.csv must be CSV, got gzip; unpack it first \(gunzip\)"),
    ("jsonl", pa.compress(b"[]" * 99, codec="zstd", asbytes=True), r"x.jsonl must be JSONL, got zstd; unpack it"),
    ("csv", "response\nü".encode("utf-16"), r"x.csv must be CSV, got UTF-16; save it as UTF-8"),
    ("parquet", b"PAR1" * 20, r"x.parquet is damaged or not Parquet"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "content", "sentence"), FAULTS)
def test_a_table_that_cannot_be_read_is_one_sentence(kind, content, sentence):
    with pytest.raises(PalError, match=sentence) as caught:
        table = reader(content, kind, ["response"])
        table.first()
        list(table)
    assert caught.value.file == f"x.{kind}"


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b'{"response": "aaaaaaaaaaaaa"}\n', "jsonl"), (b'a\n"aaaaaaaaaa\naaaaaaaaaaaa\n"', "csv")],
)
def test_lines_and_cells_have_a_limit(monkeypatch, content, kind):
    monkeypatch.setattr("pal.table_files.MAX_BYTES", 20)
    with pytest.raises(PalError, match=r"line 1 .* at most 20 bytes|field larger than field limit"):
        list(reader(content, kind))


def test_the_format_is_that_of_the_suffix_or_stated():
    assert [table_format("A.JSONL", None), table_format("a.txt", "csv")] == ["jsonl", "csv"]
    with pytest.raises(PalError, match=r"a.txt must end in .jsonl, .csv or .parquet, or --format must say"):
        table_format("a.txt", None)


def test_columns_keep_their_types_through_parquet(pal, on_a_line, rows):
    schema = pa.schema({"response": pa.list_(pa.float32()), "id": pa.int16()})
    Path("points.parquet").write_bytes(parquet_bytes(POINTS, schema))
    pal("score", on_a_line, "points.parquet", "--out", "scored.parquet")
    scored = pq.read_table("scored.parquet")
    assert scored.drop(["reward"]) == pa.Table.from_pylist(POINTS, schema=schema)
    assert scored.schema.field("reward").type == pa.float64()
    # Standard output is JSONL unless said otherwise.
    assert rows(pal("score", on_a_line, "points.parquet"))[1]["id"] == 8
    assert rows(pal("score", on_a_line, "points.parquet", "--format", "csv"))[1]["response"] == "[0.0]"


def test_no_cell_of_a_safe_csv_starts_a_formula(pal, words):
    lines = ["prompt,response,=note", 'q,"=cmd|x",+1', "q,fine,-2"]
    plain, safe = (
        pal("score", words, "-", "--format", "csv", *more, stdin="\n".join(lines))
        for more in ((), ["--safe-csv"])
    )
    assert [line.rsplit(",", 1)[0] for line in plain.splitlines()] == [
        line.replace('"', "") for line in lines
    ]
    assert [line.rsplit(",", 1)[0] for line in safe.splitlines()] == [
        "prompt,response,'=note",
        "q,'=cmd|x,'+1",
        "q,fine,'-2",
    ]


@pytest.mark.parametrize(
    ("second", "name", "sentence"),
    [
        ({"b": 1}, "x.csv", "rows must all have the same columns, got 'a' in some; write JSONL"),
        ({"a": "no number"}, "x.parquet", "rows cannot be written as Parquet"),
        ({"a": {1}}, "x.jsonl", "a row cannot be written as JSON"),
        ({"a": b"1"}, "x.jsonl", "a row cannot be written as JSON"),
        ({"a": "\ud800"}, "x.csv", "half of a surrogate pair"),
    ],
)
def test_rows_that_do_not_fit_the_format_leave_the_file_as_it_was(tmp_path, second, name, sentence):
    path = tmp_path / name
    path.write_text("old")
    with pytest.raises(PalError, match=sentence), open_writer(str(path), None) as write:
        write([{"a": 1}])
        write([second])
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [(name, "old")]
