"""Asking: unseen users located from questions chosen among their own."""

import torch

from pal.serving.reward_model import RewardModel
from pipeline import paths, study
from pipeline.evaluation import asking


def loaded(dataset="simulated"):
    return study.load(dataset), RewardModel.load(paths.models(dataset) / "model")


def test_everything_asked_is_everything_known(small):
    """24 adapt pairs a user: after 24 chosen questions users stand where all of them put them."""
    data, model = loaded()
    found = asking.located(data, model, 50)
    assert list(found) == list(range(1, 25))
    whole = model.locate(data.embeddings, data.select("unseen", "adapt"), n_users=6)
    assert torch.allclose(found[24], whole, atol=1e-4)


def test_users_in_blocks_stand_where_they_stand_together(small, monkeypatch):
    data, model = loaded()
    whole = asking.located(data, model, 3)
    monkeypatch.setattr(asking, "NUMBERS_AT_ONCE", 1)
    blocks = asking.located(data, model, 3)
    assert all(torch.allclose(whole[n], blocks[n], atol=1e-5) for n in (1, 2, 3))


def test_nothing_is_asked_where_nothing_can_be(small):
    data, model = loaded()
    assert asking.located(data, model, 0) == {}
