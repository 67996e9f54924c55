"""The store: what was encoded is found again, under a key of all that shapes a vector; damage is never served."""

import numpy as np
import pytest

from pipeline import store
from pipeline.errors import PipelineError
from pipeline.shards import Embedder


def embedder(**changes):
    usual = {
        "encoder": "toy", "weights_sha256": "w", "files_sha256": "f", "dim": 2, "dtype": "float32",
        "preprocessing": "as it is",
    }  # fmt: skip
    return Embedder(**{**usual, **changes})


def rows(*values):
    return np.array(values, dtype=np.float32)


@pytest.fixture
def kept(tmp_path):
    """A store with two files: a and b, then c and, again and otherwise, a."""
    kept = store.EmbeddingStore(embedder(), "cpu", tmp_path)
    kept.add(["a", "b"], rows([1, 1], [2, 2]))
    kept.add(["c", "a"], rows([3, 3], [9, 9]))
    return kept


def test_an_empty_store_holds_nothing(tmp_path):
    assert store.EmbeddingStore(embedder(), "cpu", tmp_path).find({"a"}) == {}


def test_what_was_added_is_found_and_read_in_the_order_asked_for(kept):
    found = kept.find({"b", "c", "x"})
    assert set(found) == {"b", "c"}
    assert kept.read(found, ["c", "b", "c"]).tolist() == [[3, 3], [2, 2], [3, 3]]
    assert kept.read(found, []).shape == (0, 2)


def test_an_item_in_two_files_is_taken_from_the_first_by_name(kept):
    first = min(kept.folder.iterdir())
    found = kept.find({"a"})
    assert found["a"][0] == first
    assert kept.read(found, ["a"])[0, 0] in (1, 9)
    assert kept.read(kept.find({"a"}), ["a"]).tolist() == kept.read(found, ["a"]).tolist()


def test_the_same_content_is_one_file(kept):
    before = sorted(kept.folder.iterdir())
    kept.add(["a", "b"], rows([1, 1], [2, 2]))
    assert sorted(kept.folder.iterdir()) == before
    assert len(before) == 2


def test_files_are_named_by_their_bytes_and_nothing_else_stays(kept):
    from pipeline.files import sha256_of

    assert all(path.name == f"{sha256_of(path)}.parquet" for path in kept.folder.iterdir())


def test_a_half_written_file_is_not_found(kept):
    (kept.folder / "x.new").write_bytes(b"half")
    (kept.folder / ".x.parquet.tmp").write_bytes(b"half")
    assert set(kept.find({"a", "b", "c"})) == {"a", "b", "c"}


def test_a_damaged_file_is_reported_removed_and_the_rest_still_found(kept):
    path = kept.find({"b"})["b"][0]
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        PipelineError, match=rf"{path.name} was damaged and has been removed; run the stage again"
    ):
        kept.find({"b"})
    assert not path.exists()
    assert set(kept.find({"a", "b", "c"})) == {"a", "c"}


def test_damage_between_finding_and_reading_is_reported_too(kept):
    found = kept.find({"b"})
    path = found["b"][0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PipelineError, match="was damaged and has been removed"):
        kept.read(found, ["b"])


def test_half_precision_is_kept_as_such(tmp_path):
    half = store.EmbeddingStore(embedder(dtype="float16"), "cpu", tmp_path)
    half.add(["a"], rows([1, 1 / 3]))
    back = half.read(half.find({"a"}), ["a"])
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
    ],
)
def test_whatever_shapes_a_vector_has_a_store_of_its_own(kept, tmp_path, change):
    other = store.EmbeddingStore(embedder(**change), "cpu", tmp_path)
    assert other.folder != kept.folder
    assert other.find({"a"}) == {}


def test_a_gpu_a_library_and_an_encoders_code_have_a_store_of_their_own(kept, tmp_path, monkeypatch):
    folders = {kept.folder, store.EmbeddingStore(embedder(), "cuda", tmp_path).folder}
    with monkeypatch.context() as patch:
        patch.setattr(store.metadata, "version", lambda name: "0.0.0")
        folders.add(store.EmbeddingStore(embedder(), "cpu", tmp_path).folder)
    with monkeypatch.context() as patch:
        patch.setattr(store.code, "fingerprint", lambda root, module: ["else"])
        folders.add(store.EmbeddingStore(embedder(), "cpu", tmp_path).folder)
    assert len(folders) == 4
    assert store.EmbeddingStore(embedder(), "cpu", tmp_path).folder == kept.folder


def test_the_store_lies_where_pal_store_says(project):
    assert store.EmbeddingStore(embedder(), "cpu").folder.parent == project.root / "store" / "embeddings"
