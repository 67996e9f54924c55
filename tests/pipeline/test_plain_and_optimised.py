"""Everything that saves work off, and on: the store, shares, batches, distinct rows. The metrics are the same."""

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.encoders import vector_store as embeddings
from pal.encoders.model_free import HashedWords
from pal.fitting import mixture, per_comparison
from pal.models import base, ideal_point, prompted_ideal_point
from pipeline import paths, study
from pipeline.__main__ import flatten
from pipeline.stages import encode, evaluate, train
from pipeline.storage import tables

N_USERS = 6  # of eight, a quarter is kept unseen


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


def plainly(data):
    """The same study with a row of its own for every prompt and response of every pair, each encoded alone."""
    items = pl.read_parquet(paths.recoloured("own") / tables.ITEMS)
    texts = dict(items.select("item_id", "text").iter_rows())
    encoder, pairs = HashedWords(), data.comparisons
    asked = pairs.questions[pairs.question]
    chosen = torch.where(pairs.sign > 0, asked.first, asked.second).tolist()
    rejected = torch.where(pairs.sign > 0, asked.second, asked.first).tolist()
    prompt_ids = [data.prompt_ids[row] for row in asked.prompt.tolist()]
    response_ids = [data.response_ids[row] for row in chosen + rejected]

    def encoded(ids):
        return torch.from_numpy(np.concatenate([encoder.encode([texts[item]]) for item in ids]))

    rows = torch.arange(len(pairs))
    plain = Comparisons.from_pairs(
        user=pairs.user, prompt=rows, chosen=rows, rejected=rows + len(rows), label=pairs.label,
        weight=pairs.weight,
    )  # fmt: skip
    assert len(plain.questions) == len(pairs) > len(pairs.questions)  # nothing is shared any longer
    return replace(
        data, embeddings=Embeddings(encoded(prompt_ids), encoded(response_ids)), comparisons=plain,
        prompt_ids=prompt_ids, response_ids=response_ids,
    )  # fmt: skip


def every_row(rows, n_total):
    """In place of `distinct_rows`: every row by itself; but users, whose answers belong together in EM."""
    if n_total == N_USERS:
        return torch.unique(rows, return_inverse=True)
    return rows, torch.arange(len(rows))


def test_without_distinct_rows_and_without_distinct_items_the_metrics_are_the_same(
    small, metrics, monkeypatch
):
    """Without dropout, whose draws are one a row and so depend on how many rows there are."""
    small.set({"own.head.dropout": 0.0})
    optimised = metrics()
    real = study.load
    monkeypatch.setattr(study, "load", lambda dataset: plainly(real(dataset)))
    for module in (base, ideal_point, prompted_ideal_point, per_comparison, mixture):
        monkeypatch.setattr(module, "distinct_rows", every_row)
    train.main("own")
    monkeypatch.setattr(study, "load", real)  # what a pair asks is told by its items: the majority needs them
    evaluate.main("own")
    plain, fast = (dict(flatten(json.loads(data))) for data in (paths.metrics("own").read_bytes(), optimised))
    # From one answer some pairs are ties, which rounding decides.
    assert plain.pop("unseen.few_shot.1.accuracy") == pytest.approx(
        fast.pop("unseen.few_shot.1.accuracy"), abs=0.03
    )
    assert plain == fast
    assert real("own").n_users("seen") == N_USERS


def test_encoded_alone_and_encoded_in_batches_are_the_same_vectors(small):
    ids, vectors, embedder = tables.read_shards(paths.embeddings("own") / "text", "")
    items = pl.read_parquet(paths.recoloured("own") / tables.ITEMS)
    texts = dict(items.select("item_id", "text").iter_rows())
    alone = np.concatenate([HashedWords().encode([texts[item]]) for item in embeddings.unpacked(ids)])
    assert embedder.dtype == "float32"
    assert np.array_equal(vectors, alone)
