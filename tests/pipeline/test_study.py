"""A dataset as tensors: the right rows for the right users in the right splits."""

import shutil

import numpy as np
import polars as pl
import pytest
import torch

from pal.encoders import vector_store as embeddings
from pipeline import PipelineError, paths, study
from pipeline.storage import tables


def chosen_of(data):
    q, c = data.comparisons.questions, data.comparisons
    rows = torch.where(c.sign > 0, q.first[c.question], q.second[c.question])
    return [data.response_ids[row] for row in rows]


def test_every_pair_with_a_place_is_there_with_its_own_items_and_user(small):
    data = study.load("own")
    pairs = tables.read_table(paths.prepared("own") / tables.PAIRS, "")
    assert len(data.comparisons) == len(data.places) == len(pairs) == 96
    assert chosen_of(data) == pairs["chosen"].to_list()
    q, c = data.comparisons.questions, data.comparisons
    assert [data.prompt_ids[row] for row in q.prompt[c.question]] == pairs["prompt"].to_list()
    assert data.user_ids["seen"] == sorted(data.user_ids["seen"])
    assert (data.n_users("seen"), data.n_users("unseen")) == (6, 2)
    halves = zip(data.places["users"], c.user.tolist(), strict=True)
    assert [data.user_ids[half][user] for half, user in halves] == pairs["user_id"].to_list()


def test_comparisons_of_responses_with_one_vector_are_counted(small):
    """Items of other ids, as texts that differ in what the encoder does not know."""
    data = study.load("own")
    assert study.alike_responses(data) == ""
    data.embeddings.responses[:] = data.embeddings.responses[0]
    said = study.alike_responses(data)
    assert said.startswith("96 of 96 comparisons are of two responses with the same vector: the encoder (")


def test_vectors_have_no_prompts_and_known_groups(small):
    """8 seen users stand at 2 prototypes in turn; the unseen ones go on from the ninth."""
    data = study.load("simulated")
    assert data.embeddings.prompts.shape == (0, 0)
    assert (data.comparisons.questions.prompt == -1).all()
    both = ["prototype 1", "prototype 2"]
    assert data.groups == {"seen": both * 4, "unseen": both * 3}
    assert study.texts(study.items("simulated")) == {}


@pytest.mark.parametrize(
    ("gone", "stage"), [("prepared", "prepare"), ("splits", "split"), ("embeddings", "encode")]
)
def test_a_missing_input_names_the_stage_to_run(small, gone, stage):
    shutil.rmtree(getattr(paths, gone)("own"))
    with pytest.raises(PipelineError, match=rf"run `dvc repro {stage}@own`"):
        study.load("own")


class Toy:
    """Tables and shards of the dataset own, written by hand."""

    def __init__(self) -> None:
        self.pairs: list[dict] = []

    def embed(self, modality, vectors):
        """Embeddings of items, by their ids."""
        ids = sorted(vectors)
        embedder = embeddings.Embedder(f"toy {modality}", "", "", len(vectors[ids[0]]), "float32", "by hand")
        path = paths.embeddings("own") / modality / "shard-00000.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        embeddings.write_shard(path, ids, np.array([vectors[i] for i in ids]), embedder)

    def drop(self, *ids):
        paths.embeddings("own").mkdir(parents=True, exist_ok=True)
        (paths.embeddings("own") / "dropped.csv").write_text("\n".join(["item_id", *ids]))

    def ask(self, user, users, split, prompt, chosen, rejected, **more):
        pair = {"user_id": user, "users": users, "split": split, "prompt": prompt}
        self.pairs.append({**pair, "chosen": chosen, "rejected": rejected, **more})

    def load(self, placed=slice(None)):
        pairs = [{"label": 1.0, **pair} for pair in self.pairs]
        frame = pl.DataFrame(pairs, infer_schema_length=None).with_columns(pair_id=pl.int_range(pl.len()))
        tables.write_table(paths.prepared("own") / tables.PAIRS, frame)
        splits = frame[placed].with_columns(items=pl.lit("known"))
        tables.write_table(paths.splits("own") / tables.SPLITS, splits)
        return study.load("own")


