"""The store: what was encoded is found again, under a key of all that shapes a vector; damage is never served."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.storage import embedding_store, shards
from pipeline.storage.shards import Embedder

QUICK = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def embedder(**changes):
    usual = {
        "encoder": "toy", "weights_sha256": "w", "files_sha256": "f", "dim": 2, "dtype": "float32",
        "preprocessing": "as it is",
    }  # fmt: skip
    return Embedder(**{**usual, **changes})


def rows(*values):
    return np.array(values, dtype=np.float32)


A, B, C, X = (letter * 32 for letter in "abcd")


def open_store(root, **changes):
    return embedding_store.EmbeddingStore(embedder(**changes), "cpu", root)


def find(kept, *ids):
    return kept.find(shards.packed(list(ids)))


def read(kept, *ids, rows=10):
    return np.concatenate(list(kept.gather(find(kept, *ids), rows))).tolist()


def there(kept, *ids):
    return [bool(found) for found in ~find(kept, *ids).missing]


@pytest.fixture
def kept(tmp_path):
    """A store with two files: a and b, then c and, again and otherwise, a."""
    kept = open_store(tmp_path)
    kept.add([A, B], rows([1, 1], [2, 2]))
    kept.add([C, A], rows([3, 3], [9, 9]))
    return kept


def test_an_empty_store_holds_nothing(tmp_path):
    assert there(open_store(tmp_path), A, B) == [False, False]


def test_what_was_added_is_found_and_read_in_the_order_asked_for(kept):
    assert there(kept, B, X, C) == [True, False, True]
    assert read(kept, C, B, C) == [[3, 3], [2, 2], [3, 3]]
    assert read(kept) == []


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_parts_of_any_size_hold_the_same_vectors(kept, rows):
    wanted = [C, B, C, B, B]
    parts = list(kept.gather(find(kept, *wanted), rows))
    assert [len(part) for part in parts[:-1]] == [rows] * (len(parts) - 1)
    assert np.concatenate(parts)[:, 0].tolist() == [3, 2, 3, 2, 2]
    assert {path.suffix for path in kept.folder.iterdir()} == {".parquet", ".json"}


@QUICK
@given(asked=st.lists(st.integers(0, 40), min_size=1, max_size=80), rows=st.integers(1, 30))
def test_whatever_is_asked_for_comes_in_its_order(large, asked, rows):
    """Item i has the vector (i, -i); it lies in one of six files."""
    ids = shards.packed([f"{i:032x}" for i in asked])
    parts = np.concatenate(list(large.gather(large.find(ids), rows)))
    assert parts.tolist() == [[i, -i] for i in asked]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    large = open_store(tmp_path_factory.mktemp("store"))
    for start in range(0, 42, 7):
        some = range(start, start + 7)
        large.add([f"{i:032x}" for i in some], rows(*([i, -i] for i in some)))
    return large


def test_an_item_in_two_files_is_taken_from_the_first_by_name(kept):
    places = find(kept, A)
    assert places.files[places.file[0]] == min(kept.folder.iterdir())
    assert read(kept, A)[0][0] in (1, 9)


def test_the_same_content_is_one_file(kept):
    before = sorted(kept.folder.glob("*.parquet"))
    kept.add([A, B], rows([1, 1], [2, 2]))
    assert sorted(kept.folder.glob("*.parquet")) == before
    assert len(before) == 2


def test_files_are_named_by_their_bytes_and_nothing_else_stays(kept):
    from pal.files import sha256_of

    assert all(path.name == f"{sha256_of(path)}.parquet" for path in kept.folder.glob("*.parquet"))


def test_a_half_written_file_is_not_found(kept):
    (kept.folder / "x.new").write_bytes(b"half")
    (kept.folder / ".x.parquet.tmp").write_bytes(b"half")
    assert there(kept, A, B, C) == [True, True, True]


def test_a_damaged_file_is_reported_removed_and_the_rest_still_found(kept):
    places = find(kept, B)
    path = places.files[places.file[0]]
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        PipelineError, match=rf"{path.name} was damaged and has been removed; run the stage again"
    ):
        find(kept, B)
    assert not path.exists()
    assert there(kept, A, B, C) == [True, False, True]


def test_damage_between_finding_and_reading_is_reported_too(kept):
    places = find(kept, B)
    path = places.files[places.file[0]]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PipelineError, match="was damaged and has been removed"):
        list(kept.gather(places, 10))


def test_half_precision_is_kept_as_such(tmp_path):
    half = open_store(tmp_path, dtype="float16")
    half.add([A], rows([1, 1 / 3]))
    (back,) = half.gather(find(half, A), 10)
    assert back.dtype == np.float16
    assert back[0, 1] == np.float16(1 / 3)


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "float16"},
        {"encoder": "other"},
        {"weights_sha256": "v"},
        {"files_sha256": "g"},
        {"dim": 3},
        {"preprocessing": "cut"},
        {"engine": "onnx"},
        {"precision": "bfloat16"},
    ],
)
def test_whatever_shapes_a_vector_has_a_store_of_its_own(kept, tmp_path, change):
    other = open_store(tmp_path, **change)
    assert other.folder != kept.folder
    assert there(other, A) == [False]


def test_a_gpu_a_library_and_an_encoding_version_have_a_store_of_their_own(kept, tmp_path, monkeypatch):
    folders = {kept.folder, embedding_store.EmbeddingStore(embedder(), "cuda", tmp_path).folder}
    with monkeypatch.context() as patch:
        patch.setattr(embedding_store.metadata, "version", lambda name: "0.0.0")
        folders.add(open_store(tmp_path).folder)
    with monkeypatch.context() as patch:
        patch.setattr(embedding_store, "ENCODING_VERSION", 2)
        folders.add(open_store(tmp_path).folder)
    assert len(folders) == 4
    assert open_store(tmp_path).folder == kept.folder


def test_the_store_lies_where_pal_store_says(project):
    assert open_store(None).folder.parent == project.root / "store" / "embeddings"
