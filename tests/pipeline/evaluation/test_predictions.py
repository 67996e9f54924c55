"""Unseen users, located from none, few and more of their comparisons, drawn or chosen."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pal.serving.reward_model import RewardModel
from pipeline import PipelineError, paths, study
from pipeline.evaluation import predictions
from tests.pipeline.conftest import knobs


@pytest.fixture
def simulated(small):
    return study.load("simulated"), RewardModel.load(paths.models("simulated") / "model")


def test_shots_of_a_draw_are_the_first_of_its_order_so_that_they_lie_within_its_larger_shots(
    simulated, monkeypatch
):
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
    sign = torch.where(
        torch.from_numpy(test.to_numpy().copy()), -data.comparisons.sign, data.comparisons.sign
    )
    turned = SimpleNamespace(
        embeddings=data.embeddings,
        n_users=data.n_users,
        select=lambda users, split: study.Study.select(
            SimpleNamespace(places=data.places, comparisons=replace(data.comparisons, sign=sign)),
            users,
            split,
        ),
    )
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
    with pytest.raises(
        PipelineError, match=r"^evaluate.locate in params.yaml must be posterior where states are no"
    ):
        predictions.locate(data, states, knobs(locate="weights"))
