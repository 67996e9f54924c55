"""Tables and manifests: ids that never change, schemas that hold, and damage that is noticed."""

import json

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pal.files import new_folder, write_bytes
from pipeline import PipelineError
from pipeline.storage import tables

PAIRS = {"user_id": "ann", "prompt": "p", "chosen": "a", "rejected": "b", "label": 1.0}


def pairs(n):
    """n alike pairs, without the columns that are optional."""
    return pl.DataFrame([{"pair_id": i, **PAIRS} for i in range(n)])


def test_ids_are_the_first_half_of_the_contents_sha256():
    """Stored embeddings and Git-kept metrics hang on them: `printf 'text\\0Yes' | sha256sum`."""
    assert tables.text_id("Yes") == "0ae01d4094613f0c93fcb4099ec1f005"
    assert tables.text_id("I like Käse 🧀") == "0a01ba8e539c2482280cdc226a0a76c1"
    assert tables.item_id("vector", bytes(8)) == "5c9764bd9e17f2a3fb5dc7d2b70a8163"


def test_codes_are_whole_numbers_with_names_and_null_is_minus_one():
    """Two chunks with dictionaries of their own are brought to one."""
    chunks = [pa.array(part).dictionary_encode() for part in (["a", None, "b"], ["c", "a"])]
    codes, names = tables.codes(pa.chunked_array(chunks))
    assert [names[code] if code >= 0 else None for code in codes] == ["a", None, "b", "c", "a"]
    assert sorted(names) == ["a", "b", "c"]
    empty = tables.codes(pa.chunked_array([], pa.dictionary(pa.int32(), pa.string())))
    assert (empty[0].tolist(), empty[1]) == ([], [])


def test_text_items_are_distinct_and_ordered_by_id():
    items = tables.text_items(["Yes", "No", "Yes"])
    assert items["item_id"].to_list() == sorted([tables.text_id("Yes"), tables.text_id("No")])
    assert dict(zip(items["item_id"], items["text"], strict=True))[tables.text_id("No")] == "No"
    assert items["modality"].to_list() == ["text", "text"]
    assert tables.text_items([]).schema == items.schema


def test_a_table_is_written_in_its_schema_with_nulls_where_columns_are_absent(tmp_path):
    path = tmp_path / "pairs.parquet"
    tables.write_table(path, pairs(2))
    assert pq.read_schema(path).remove_metadata() == tables.PAIRS_SCHEMA
    back = tables.read_table(path, "prepare@own")
    assert back["group"].null_count() == 2
    assert back["label"].dtype == pl.Float32
    assert back.with_columns(pl.col(pl.Categorical).cast(pl.String)).row(1, named=True) == {
        "pair_id": 1, **PAIRS, "group": None, "users": None, "split": None, "test": None,
        "filtered": None, "weight": None, "time": None,
    }  # fmt: skip


def test_a_table_read_in_blocks_is_coded_as_if_it_were_whole(tmp_path):
    """chosen and rejected share their codes, null is -1, and codes are as narrow as their names allow."""
    frame = pairs(200).with_columns(
        user_id=pl.Series([f"u{row}" for row in range(200)]),
        chosen=pl.Series(["b", "a"] * 100),
        rejected=pl.Series(["a", "b"] * 100),
        test=pl.Series([None, "easy"] * 100),
        weight=pl.Series([None] * 199 + [2.0]),
    )
    tables.write_table(tmp_path / "pairs.parquet", frame.iter_slices(64))
    columns = ["pair_id", "user_id", "chosen", "rejected", "test", "label", "weight", "group"]
    found = tables.read_coded(tmp_path / "pairs.parquet", "", columns)
    assert len(found) == 200
    for name in ("user_id", "chosen", "rejected", "test", "group"):
        words = [found.names[name][code] if code >= 0 else None for code in found[name]]
        assert words == (frame[name].to_list() if name in frame.columns else [None] * 200)
    assert found.names["chosen"] is not found.names["user_id"]
    assert (found["user_id"].itemsize, found["chosen"].itemsize) == (2, 1)
    assert (found["chosen"] + found["rejected"]).tolist() == [1] * 200
    assert found["pair_id"].tolist() == list(range(200))
    assert found["weight"].tolist() == [1.0] * 199 + [2.0]
    assert found["label"].tolist() == [1.0] * 200
    assert found["label"].strides == (0,)


def test_damage_in_a_later_block_names_the_stage_to_run(tmp_path):
    path = tmp_path / "pairs.parquet"
    tables.write_table(path, pairs(90).iter_slices(30))
    whole = bytearray(path.read_bytes())
    place = pq.ParquetFile(path).metadata.row_group(2).column(0).dictionary_page_offset
    place = place or pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    whole[place : place + 20] = bytes(20)
    path.write_bytes(whole)
    with pytest.raises(PipelineError, match=r"is damaged \(.*\); run `dvc repro -f prepare@own`"):
        tables.read_coded(path, "prepare@own", ["pair_id"])


def test_rows_of_finds_ids_whatever_their_order():
    there = np.array([5, 3, 9])
    assert tables.rows_of(there, np.array([9, 5])).tolist() == [2, 0]
    assert tables.rows_of(there, there.copy()) == slice(None)
    assert tables.rows_of(there, np.array([4])) is None
    assert tables.rows_of(np.empty(0, np.int64), there) is None


@pytest.fixture
def folder(tmp_path):
    """A stage's output: a file of JSON, and two below it."""
    with new_folder(tmp_path / "out") as new:
        write_bytes(new / "a.json", b'{"x": 1}\n')
        for name in ("shard-0.parquet", "shard-1.parquet"):
            write_bytes(new / "text" / name, name.encode())
        tables.write_manifest(new, counts={"read": 5, "kept": 3, "dropped": 2, "ties": 2}, source="a log")
    return tmp_path / "out"


def test_a_manifest_holds_counts_and_every_files_hash_and_size(folder):
    """sha256 of `{"x": 1}` and a line break, by sha256sum."""
    read = json.loads((folder / tables.MANIFEST).read_text())
    assert list(read) == ["counts", "source", "files"]
    assert read["counts"] == {"read": 5, "kept": 3, "dropped": 2, "ties": 2}
    assert list(read["files"]) == ["a.json", "text/shard-0.parquet", "text/shard-1.parquet"]
    wanted = "936353965b4ba9180e3acb781d81aa634390ac95fd2874a9cbc4c4846b49fbd4"
    assert read["files"]["a.json"] == {"sha256": wanted, "size": 9}
    assert tables.read_json(folder / "a.json", "x") == {"x": 1}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", b'{"x": 2}\n', "is damaged (its hash is not that in"),
        ("a.json", None, "is missing; run `dvc repro encode@own`"),
        ("text/shard-0.parquet", b"shard-1", "is damaged (its hash is not that in"),
        ("text/shard-1.parquet", None, "is missing; run"),
        ("text/shard-2.parquet", b"new", "has no file of its name); run `dvc repro -f encode@own`"),
        (tables.MANIFEST, b"[]", "is damaged ("),
        (tables.MANIFEST, b'{"files": {"a.json": 3}}', "is damaged ("),
        (tables.MANIFEST, b"{" * 100_000, "is damaged ("),
        (tables.MANIFEST, b"\xff", "is damaged ("),
    ],
)
def test_what_is_not_as_it_was_written_is_one_sentence(folder, name, content, reason):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(PipelineError) as caught:
        tables.read_json(folder / "a.json", "encode@own")
        tables.read_shards(folder / "text", "encode@own")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
