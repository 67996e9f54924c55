"""A model, an objective and a population from outside the package: a class and a line in a registry each."""

import pytest
import torch

from pal import FitConfig, HeadConfig, PalError, RewardModel, fit, preset
from pal.fitting import OBJECTIVES
from pal.fitting.per_comparison import PerComparison
from pal.models import MODELS
from pal.models.base import PreferenceModel
from pal.users import POPULATIONS
from pal.users.population import Population, Posterior


class Directions(PreferenceModel):
    """reward = state . response: a state is any vector, and no prompt is read."""

    linear = True

    def __init__(self, config, *, prompt_dim, response_dim):
        super().__init__()
        self.config, self.scale = config, torch.nn.Parameter(torch.ones(response_dim))

    @property
    def state_dim(self):
        return len(self.scale)

    def question_features(self, embeddings, questions):
        e = embeddings.responses
        return (e[questions.first] - e[questions.second]) * self.scale

    def margin(self, features, states):
        return (features * states).sum(1)

    def margins_at(self, features, states):
        return features @ states.T

    def reward(self, prompts, responses, states):
        return (responses * self.scale * states).sum(1)


class Gaussian(Population):
    """States about a mean with one variance; evidence is the natural parameters of a linearised answer."""

    name, evidence_name = "gaussian", "natural_parameters"

    def __init__(self, centre, variance):
        self.centre, self.variance = centre, variance

    @classmethod
    def from_states(cls, states):
        return cls(states.mean(0), states.var(0))

    @classmethod
    def from_tensors(cls, tensors):
        return cls(tensors["centre"], tensors["variance"])

    def tensors(self):
        return {"centre": self.centre, "variance": self.variance}

    def check(self, model):
        model.check_states(self.centre[None], "population.centre")

    mean = property(lambda self: self.centre)
    prior = property(lambda self: self.posterior(torch.zeros(self.evidence_size)))
    evidence_size = property(lambda self: 2 * len(self.centre))

    def evidence(self, model, embeddings, comparisons, loss="logistic"):
        direction = model.question_features(embeddings, comparisons.questions[comparisons.question])
        return torch.cat([direction * comparisons.sign[:, None] / 2, direction.square() / 4], 1)

    def posterior(self, evidence):
        slope, precision = evidence.chunk(2, -1)
        precision = precision + 1 / self.variance
        mean = (self.centre / self.variance + slope) / precision
        spread = precision.rsqrt()[..., None, :] * torch.tensor([-1.0, 1.0])[:, None]
        return Posterior(mean[..., None, :] + spread, mean.new_full((*mean.shape[:-1], 2), 0.5))


class Halved(PerComparison):
    """Half the paper's loss."""

    def loss(self, model, batch, done):
        return super().loss(model, batch, done) / 2


@pytest.fixture
def registered(monkeypatch):
    for registry, name, kind in (
        (MODELS, "directions", Directions),
        (OBJECTIVES, "halved", Halved),
        (POPULATIONS, "gaussian", Gaussian),
    ):
        monkeypatch.setitem(registry, name, kind)


def test_members_from_outside_are_fitted_saved_adapted_and_asked_with(registered, toy, tmp_path):
    head, config = preset("ours", "directions", fit={"objective": "halved", "population": "gaussian"})
    fitted = fit(toy.embeddings, toy.train, n_users=20, head=head, config=config, val=toy.val)
    assert fitted.states.shape == (20, 4)
    ids = [f"user {number}" for number in range(20)]
    made = RewardModel.of(fitted, toy.embeddings, user_ids=ids, fit_config=config, encoder={})
    made.save(tmp_path / "model")
    model = RewardModel.load(tmp_path / "model")
    assert model.fingerprint == made.fingerprint
    assert model.score(None, toy.embeddings.responses, user="user 3").shape == (40,)
    like, other = torch.eye(4)[:2]
    taste = model.adapt([(None, like, other)] * 9)
    reward = model.score(None, torch.stack([like, other]), user=taste)
    assert reward[0] > reward[1]
    step = taste + model.adapt([(None, other, like)]) - model.adapt([(None, other, like)])
    assert step == taste == type(taste).from_json(taste.to_json(), model)
    assert "effective states" in taste._repr_html_()
    with pytest.raises(PalError, match="are not among these"):
        _ = model.adapt([(None, like, other)]) - model.adapt([(None, other, like)])
    assert [question.index for question in model.ask([(None, like, other)], taste)] == [0]
    assert model.locate(toy.embeddings, toy.adapt, n_users=10).shape == (10, 4)


def test_a_name_that_is_in_no_registry_is_refused_by_the_config(registered):
    assert HeadConfig(model="directions").model == "directions"
    for config, options, known in (
        (HeadConfig, {"model": "C"}, "'A', 'B', 'directions', got 'C'"),
        (FitConfig, {"objective": "vote"}, "'pal', 'mixture', 'halved', got 'vote'"),
        (FitConfig, {"population": ["points"]}, r"'points', 'gaussian', got \['points'\]"),
    ):
        with pytest.raises(PalError, match=f"^{next(iter(options))} must be one of {known}$"):
            config.from_options(**options)


def test_a_mixture_needs_a_model_with_prototypes(registered, toy):
    with pytest.raises(PalError, match="objective must be 'pal' for model directions"):
        fit(
            toy.embeddings,
            toy.train,
            n_users=20,
            head=HeadConfig(model="directions"),
            config=FitConfig(objective="mixture"),
        )
