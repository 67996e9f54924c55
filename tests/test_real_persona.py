"""Anthropic's real statements, the real encoder, the shipped parameters: the figures that the project promises.

Looked for in PAL_PERSONA, else in ../shared/data/persona; `make bench` measures more of them, over more seeds.
"""

import pytest
import torch

from benchmarks.persona import accuracy_bound, known_answers
from benchmarks.studies import draw, real_persona, values
from pal.fitting.trainer import Fitted, fit
from pal.models.base import margins
from pal.users.points import Points
from pal.users.population import adapt
from pipeline.datasets.persona import is_yes

pytestmark = pytest.mark.skipif(
    real_persona() is None,
    reason="Anthropic's Persona files are not here (PAL_PERSONA, ../shared/data/persona)",
)


@pytest.fixture(scope="module")
def given():
    return values("persona", 0, source=str(real_persona()), unseen_users_per_group=100)


@pytest.fixture(scope="module")
def data(given):
    return draw("persona", given)


def fitted(data, given, K: int) -> Fitted:
    given = given.model_copy(update={"model": given.model.model_copy(update={"K": K})})
    head, config = given.configs("persona")
    return fit(
        data.embeddings,
        data.select("seen", "train"),
        n_users=data.n_users("seen"),
        head=head,
        config=config.model_copy(update={"restarts": 1}),
        val=data.select("seen", "val"),
    )


def accuracy(data, found: Fitted, pairs, weights: torch.Tensor | None = None) -> float:
    margin = margins(found.head, found.states if weights is None else weights, data.embeddings, pairs)
    return float((margin > 0).float().mean())


def test_one_reward_for_everyone_stays_at_the_floor(data, given):
    pairs = data.select("seen", "test", "known")
    floor = 1 - float(is_yes(data, pairs).float().mean())
    assert accuracy(data, fitted(data, given, 1), pairs) == pytest.approx(floor, abs=0.005)


def test_three_prototypes_serve_three_groups_on_known_and_new_statements_and_new_users(data, given):
    found = fitted(data, given, 3)
    assert accuracy(data, found, data.select("seen", "test", "known")) >= 0.997
    assert accuracy(data, found, data.select("seen", "test", "new")) >= 0.99
    shown, pairs = data.select("unseen", "adapt"), data.select("unseen", "test", "known")
    twenty = shown[(torch.arange(len(shown)) % given.persona.prepare.adapt_pairs < 20).nonzero().squeeze(1)]
    n_users = data.n_users("unseen")
    weights = adapt(found.head, Points.from_states(found.states), data.embeddings, twenty, n_users=n_users)
    bound = accuracy_bound(known_answers(data, given), data, twenty, pairs, n_users)
    assert accuracy(data, found, pairs, weights) >= bound - 0.003
