"""Items that cannot be encoded: told as people know them, and listed one a row."""

import csv

from pipeline.encoding.bad_items import COLUMNS, BadItem, dropped_csv

FILE = "f" * 64
NAMES = {FILE: "shard 1.parquet"}


def test_a_text_is_told_in_quotes_and_cut():
    assert BadItem("a", "text", "is empty", text="  ").told({}) == "the text '  '"
    assert len(BadItem("a", "text", "is long", text="x" * 10_000).told({})) < 200


def test_an_image_is_told_by_its_files_name_and_its_place():
    assert BadItem("a", "image", "empty", file=FILE).told(NAMES) == "the image shard 1.parquet"
    inside = BadItem("a", "image", "empty", file=FILE, row_group=2, row=7, column="jpg_0")
    assert inside.told(NAMES) == "the image in jpg_0, row 7 of row group 2, of shard 1.parquet"
    assert BadItem("a", "image", "empty", file=FILE).told({}) == f"the image {FILE}"


def test_the_list_has_a_row_an_item_and_reads_back(tmp_path):
    """A reason may hold what CSV quotes."""
    items = [
        BadItem("a", "text", 'holds a "quote", and\na line', text="x"),
        BadItem("b", "image", "empty", file=FILE, row_group=0, row=3, column="jpg_1"),
    ]
    dropped_csv(tmp_path / "dropped.csv", items)
    with (tmp_path / "dropped.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["reason"] == 'holds a "quote", and\na line'
    assert rows[1] == {
        "item_id": "b", "modality": "image", "file": FILE, "row_group": "0", "row": "3", "column": "jpg_1",
        "reason": "empty",
    }  # fmt: skip


def test_nothing_dropped_is_a_header_alone(tmp_path):
    dropped_csv(tmp_path / "dropped.csv", [])
    assert (tmp_path / "dropped.csv").read_text() == ",".join(COLUMNS) + "\n"
