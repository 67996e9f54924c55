"""Shards: vectors come back bit by bit with what made them, and damage is named."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.storage import shards

IDS = [letter * 32 for letter in "bac"]


def embedder(dtype="float32", dim=2):
    return shards.Embedder("toy", "w" * 8, "f" * 8, dim, dtype, "as it is")


def vectors(n=3, dim=2):
    return np.arange(n * dim, dtype=np.float32).reshape(n, dim) / 7


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_shard_comes_back_as_it_was_written(tmp_path, dtype):
    path = tmp_path / "shard-00000.parquet"
    shards.write(path, IDS, vectors(), embedder(dtype))
    ids, back, made_by = shards.read(path)
    assert (shards.unpacked(ids), made_by, back.dtype) == (IDS, embedder(dtype), np.dtype(dtype))
    assert np.array_equal(back, vectors().astype(dtype))


def test_an_empty_shard_has_the_right_width(tmp_path):
    shards.write(tmp_path / "a.parquet", [], np.empty((0, 2)), embedder())
    assert shards.read(tmp_path / "a.parquet")[1].shape == (0, 2)


def test_a_shard_says_what_made_it(tmp_path):
    shards.write(tmp_path / "a.parquet", IDS, vectors(), embedder())
    assert json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"pal"]) == {
        "encoder": "toy", "weights_sha256": "w" * 8, "files_sha256": "f" * 8, "dim": 2, "dtype": "float32",
        "preprocessing": "as it is", "engine": "torch", "precision": "float32",
    }  # fmt: skip


def test_the_same_vectors_give_the_same_bytes(tmp_path):
    for name in "ab":
        shards.write(tmp_path / name, IDS, vectors(), embedder())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_many_rows_come_back_without_a_copy(tmp_path):
    """One row group is one piece of memory."""
    n = 70_000
    shards.write(tmp_path / "a", [f"{i:032x}" for i in range(n)], vectors(n), embedder())
    ids, back, _ = shards.read(tmp_path / "a")
    assert ids[-1].decode() == f"{n - 1:032x}"
    assert pq.ParquetFile(tmp_path / "a").num_row_groups == 1
    assert np.array_equal(back, vectors(n))


@pytest.mark.parametrize(("bad", "dtype"), [(np.nan, "float32"), (np.inf, "float32"), (1e5, "float16")])
def test_a_vector_that_is_not_finite_names_its_item(tmp_path, bad, dtype):
    """100,000 is past float16's greatest number, 65,504."""
    wrong = vectors()
    wrong[1, 1] = bad
    with pytest.raises(PipelineError, match=rf"item a{{32}} must be finite in {dtype}, got"):
        shards.write(tmp_path / "x", IDS, wrong, embedder(dtype))
    assert list(tmp_path.iterdir()) == []


def test_other_tools_get_lists(tmp_path):
    shards.write(tmp_path / "a", IDS, vectors(), embedder())
    table = shards.as_lists(tmp_path / "a")
    assert table["embedding"].to_pylist() == vectors().tolist()
    assert table["item_id"].to_pylist() == IDS


def test_a_folder_is_read_in_the_order_of_its_shards(tmp_path):
    shards.write(tmp_path / "shard-00001.parquet", IDS[2:], vectors(1), embedder())
    shards.write(tmp_path / "shard-00000.parquet", IDS[:2], vectors(2), embedder())
    (tmp_path / "notes.txt").write_text("x")
    ids, back, made_by = shards.read_folder(tmp_path, "encode@own")
    assert (shards.unpacked(ids), back.shape, made_by) == (IDS, (3, 2), embedder())


def test_a_folder_without_shards_names_the_stage_to_run(tmp_path):
    with pytest.raises(PipelineError, match=r"holds no embeddings; run `dvc repro encode@own`"):
        shards.read_folder(tmp_path, "encode@own")


def test_a_damaged_shard_of_a_folder_names_itself_and_the_stage_to_run(tmp_path):
    path = tmp_path / "shard-00000.parquet"
    shards.write(path, IDS, vectors(), embedder())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        PipelineError, match=r"shard-00000\.parquet is not a whole shard .*\); run `dvc repro -f encode@own`"
    ):
        shards.read_folder(tmp_path, "encode@own")


def test_another_parquet_file_is_no_shard(tmp_path):
    import pyarrow as pa

    pq.write_table(pa.table({"item_id": ["a"]}), tmp_path / "a")
    with pytest.raises(PipelineError, match=r"is not a whole shard of embeddings"):
        shards.read(tmp_path / "a")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "shard-00000.parquet"
    shards.write(path, [f"{i:032x}" for i in range(20)], vectors(20), embedder())
    return path, path.read_bytes()


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_shard_is_one_sentence(whole, share):
    path, content = whole
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(PipelineError, match=r"shard-00000\.parquet is not a whole shard of embeddings \("):
        shards.read(path)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_flipped_bits_are_one_sentence_or_a_shard(whole, data):
    """A flip within a vector passes here: the store and DVC know files by their hashes."""
    path, content = whole
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged)
    try:
        ids, back, _ = shards.read(path)
    except PipelineError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert len(ids) == len(back)


@pytest.mark.parametrize(
    "wrong",
    [
        ["a"],
        ["g" * 32],
        ["a" * 31 + " "],
        ["a" * 30 + "é"],
        ["a" * 33],
        ["A" * 32],
        ["a" * 32, ""],
        ["\ud800"],
    ],
)
def test_ids_that_are_no_hashes_are_refused(wrong):
    """Longer ones were cut to 32 digits, and capitals came back as small letters: other ids than were given."""
    with pytest.raises(PipelineError, match=r"32 hex digits"):
        shards.packed(wrong)
