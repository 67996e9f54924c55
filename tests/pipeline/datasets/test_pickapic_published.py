"""Numbers read beside numbers published: said, never enforced."""

import json

import pytest

from pipeline.datasets.pickapic import published


def test_rows_are_counted_by_split_beside_the_published_ones(shards, tmp_path, capsys):
    shards.write("train-0.parquet", [shards.row(), shards.row()])
    shards.write("train-1.parquet", [shards.row()])
    shards.write("test-0.parquet", [shards.row()])
    published.write(tmp_path, "v1", shards.files())
    says = "Not the published Pick-a-Pic v1: rows of train 3 of 583,747, test 1 of 14,073."
    assert json.loads((tmp_path / "published.json").read_text()) == {
        "says": says,
        "rows": {"train": {"read": 3, "published": 583_747}, "test": {"read": 1, "published": 14_073}},
    }
    assert capsys.readouterr().out == says + "\n"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_published_rows_are_recognised(version):
    rows = {split: {"read": count, "published": count} for split, count in published.ROWS[version].items()}
    assert published.say_rows(version, rows).startswith(
        f"The published Pick-a-Pic {version} by the rows of train,"
    )


def test_the_published_numbers_hang_together():
    """v1's splits add up to the 616,259 of the authors' table; leakage and no leakage to the untied 18,391."""
    assert sum(published.ROWS["v1"].values()) == 616_259
    assert sum(published.LEAKAGE.values()) == 18_391 < published.ROWS["v2"]["test"]
