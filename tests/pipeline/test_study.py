"""A dataset as tensors: the right rows for the right users in the right splits."""

import shutil

import polars as pl
import pytest
import torch

from pipeline import layout, shards, study, tables
from pipeline.errors import PipelineError


def rewrite(path, change, schema):
    """Change a table in place."""
    frame = tables.read_table(path, "").with_columns(pl.col(pl.Categorical).cast(pl.String))
    tables.write_table(path, change(frame), schema)


def test_every_pair_with_a_place_is_there_with_its_own_items(small):
    data = study.load("own")
    pairs = tables.read_table(layout.recoloured("own") / tables.PAIRS, "")
    assert len(data.comparisons) == len(data.places) == len(pairs) == 96
    q, c = data.comparisons.questions, data.comparisons
    chosen = torch.where(c.sign > 0, q.first[c.question], q.second[c.question])
    assert [data.response_ids[row] for row in chosen] == pairs["chosen"].to_list()
    assert [data.prompt_ids[row] for row in q.prompt[c.question]] == pairs["prompt"].to_list()


def test_users_are_numbered_within_their_half_by_their_ids(small):
    data = study.load("own")
    assert data.user_ids["seen"] == sorted(data.user_ids["seen"])
    assert (data.n_users("seen"), data.n_users("unseen")) == (6, 2)
    assert not set(data.user_ids["seen"]) & set(data.user_ids["unseen"])
    pairs = tables.read_table(layout.recoloured("own") / tables.PAIRS, "")
    names = {half: dict(enumerate(data.user_ids[half])) for half in tables.USERS}
    found = [
        names[half][user]
        for half, user in zip(data.places["users"], data.comparisons.user.tolist(), strict=True)
    ]
    assert found == pairs["user_id"].to_list()


@pytest.mark.parametrize("dataset", ["simulated", "own"])
def test_select_divides_the_comparisons_without_remainder(small, dataset):
    data = study.load(dataset)
    parts = [data.select(u, s, i) for u in tables.USERS for s in tables.SPLIT_NAMES for i in ("known", "new")]
    assert sum(map(len, parts)) == len(data.comparisons)
    assert len(data.select("seen", "test")) == sum(
        len(data.select("seen", "test", items)) for items in ("known", "new")
    )
    assert len(data.select("unseen", "train")) == 0


def test_vectors_have_no_prompts_and_known_groups(small):
    """8 seen users stand at 2 prototypes in turn; the unseen ones go on from the ninth."""
    data = study.load("simulated")
    assert data.embeddings.prompts.shape == (0, 0)
    assert (data.comparisons.questions.prompt == -1).all()
    assert data.groups == {
        "seen": ["prototype 1", "prototype 2"] * 4,
        "unseen": ["prototype 1", "prototype 2"] * 3,
    }
    assert study.texts("simulated") == {}


def test_own_comparisons_have_prompts_texts_and_no_groups(small):
    data = study.load("own")
    assert data.groups is None
    assert data.embeddings.prompts is data.embeddings.responses
    assert set(study.texts("own")) == set(data.response_ids)
    assert "a red thing 0" in study.texts("own").values()


def test_labels_are_kept_where_one_is_not_certain(small):
    assert study.load("own").comparisons.label is None
    half = pl.when(pl.col("pair_id") == 0).then(0.5).otherwise(1.0)
    path = layout.recoloured("own") / tables.PAIRS
    rewrite(path, lambda frame: frame.with_columns(label=half), tables.pairs_schema())
    assert study.load("own").comparisons.label.tolist() == [0.5] + [1.0] * 95


def test_a_pair_without_a_place_is_left_out(small):
    path = layout.splits("own") / tables.SPLITS
    rewrite(path, lambda frame: frame.filter(pl.col("pair_id") != 0), tables.splits_schema())
    assert len(study.load("own").comparisons) == 95


def test_an_item_without_embedding_is_one_sentence(small):
    path = layout.embeddings("own") / "text" / "shard-00000.parquet"
    names, vectors, embedder = shards.read(path)
    ids = shards.unpacked(names)
    gone = ids.index(tables.text_id("a red thing 0"))
    shards.write(path, ids[:gone] + ids[gone + 1 :], vectors[1:], embedder)
    with pytest.raises(
        PipelineError,
        match=rf"pairs of own name a chosen without embedding, the first '{ids[gone]}'; run `dvc repro -f encode@own`",
    ):
        study.load("own")


@pytest.mark.parametrize(
    ("gone", "stage"),
    [("recoloured", "recolour"), ("splits", "split"), ("embeddings", "encode")],
)
def test_a_missing_input_names_the_stage_to_run(small, gone, stage):
    shutil.rmtree(getattr(layout, gone)("own"))
    with pytest.raises(PipelineError, match=rf"run `dvc repro {stage}@own`"):
        study.load("own")
