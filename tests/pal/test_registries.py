"""Members from outside the package in use, and members of the registries that are not there."""

import re

import pytest
import torch

from pal import FitConfig, HeadConfig, PalError, RewardModel, preset
from pal.fitting import OBJECTIVES
from pal.fitting.trainer import fit
from pal.models import MODELS
from pal.users import POPULATIONS
from tests.test_registries import FewPoints, MixedEffects, SmallDeviations


@pytest.fixture
def registered(monkeypatch):
    for registry, name, kind in (
        (MODELS, "mixed-effects", MixedEffects),
        (OBJECTIVES, "small-deviations", SmallDeviations),
        (POPULATIONS, "few points", FewPoints),
    ):
        monkeypatch.setitem(registry, name, kind)


def test_members_from_outside_are_fitted_saved_adapted_and_asked_with(registered, toy, tmp_path):
    head, config = preset(
        "ours", "mixed-effects", fit={"objective": "small-deviations", "population": "few points"}
    )
    fitted = fit(toy.embeddings, toy.train, n_users=20, head=head, config=config, val=toy.val)
    assert fitted.states.shape == (20, 4)
    ids = [f"user {number}" for number in range(20)]
    made = RewardModel.from_fit(fitted, toy.embeddings, user_ids=ids, fit_config=config, encoder={})
    made.save(tmp_path / "model")
    model = RewardModel.load(tmp_path / "model")
    assert model.fingerprint == made.fingerprint
    assert model.score(None, toy.embeddings.responses, user="user 3").shape == (40,)
    like, other = torch.eye(4)[:2]
    taste = model.adapt([(None, like, other)] * 9)
    pair = torch.stack([like, other])
    gain = model.score(None, pair, user=taste) - model.score(None, pair)
    assert gain[0] > gain[1]
    step = taste + model.adapt([(None, other, like)]) - model.adapt([(None, other, like)])
    assert step == taste == type(taste).from_json(taste.to_json(), model)
    assert repr(taste).startswith("Taste(9 comparisons, state ")
    with pytest.raises(PalError, match="are not among these"):
        _ = model.adapt([(None, like, other)]) - model.adapt([(None, other, like)])
    assert [question.index for question in model.ask([(None, like, other)], taste)] == [0]
    assert model.locate(toy.embeddings, toy.adapt, n_users=10).shape == (10, 4)


def test_a_name_that_is_in_no_registry_is_refused_by_the_config(registered):
    assert HeadConfig(model="mixed-effects").model == "mixed-effects"
    for config, options, names in (
        (HeadConfig, {"model": "C"}, MODELS),
        (FitConfig, {"objective": "vote"}, OBJECTIVES),
        (FitConfig, {"population": ["points"]}, POPULATIONS),
    ):
        ((option, given),), known = options.items(), ", ".join(map(repr, names))
        sentence = re.escape(f"{option} must be one of {known}, got {given!r}")
        with pytest.raises(PalError, match=f"^{sentence}$"):
            config.from_options(**options)


def test_a_mixture_needs_a_model_with_prototypes(registered, toy):
    head, config = HeadConfig(model="mixed-effects"), FitConfig(objective="mixture")
    with pytest.raises(PalError, match="objective must be 'pal' for model mixed-effects"):
        fit(toy.embeddings, toy.train, n_users=20, head=head, config=config)
