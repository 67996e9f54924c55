"""Items that cannot be encoded: described as people know them, and listed one a row."""

import csv

from pipeline.encoding.items import DROPPED_COLUMNS, BadItem, write_dropped

FILE = "f" * 64
NAMES = {FILE: "shard 1.parquet"}


def test_an_item_is_described_by_its_words_or_its_place():
    assert BadItem("a", "text", "is empty", text="  ").described({}) == "the text '  '"
    assert len(BadItem("a", "text", "is long", text="x" * 10_000).described({})) < 200
    assert BadItem("a", "image", "empty", file=FILE).described(NAMES) == "the image shard 1.parquet"
    inside = BadItem("a", "image", "empty", file=FILE, row_group=2, row=7, column="jpg_0")
    assert inside.described(NAMES) == "the image in jpg_0, row 7 of row group 2, of shard 1.parquet"
    assert BadItem("a", "image", "empty", file=FILE).described({}) == f"the image {FILE}"


def test_the_list_has_a_row_an_item_and_reads_back(tmp_path):
    """A reason may hold what CSV quotes."""
    items = [
        BadItem("a", "text", 'holds a "quote", and\na line', text="x"),
        BadItem("b", "image", "empty", file=FILE, row_group=0, row=3, column="jpg_1"),
    ]
    write_dropped(tmp_path / "dropped.csv", items)
    with (tmp_path / "dropped.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == DROPPED_COLUMNS
    assert rows[0]["reason"] == 'holds a "quote", and\na line'
    assert rows[1] == {
        "item_id": "b", "modality": "image", "file": FILE, "row_group": "0", "row": "3", "column": "jpg_1",
        "reason": "empty",
    }  # fmt: skip
