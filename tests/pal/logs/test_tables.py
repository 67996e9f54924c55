"""Tables of any form: the same rows, their places, and faults told in one sentence."""

import csv
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pal.errors import PalError
from pal.logs.tables import read_rows

ROWS = [{"response": 'a, "b"\nc', "n": "1"}, {"response": "ü", "n": "2"}]
CSV = '\ufeffn,response\r\n1,"a, ""b""\nc"\r\n\r\n2,ü'
PACKED = pa.compress(json.dumps(ROWS).encode(), codec="zstd", asbytes=True)


def parquet_bytes(rows: list[dict]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


FORMS = {  # bytes, and the lines that the rows start on
    "csv": (CSV.encode(), (2, 5)),
    "csv of a Mac": (CSV.replace("\r\n", "\r").encode(), (2, 5)),
    "csv with semicolons": (CSV.replace("n,r", "n;r").replace("1,", "1;").replace("2,", "2;").encode(), (2, 5)),
    "csv in Windows-1252": (CSV[1:].encode("cp1252"), (2, 5)),
    "jsonl": ("\n\n".join(map(json.dumps, ROWS)).encode(), (1, 3)),
    "json": (json.dumps(ROWS, indent=1).encode("utf-16"), (None, None)),
    "parquet": (parquet_bytes(ROWS), (None, None)),
    "zstd": (PACKED, (None, None)),
}  # fmt: skip


@pytest.mark.parametrize(("content", "lines"), FORMS.values(), ids=FORMS)
def test_every_form_gives_the_same_rows_which_know_their_places(tmp_path, content, lines):
    path = tmp_path / "x"
    path.write_bytes(content)
    table = read_rows(str(path))
    assert [row.cells for row in table.rows] == ROWS
    assert [(row.number, row.line) for row in table.rows] == [*enumerate(lines, 1)]
    assert len(table.said) == (content[:1] not in (b"\xef", b"{", b"P") or b";" in content)


FAULTS = [
    ("jsonl", b"", r"x.jsonl is empty \(0 bytes\)"),
    ("jsonl", b"[]", r"x.jsonl must hold at least one row, got none"),
    ("csv", b"response\n", r"x.csv must hold at least one row, got a header only"),
    ("jsonl", b'{"response": "a"}\n{"response": "b"', r"row 2 of x.jsonl is not valid JSON \(Expecting .* at character 17\); the file seems cut off"),
    ("jsonl", b"[" * 100_000, r"x.jsonl is not valid JSON"),
    ("jsonl", b'{"response": "a"}\n[1]\n', r"row 2 of x.jsonl must be a JSON object, got a list"),
    ("jsonl", b'\n{"answer": "a"}\n', r"row 1 \(line 2\) of x.jsonl lacks the column response; it has 'answer'; rename 'answer' to response"),
    ("jsonl", b'{"response": "a"}\n{}', r"row 2 of x.jsonl lacks the column response; it has none; add what is missing"),
    ("csv", b"response\na\n\"b\n", r"row 2 \(line 3\) of x.csv has a quote that is not closed"),
    ("csv", b"response\na\n\"b\" c\nd\n", r"row 2 \(line 3\) of x.csv has a quote that is not closed or not doubled"),
    ("csv", b"response\na,b\n", r"row 1 \(line 2\) of x.csv must have 1 values, one per column, got 2; put quotes"),
    ("csv", b"a,b\n1,2\n", r"x.csv lacks the column response; it has 'a', 'b'; add what is missing"),
    ("csv", b"response,n,n\na,b,c\n", r"x.csv must have one column n, got 2; rename one"),
    ("csv", "response\nü\n".encode() + b"\xfc", r"line 3 of x.csv must be UTF-8, as those before it, got the byte 0xfc; save the file as UTF-8"),
    ("csv", gzip.compress(b"response\n" * 9, mtime=0)[:-9], r"x.csv ends early or is damaged"),
    ("csv", b"\x80\x05\x95\xff\x81", r"x.csv must be a table: CSV, .*, got the byte 0x81, which is no text"),
    ("parquet", b"PAR1" * 20, r"x.parquet is damaged or not Parquet"),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "content", "sentence"), FAULTS)
def test_a_table_that_cannot_be_read_is_one_sentence(tmp_path, monkeypatch, suffix, content, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"x.{suffix}").write_bytes(content)
    with pytest.raises(PalError, match=f"^{sentence}") as caught:
        read_rows(f"x.{suffix}").require(["response"])
    assert caught.value.file == f"x.{suffix}"


def test_columns_that_others_call_otherwise_are_named(tmp_path):
    (tmp_path / "x.csv").write_text("instruction,completion_1,completion_2\na,b,c\n")
    with pytest.raises(
        PalError, match="rename 'instruction' to prompt, 'completion_1' to response_a, 'compl"
    ):
        read_rows(str(tmp_path / "x.csv")).require(["prompt", "response_a", "response_b"])


def test_cells_may_be_longer_than_the_csv_module_takes_by_itself(tmp_path):
    limit = csv.field_size_limit(1000)
    (tmp_path / "x.csv").write_text("a\n" + "b" * 1001)
    assert len(read_rows(str(tmp_path / "x.csv")).rows[0].cells["a"]) == 1001
    csv.field_size_limit(limit)


def test_parquet_of_too_many_rows_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """A few KB may hold more rows than memory does: what its end says of them is asked first."""
    (tmp_path / "x.parquet").write_bytes(parquet_bytes(ROWS))
    for limit, what in (("MOST_ROWS", "rows, got 2"), ("MOST_BYTES", "bytes unpacked, got ")):
        with monkeypatch.context() as patch:
            patch.setattr(f"pal.logs.tables.{limit}", 1)
            with pytest.raises(PalError, match=rf"x\.parquet must have at most 1 {what}.*; split it"):
                read_rows(str(tmp_path / "x.parquet"))
