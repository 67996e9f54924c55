"""encode: every item once, in batches that what is stored cannot change; a killed run resumes to the same bytes."""

import numpy as np
import polars as pl
import pytest

from pal.encoders import vector_store as embeddings
from pal.encoders.model_free import HashedWords
from pal.errors import PalError
from pipeline import paths
from pipeline.stages import encode
from pipeline.storage import tables

N = 1300  # items: three groups of at least 512 items, the last one smaller


def texts():
    return [f"statement {i}, " + "very " * (i % 9) + "short" for i in range(N)]


@pytest.fixture
def own(project):
    """Items as prepare leaves them, to be encoded with hashed words."""
    project.set({"own.encoder": "hashed-words", "encode.device": "cpu"})
    write_items(texts())
    return project


def write_items(found):
    tables.write_table(paths.prepared("own") / tables.ITEMS, tables.text_items(found))


def shards_of():
    return {path.name: path.read_bytes() for path in paths.embeddings("own").rglob("*.*")}


def read(modality="text", dataset="own"):
    ids, vectors, embedder = tables.read_shards(paths.embeddings(dataset) / modality, "")
    return embeddings.unpacked(ids), vectors, embedder


def test_every_item_has_its_vector_and_rows_are_cut_into_shards(own):
    own.set({"encode.shard_rows": 500})
    encode.main("own")
    ids, vectors, embedder = read()
    row = ids.index(tables.text_id(texts()[5]))
    assert np.array_equal(vectors[row], HashedWords().encode([texts()[5]])[0])
    assert embedder.encoder == "hashed-words"
    names = [f"shard-0000{number}.parquet" for number in range(3)]
    assert sorted(shards_of()) == ["dropped.csv", "manifest.json", *names]
    assert len(embeddings.read_shard(paths.embeddings("own") / "text" / names[2])[0]) == 300
    assert ids == sorted(tables.text_id(text) for text in texts())


def test_vectors_pass_as_they_are(project):
    columns = {"item_id": ["b" * 32, "a" * 32], "vector": [[1.0, 2.0], [3.0, 4.0]]}
    frame = pl.DataFrame(columns).with_columns(modality=pl.lit("vector"))
    path = paths.prepared("simulated") / tables.ITEMS
    tables.write_table(path, frame)
    encode.main("simulated")
    ids, vectors, embedder = read("vector", "simulated")
    assert (ids, vectors.tolist(), vectors.dtype) == (["a" * 32, "b" * 32], [[3, 4], [1, 2]], np.float32)
    assert (embedder.encoder, embedder.dim) == ("none", 2)


def test_wrong_weights_are_one_sentence_and_leave_the_old_embeddings(own):
    encode.main("own")
    before = shards_of()
    (own.root / "mine").mkdir()
    (own.root / "mine" / "model.safetensors").write_bytes(b"not these")
    own.set({"own.encoder": "all-MiniLM-L6-v2", "encode.weights.all-MiniLM-L6-v2": "mine"})
    with pytest.raises(PalError, match=r"must have the published sha256 53aa5117.*, got [0-9a-f]{64}; get"):
        encode.main("own")
    assert shards_of() == before