def item(n):
    return f"{n:032x}"


P, A, B, C, D, E = map(item, range(6))


@pytest.fixture
def toy(project):
    """One prompt that is a text of width 2, four responses that are images of width 3."""
    toy = Toy()
    toy.embed("text", {P: [1, 2]})
    toy.embed("image", {A: [1, 0, 0], B: [0, 1, 0], C: [0, 0, 1]})
    toy.ask("ann", "seen", "train", P, A, B)
    toy.ask("bob", "seen", "test", P, B, A)
    toy.ask("cat", "unseen", "test", P, A, C, test="test_unique", filtered="loser")
    return toy


def test_images_answer_texts_each_in_its_own_width(toy):
    data = toy.load()
    assert (data.embeddings.prompts.shape, data.embeddings.responses.shape) == ((1, 2), (3, 3))
    assert (data.prompt_ids, data.response_ids) == ([P], [A, B, C])
    assert {name: each.encoder for name, each in data.embedders.items()} == {
        "prompts": "toy text", "responses": "toy image",
    }  # fmt: skip
    assert len(data.select("unseen", "test", test="test_unique")) == 1
    assert [len(data.select("unseen", "test", filtered=side)) for side in ("winner", "loser")] == [0, 1]
    assert len(data.select("seen", "test", test=None, filtered=None)) == 1
    assert chosen_of(data) == [A, B, A]
    assert data.embeddings.responses[data.response_ids.index(B)].tolist() == [0, 1, 0]


def test_labels_are_kept_where_one_is_not_certain_and_pairs_without_a_place_are_left_out(toy):
    assert toy.load().comparisons.label is None
    toy.pairs[1]["label"] = 0.5
    assert toy.load(placed=slice(1, None)).comparisons.label.tolist() == [0.5, 1]


def test_pairs_of_dropped_items_are_left_out_and_counted(toy):
    """dan's pairs name D, which could not be encoded; he has others, so he stays. eve has none left."""
    toy.drop(D)
    toy.ask("dan", "seen", "train", P, A, D)
    toy.ask("dan", "seen", "train", P, A, B)
    toy.ask("eve", "seen", "train", P, D, B)
    data = toy.load()
    assert (data.dropped, len(data.comparisons), len(data.places)) == (2, 4, 4)
    assert data.user_ids == {"seen": ["ann", "bob", "dan"], "unseen": ["cat"]}
    assert chosen_of(data) == [A, B, A, A]


def test_the_oracle_has_a_prototype_per_group_of_seen_users(toy):
    for pair, group in zip(toy.pairs, ("b", "a", "a"), strict=True):
        pair["group"] = group
    data = toy.load()
    assert data.group_weights("seen").tolist() == [[0, 1], [1, 0]]
    assert data.group_weights("unseen").tolist() == [[1, 0]]
    toy.pairs[2]["group"] = "c"
    assert toy.load().group_weights("unseen") is None
    del toy.pairs[2]["group"]
    assert toy.load().group_weights("seen") is None


NONE_LEFT = r"no pair of own has items that could all be encoded; see data/\S+/dropped\.csv"


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "alone", "message"),
    [
        (P, A, E, False, rf"^1 pairs of own name a rejected without embedding, the first '{E}'; run"),
        (C, A, B, True, NONE_LEFT),
        (P, A, C, True, NONE_LEFT),  # a side that is lost as a whole is not taken for one that never was
    ],
)
def test_items_that_do_not_fit_are_one_sentence(toy, prompt, chosen, rejected, alone, message):
    """D is a text, C could not be encoded, and E was neither encoded nor dropped."""
    toy.embed("text", {P: [1, 2], D: [3, 4]})
    toy.pairs = [] if alone else toy.pairs[:2]
    toy.embed("image", {A: [1, 0, 0], B: [0, 1, 0]})
    toy.drop(C)
    toy.ask("ann", "seen", "train", prompt, chosen, rejected)
    with pytest.raises(PipelineError, match=message):
        toy.load()
