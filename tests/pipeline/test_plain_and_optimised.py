"""Everything that saves work off, and on: the store, shares, batches, distinct rows. The metrics are the same."""

import shutil

import pytest

from pipeline import paths
from pipeline.stages import encode, evaluate, train


@pytest.fixture
def metrics(small):
    """What the pipeline found on the small dataset own, and a way to find it again from where it stands."""

    def again():
        paths.metrics("own").unlink()
        train.main("own")
        evaluate.main("own")
        return paths.metrics("own").read_bytes()

    again.first = paths.metrics("own").read_bytes()
    return again


def without_store():
    shutil.rmtree(paths.store() / "embeddings")
    encode.main("own")


def with_full_store():
    encode.main("own")


def by_three_ranks_of_which_one_is_missing():
    shutil.rmtree(paths.store() / "embeddings")
    for rank in (0, 2):
        encode.main("own", rank, 3)
    encode.main("own")


@pytest.mark.parametrize("way", [without_store, with_full_store, by_three_ranks_of_which_one_is_missing])
def test_however_items_are_encoded_embeddings_and_metrics_are_the_same(small, metrics, way):
    before = [path.read_bytes() for path in sorted(paths.embeddings("own").rglob("*.parquet"))]
    small.set({"encode.shard_rows": 100_000})
    way()
    assert [path.read_bytes() for path in sorted(paths.embeddings("own").rglob("*.parquet"))] == before
    assert metrics() == metrics.first
