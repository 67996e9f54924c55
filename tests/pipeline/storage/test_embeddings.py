"""Shards and the store: vectors come back bit by bit under a key of all that shapes them; damage is named."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pal import PalError
from pal.encoders import vector_store
from pal.encoders import vector_store as embeddings
from pal.encoders.vector_store import Embedder, EmbeddingStore
from pipeline.storage import tables

A, B, C, X = (letter * 32 for letter in "abcd")


def embedder(**changes):
    usual = {
        "encoder": "toy", "weights_sha256": "w", "files_sha256": "f", "dim": 2, "dtype": "float32",
        "preprocessing": "as it is",
    }  # fmt: skip
    return Embedder(**{**usual, **changes})


def rows(*values):
    return np.array(values, dtype=np.float32)


def vectors(n=3):
    return np.arange(n * 2, dtype=np.float32).reshape(n, 2) / 7


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("n", [0, 3])
def test_a_shard_comes_back_as_it_was_written(tmp_path, dtype, n):
    path = tmp_path / "shard-00000.parquet"
    embeddings.write_shard(path, [B, A, C][:n], vectors(n), embedder(dtype=dtype))
    ids, back, made_by = embeddings.read_shard(path)
    assert (embeddings.unpacked(ids), made_by) == ([B, A, C][:n], embedder(dtype=dtype))
    assert back.dtype == np.dtype(dtype)
    assert np.array_equal(back, vectors(n).astype(dtype))


def test_a_shard_is_one_row_group_of_the_same_bytes_that_says_what_made_it(tmp_path):
    for name in "ab":
        ids = [f"{i:032x}" for i in range(70_000)]
        embeddings.write_shard(tmp_path / name, ids, vectors(70_000), embedder())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert pq.ParquetFile(tmp_path / "a").num_row_groups == 1
    assert np.array_equal(embeddings.read_shard(tmp_path / "a")[1], vectors(70_000))
    assert json.loads(pq.read_schema(tmp_path / "a").metadata[b"pal"]) == {
        "encoder": "toy", "weights_sha256": "w", "files_sha256": "f", "dim": 2, "dtype": "float32",
        "preprocessing": "as it is", "engine": "torch", "precision": "float32",
    }  # fmt: skip


@pytest.mark.parametrize(("bad", "dtype"), [(np.nan, "float32"), (1e5, "float16")])
def test_a_vector_that_is_not_finite_names_its_item(tmp_path, bad, dtype):
    """100,000 is past float16's greatest number, 65,504."""
    wrong = vectors()
    wrong[1, 1] = bad
    with pytest.raises(PalError, match=rf"item a{{32}} must be finite in {dtype}, got"):
        embeddings.write_shard(tmp_path / "x", [B, A, C], wrong, embedder(dtype=dtype))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [["g" * 32], ["a" * 31 + " "], ["a" * 33], ["A" * 32], ["\ud800"]])
def test_ids_that_are_no_hashes_are_refused(wrong):
    with pytest.raises(PalError, match=r"32 hex digits"):
        embeddings.packed(wrong)


def test_a_folder_is_read_in_the_order_of_its_shards(tmp_path):
    with pytest.raises(PalError, match=r"holds no embeddings; run `dvc repro encode@own`"):
        tables.read_shards(tmp_path, "encode@own")
    embeddings.write_shard(tmp_path / "shard-00001.parquet", [C], vectors(1), embedder())
    embeddings.write_shard(tmp_path / "shard-00000.parquet", [B, A], vectors(2), embedder())
    ids, back, made_by = tables.read_shards(tmp_path, "encode@own")
    assert (embeddings.unpacked(ids), back.shape, made_by) == ([B, A, C], (3, 2), embedder())
    pq.write_table(pa.table({"item_id": ["a"]}), tmp_path / "shard-00000.parquet")
    wrong = r"shard-00000\.parquet is not a whole shard .*\); run `dvc repro -f encode@own`"
    with pytest.raises(PalError, match=wrong):
        tables.read_shards(tmp_path, "encode@own")


def open_store(root, **changes):
    return EmbeddingStore(embedder(**changes), "cpu", root, ("torch",))


def find(store, *ids):
    return store.find(embeddings.packed(list(ids)))


def read(store, *ids, rows=2):
    return np.concatenate(list(store.gather(find(store, *ids), rows, store.folder))).tolist()


def known(store, *ids):
    return [bool(found) for found in ~find(store, *ids).missing]


@pytest.fixture
def store(tmp_path):
    """A store with two files: a and b, then c and, again and otherwise, a."""
    store = open_store(tmp_path)
    store.add([A, B], rows([1, 1], [2, 2]))
    store.add([C, A], rows([3, 3], [9, 9]))
    return store


def test_what_was_added_is_found_and_read_in_the_order_asked_for(store, tmp_path):
    assert known(open_store(tmp_path / "empty"), A, B) == [False, False]
    assert known(store, B, X, C) == [True, False, True]
    assert read(store, C, X, B, C) == [[3, 3], [2, 2], [3, 3]]
    assert read(store) == []
    assert {path.suffix for path in store.folder.iterdir()} == {".parquet", ".json"}


def test_a_damaged_file_is_reported_removed_and_the_rest_still_found(store, tmp_path):
    places = find(store, B)
    path = places.files[places.file[0]]
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    again = open_store(tmp_path)
    with pytest.raises(PalError, match=rf"{path.name} was damaged and has been removed; run the stage again"):
        find(again, B)
    assert not path.exists()
    assert known(again, A, B, C) == [True, False, True]


def test_whatever_shapes_a_vector_has_a_store_of_its_own(store, tmp_path, monkeypatch):
    changes = {
        "dtype": "float16", "encoder": "other", "weights_sha256": "v", "files_sha256": "g", "dim": 3,
        "preprocessing": "cut", "engine": "onnx", "precision": "bfloat16",
    }  # fmt: skip
    folders = {open_store(tmp_path, **{name: value}).folder for name, value in changes.items()}
    folders.add(EmbeddingStore(embedder(), "cuda", tmp_path).folder)
    folders.add(EmbeddingStore(embedder(), "cpu", tmp_path, ("pillow",)).folder)
    with monkeypatch.context() as patch:
        patch.setattr(vector_store.metadata, "version", lambda name: "0.0.0")
        folders.add(EmbeddingStore(embedder(), "cpu", tmp_path, ("pillow",)).folder)
    with monkeypatch.context() as patch:
        patch.setattr(vector_store, "ENCODING_VERSION", 99)
        folders.add(open_store(tmp_path).folder)
    assert len(folders | {store.folder}) == 13
    assert open_store(tmp_path).folder == store.folder
