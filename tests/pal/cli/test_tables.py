"""Tables that are read and written: what cells are, types that are kept, files written whole or not at all."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pal.cli.tables import table_format, write_rows
from pal.errors import PalError

POINTS = [{"response": [1.0], "id": 7}, {"response": [0.0], "id": 8}]


def test_the_format_is_that_of_the_suffix_or_stated():
    assert [table_format("A.JSONL", None), table_format("a.txt", "csv")] == ["jsonl", "csv"]
    with pytest.raises(PalError, match=r"a.txt must end in .jsonl, .csv or .parquet, or --format must say"):
        table_format("a.txt", None)


def test_columns_keep_their_types_through_parquet(pal, on_a_line, rows):
    schema = pa.schema({"response": pa.list_(pa.float32()), "id": pa.int16()})
    pq.write_table(pa.Table.from_pylist(POINTS, schema), "points.parquet")
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


def test_a_terminal_shows_a_table(pal, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("pal.cli.tables.table_format", lambda path, stated: "shown")
    said = pal("rank", words, "-", stdin="prompt,response\nhow are you today?,fine\n").splitlines()
    assert said[0].split() == ["rank", "reward", "prompt", "response"]
    assert said[1].startswith("1 ")
    assert "how are yo…" in said[1]


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
    with pytest.raises(PalError, match=sentence):
        write_rows([[{"a": 1}], [second]], str(path), None)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [(name, "old")]


def test_paths_of_images_are_relative_to_the_table(pal, pictures, rows):
    pictures.save("model")
    Path("there").mkdir()
    for colour in ("red", "teal"):
        Image.new("RGB", (8, 8), colour).save(f"there/{colour}.png")
    Path("there/rows.csv").write_text("response\nred.png\nteal.png\n")
    rewards = [row["reward"] for row in rows(pal("score", "model", "there/rows.csv", "--user", "a"))]
    expected = pictures.score(None, [Path("there/red.png"), Path("there/teal.png")], user="a")
    assert rewards == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_picture_that_cannot_be_read_is_named_by_its_row(pal, pictures):
    pictures.save("model")
    Image.new("RGB", (8, 8), "red").save("red.png")
    Path("cut.png").write_bytes(Path("red.png").read_bytes()[:40])
    for name, why in (("cut.png", "cannot be read as a picture"), ("no.png", "No such file")):
        Path("rows.csv").write_text(f"response\nred.png\n{name}\n")
        said = pal("score", "model", "rows.csv", code=1)
        assert "response in row 2 (line 3) of rows.csv cannot be read as a picture" in said
        assert why in said
        given = json.dumps({"user_id": "x", "chosen": "red.png", "rejected": name}) + "\n"
        said = pal("adapt", "model", "-", stdin=given, code=1)
        assert "rejected in row 1 of standard input cannot be read as a picture" in said
