"""Unseen users, located from none, few and more comparisons, drawn or chosen; baselines, by hand."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.encoders.vector_store import Embedder
from pal.serving.reward_model import RewardModel
from pipeline import PipelineError, paths, study
from pipeline.evaluation import predictions
from tests.pipeline.conftest import knobs


@pytest.fixture
def simulated(small):
    return study.load("simulated"), RewardModel.load(paths.models("simulated") / "model")


def test_shots_of_a_draw_are_the_first_of_its_order_and_so_lie_within_larger_shots(simulated, monkeypatch):
    """The orders are spied on: from n shots users stand where the library puts them by their first n."""
    places = []
    real = predictions.places_in_user

    def spied(*args):
        places.append(real(*args))
        return places[-1]

    monkeypatch.setattr(predictions, "places_in_user", spied)
    data, model = simulated
    located = predictions.locate(data, model, knobs())
    pairs = data.select("unseen", "adapt")
    assert len(places) == 20
    for draw, place in enumerate(places):
        rows = {n: (place < n).nonzero().squeeze(1) for n in (1, 5, 20)}
        assert [len(each) for each in rows.values()] == [6, 30, 120]
        for n, first in rows.items():
            expected = model.locate(data.embeddings, pairs[first], n_users=6)
            assert torch.allclose(located[n][draw], expected, atol=1e-5)


def test_shots_come_from_adapt_pairs_and_never_from_test_pairs(simulated):
    data, model = simulated
    test = (data.places["users"] == "unseen") & (data.places["split"] == "test")
    sign = data.comparisons.sign
    sign = torch.where(torch.from_numpy(test.to_numpy().copy()), -sign, sign)
    turned = replace(data, comparisons=replace(data.comparisons, sign=sign))
    before, after = (predictions.locate(each, model, knobs()) for each in (data, turned))
    assert all(torch.equal(a, b) for n in before for a, b in zip(before[n], after[n], strict=True))


def test_free_weights_fit_the_shots_best(simulated):
    """Of the very shots no state has a lower loss, and one prototype leaves nothing to fit."""
    data, model = simulated
    pairs = data.select("unseen", "adapt")
    shots = {"shots": [24], "headline_shots": 24}
    located = {
        way: predictions.locate(data, model, knobs(locate=way, **shots)) for way in ("posterior", "weights")
    }
    assert torch.equal(located["weights"][0][0], located["posterior"][0][0])
    loss = {}
    for way, states in located.items():
        (margins,) = predictions.margins_by(model, [states[24][0]], data, pairs)
        loss[way] = torch.zeros(6).index_add(0, pairs.user, torch.nn.functional.softplus(-margins))
    assert (loss["weights"] <= loss["posterior"] + 1e-4).all()
    assert (loss["weights"] < loss["posterior"] - 1e-3).any()


def test_free_weights_need_weights(simulated):
    data, model = simulated
    states = SimpleNamespace(
        head=torch.nn.Linear(1, 1), population=None, fit_config=model.fit_config, config=model.config
    )
    message = r"^evaluate.locate in params.yaml must be posterior where states are no"
    with pytest.raises(PipelineError, match=message):
        predictions.locate(data, states, knobs(locate="weights"))


CLIP = Embedder("clip-vit-h-14", "w", "f", 2, "float32", "as published")


def answers(rows, label=None):
    """Comparisons from rows of (prompt, chosen, rejected)."""
    prompt, chosen, rejected = torch.tensor(rows).T
    label = None if label is None else torch.tensor(label)
    return Comparisons.from_pairs(
        user=torch.zeros(len(rows)).long(), prompt=prompt, chosen=chosen, rejected=rejected, label=label
    )


# Five pairs of responses, 2 to 11, each met once: with them there are more than ten answers.
MANY = [(0, n, n + 1) for n in range(2, 12, 2)]


def test_where_answers_are_few_the_commoner_one_wins_everywhere_and_soft_labels_vote_in_part():
    """Yes (0) is chosen once and no (1) three times: the net of -2 over 4 met, halved, is -1/4; +1/4 for no.
    The margin is 1/2 for no, also on the prompt where yes won."""
    found = answers([(0, 0, 1), (1, 1, 0), (2, 1, 0), (3, 1, 0)])
    assert predictions.majority(found)(found).tolist() == [-0.5, 0.5, 0.5, 0.5]
    soft = answers([(0, 0, 1), (1, 1, 0)], label=[0.75, 0.5])  # a net of 1/2 over 2 met, halved: 1/8
    assert predictions.majority(soft)(soft).tolist() == [0.25, -0.25]


def test_where_answers_are_many_the_votes_on_the_same_question_win():
    """Two of three take 0 over 1 on prompt 0: a vote of +1 for who chose 0, -1 for who chose 1."""
    found = answers([(0, 0, 1), (0, 0, 1), (0, 1, 0), *MANY])
    assert predictions.majority(found)(found[torch.arange(3)]).tolist() == [1, 1, -1]


def data_of(rows, prompts=None, responses=None, embedders=(CLIP, CLIP), ids=None):
    """What baselines read of a study: rows of (prompt, chosen, rejected), all of them training too."""
    vectors = torch.zeros(12, 2) if responses is None else torch.tensor(responses)
    pairs = answers(rows)
    return SimpleNamespace(
        embeddings=Embeddings(vectors if prompts is None else torch.tensor(prompts), vectors),
        embedders=dict(zip(("prompts", "responses"), embedders, strict=True)),
        response_ids=ids or [f"item {n}" for n in range(12)],
        select=lambda users, split: pairs,
        comparisons=pairs,
    )


def test_the_longer_text_wins_by_its_characters():
    """Lengths are the item's numbers: 7 over 2 by 5, 2 over 7 by -5."""
    found = answers([(0, 7, 2), (1, 2, 7)])
    assert predictions.longer(torch.arange(12), found).tolist() == [5, -5]


def test_the_response_nearer_to_its_prompt_wins():
    """Prompt (2, 0). Cosines: 1 with (3, 0), 0.6 with (3, 4), 0 with (0, 5)."""
    responses = [[3.0, 0.0], [3.0, 4.0], [0.0, 5.0]]
    data = data_of([(0, 0, 1), (0, 2, 1)], prompts=[[2.0, 0.0]], responses=responses)
    assert predictions.similarity(data, data.comparisons).tolist() == pytest.approx([0.4, -0.6])


NONE, OTHER = replace(CLIP, encoder="none"), replace(CLIP, files_sha256="other")


@pytest.mark.parametrize("embedders", [(None, CLIP), (NONE, NONE), (OTHER, CLIP)])
def test_only_one_encoder_the_same_to_the_last_file_puts_both_into_one_space(embedders):
    assert not predictions.in_one_space(data_of(MANY, embedders=embedders))
