"""Attributes in the prior: numbers by hand, and effects that were planted or were not."""

from dataclasses import replace

import pytest
import torch

from pal import PalError
from pal.comparisons import Embeddings
from pal.config import registered
from pal.fitting.attributes import AttributePrior, describe_attributes, features_of, fit_attributes
from pal.methods import METHODS
from pal.methods.base import Task
from pal.users.gaussian import Gaussian
from pal.users.points import Points
from tests.pal.conftest import duels

COUNTRIES = ("DE", "FR", "US")


def test_features_are_zero_on_average():
    people = [{"country": "DE", "age": age} for age in (1, 2, 3)] + [
        {"country": "FR", "age": 4 + n} for n in range(3)
    ]
    columns = describe_attributes(people)
    assert columns["country"] == {"shares": {"DE": 0.5, "FR": 0.5}}
    assert columns["age"] == {"mean": 3.5, "sd": pytest.approx(3.5**0.5)}
    x = features_of(columns, people)
    assert x.sum(0).abs().max() < 1e-9
    assert x[0].tolist() == pytest.approx([0.5, -0.5, -2.5 / 3.5**0.5])


def test_what_is_not_known_says_nothing():
    prior = AttributePrior(
        {"country": {"shares": {"DE": 0.5, "FR": 0.5}}}, torch.tensor([[1.0], [4.0], [0.0]])
    )
    assert prior.evidence([{"country": "DE"}, {"country": "FR"}, {"country": "XX"}, {}])[:, 0].tolist() == [
        3,
        -1,
        0,
        0,
    ]


def test_number_must_be_one():
    prior = AttributePrior({"age": {"mean": 40.0, "sd": 10.0}}, torch.tensor([[0.0], [1.0]]))
    assert prior.evidence([{"age": "50"}]).item() == 1
    with pytest.raises(PalError, match=r"^the attribute age must be a number, got 'old'; or leave it out$"):
        prior.evidence([{"age": "old"}])


def gaussian_people(effect, n=200, D=6, answers=12):
    """People with normal states around their country's, the evidence of their noisy answers, the countries."""
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    means = effect * draw(3, D)
    means = means - means.mean(0)
    state = means[torch.arange(n) % 3] + 0.5 * draw(n, D)
    asked = draw(n, answers, D)
    said = (asked @ state[..., None])[..., 0] + draw(n, answers)
    precision, upper = asked.mT @ asked, torch.triu_indices(D, D)
    evidence = torch.cat([(asked.mT @ said[..., None])[..., 0], precision[:, upper[0], upper[1]]], 1)
    population = Gaussian(state.mean(0).float(), torch.cov(state.T).float(), torch.zeros(1))
    return population, evidence, [{"country": COUNTRIES[row % 3]} for row in range(n)], means


def test_planted_means_are_found_and_the_prior_is_narrower():
    population, evidence, people, means = gaussian_people(1.0)
    prior, said = fit_attributes(population, evidence, people)
    assert said.startswith(
        "attributes (country) are in the prior: log-likelihood of a held-out person's answers +"
    )
    belief = population.posterior(prior.evidence([{"country": name} for name in COUNTRIES]))
    # 67 people a country, whose states spread by 0.5: six means are each off by 0.5 / 8 or so.
    assert ((belief.mean - population.mean) - means).square().mean().sqrt() < 0.12
    assert belief.sd.mean() == pytest.approx(0.5, abs=0.1)
    assert population.prior.sd.mean() > 0.8


def test_attributes_that_say_nothing_are_left_out():
    population, evidence, people, _ = gaussian_people(0.0)
    prior, said = fit_attributes(population, evidence, people)
    assert prior is None
    assert said.startswith("attributes (country) are not in the prior: log-likelihood")
    assert fit_attributes(population, evidence, people, judged=False)[0] is not None


def test_masses_of_points_depend_on_attributes():
    """Of two corners Germans are at the first; their answers tell little."""
    points = Points(torch.eye(2), torch.tensor([0.5, 0.5]))
    first = torch.arange(100) % 2 == 0
    evidence = torch.where(first[:, None], torch.tensor([[0.0, -1.0]]), torch.tensor([[-1.0, 0.0]]))
    prior, _ = fit_attributes(
        points, evidence, [{"country": "DE" if each else "FR"} for each in first.tolist()]
    )
    masses = points.posterior(prior.evidence([{"country": "DE"}, {"country": "FR"}, {}])).masses
    assert masses[0, 0] > 0.95
    assert masses[1, 1] > 0.95
    assert masses[2].tolist() == [0.5, 0.5]


def test_too_few_people_and_one_reward_for_all():
    population, evidence, people, _ = gaussian_people(1.0, n=12)
    assert fit_attributes(population, evidence, people)[1].endswith("fewer than 20 people have any")
    alike = Gaussian(population.centre, 0 * population.covariance, torch.zeros(1))
    assert fit_attributes(alike, evidence, people)[1].endswith("which has one state for everyone")


def test_singular_covariance_stays_one():
    """People differ along two of six directions alone, and so does what attributes say."""
    population, evidence, people, _ = gaussian_people(1.0)
    flat = torch.diag(torch.tensor([1.0, 1.0, 0, 0, 0, 0]))
    population = Gaussian(population.centre, flat @ population.covariance @ flat, torch.zeros(1))
    prior, _ = fit_attributes(population, evidence, people)
    belief = population.posterior(prior.evidence([{"country": "DE"}]))
    assert torch.isfinite(prior.effects).all()
    assert (belief.mean[0] - population.centre)[2:].abs().max() < 1e-5
    assert (belief.mean[0] - population.centre)[:2].abs().max() > 0.1


def test_strangers_are_as_well_served_as_by_one_reward_for_their_country():
    """Rewards are linear, people's spread around their country's: within half a point on all pairs of items."""
    generator = torch.Generator().manual_seed(0)
    items, means = torch.randn(80, 4, generator=generator), torch.randn(2, 4, generator=generator)
    country = torch.arange(240) % 2
    rewards = (means[country] + 0.4 * torch.randn(240, 4, generator=generator)) @ items.T
    user = torch.arange(120).repeat_interleave(25)
    train = duels(rewards, user, generator)
    task = Task(Embeddings(torch.zeros(0, 0), items), train, 120)
    people = [{"country": COUNTRIES[each]} for each in country.tolist()]
    learned = registered(METHODS, "mixed_effects").learn(task).with_attributes(task, people[:120])
    states = learned.population.posterior(learned.attributes.evidence(people[:2])).mean.float()
    left, right = torch.triu_indices(80, 80, 1)
    accuracy = {"told": [], "alone": []}
    for each in range(2):
        alone = registered(METHODS, "bt").learn(
            replace(task, train=train[(country[user] == each).nonzero()[:, 0]])
        )
        for name, fitted, state in (
            ("told", learned.fitted, states[each]),
            ("alone", alone.fitted, alone.fitted.states[0]),
        ):
            found = fitted.head.reward(torch.zeros(80, 0), items, state.expand(80, -1))
            true = rewards[120:][country[120:] == each]
            agrees = (found[left] > found[right]) == (true[:, left] > true[:, right])
            accuracy[name].append(agrees.float().mean().item())
    assert min(accuracy["alone"]) > 0.8
    assert sum(accuracy["told"]) / 2 > sum(accuracy["alone"]) / 2 - 0.005
