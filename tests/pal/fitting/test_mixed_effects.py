"""The mixed-effects fit recovers what was planted, and copes with data that say little."""

from dataclasses import replace

import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.config import preset
from pal.fitting.mixed_effects import find_loadings, fit_ridge, fit_shared_part
from pal.fitting.trainer import fit
from pal.models.base import margins
from pal.serving.reward_model import RewardModel
from pal.users.gaussian import Gaussian
from tests.pal.conftest import duels


def planted(spread=1.0):
    """60 people's answers to 60 questions each, by rewards that share a direction, on 200 items."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=draw)
    rewards = 2 * (torch.eye(4)[0] + spread * torch.randn(60, 4, generator=draw)) @ x.T
    return Embeddings(torch.zeros(0, 0), x), duels(rewards, torch.arange(60).repeat_interleave(60), draw)


def fitted(embeddings, comparisons, n_users, **options):
    head, config = preset("ours", "linear", **options)
    return fit(embeddings, comparisons, n_users=n_users, head=head, config=config)


def test_what_is_solved_and_not_descended_is_on_the_cpu_whatever_is_asked_for():
    """A machine with a GPU takes it by default; here there is none, and asking for it does no harm."""
    embeddings, comparisons = planted()
    head, config = preset("ours", "linear")
    found = fit(embeddings, comparisons, n_users=60, head=head, config=config, device="cuda")
    assert found.states.device.type == "cpu"


def test_the_ridges_follow_the_data_by_hand():
    """One question, 30 against 10: log odds 1.1 under no ridge; a learned ridge takes little of it."""
    found = fit_ridge(
        torch.ones(1, 1, dtype=torch.float64), torch.tensor([[0, 0]]), 0,
        torch.tensor([30.0], dtype=torch.float64), torch.tensor([10.0], dtype=torch.float64),
    )  # fmt: skip
    assert 0.8 < float(found.coefficients[0]) < 1.1


def test_how_common_ties_are_by_hand():
    """Of 60 answers on responses that are alike 20 are ties: a third, which is ties / (2 + ties) for 1."""
    thirty = torch.tensor([30.0], dtype=torch.float64)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    found = fit_ridge(zero, torch.tensor([[0, 0]]), 0, thirty, thirty, tied=20.0)
    assert found.ties == pytest.approx(1.0, abs=0.01)


def test_ties_are_learned_from_and_kept_with_the_model():
    embeddings, comparisons = planted()
    label = torch.ones_like(comparisons.sign)
    label[::4] = 0.5
    found = fitted(embeddings, replace(comparisons, label=label), 60)
    assert 0.2 < float(found.population.ties) < 3
    assert float(fitted(embeddings, comparisons, 60).population.ties) == 0
    assert torch.equal(Gaussian.from_tensors(found.population.tensors()).ties, found.population.ties)


def test_item_effects_are_found_again_by_embedding_and_unknown_items_have_none():
    embeddings, comparisons = planted(spread=0.0)
    model = fitted(embeddings, comparisons, 60).head
    known = model.known_item(embeddings.responses * (1 + 1e-7))
    assert bool((known >= 0).all())
    assert len(torch.unique(known)) == 200
    assert bool((model.known_item(torch.full((5, 4), 9.0)) < 0).all())


@pytest.mark.parametrize(
    "rows",
    [
        [(0, 0, 1)],  # one person, one answer
        [(0, 0, 1), (0, 1, 0), (1, 0, 1)],  # contradicting answers
        [(user, 0, 1) for user in range(5)] * 4,  # separable: everyone prefers the same
        [(user, 2 * user, 2 * user + 1) for user in range(5)],  # fewer answers than directions
    ],
)
def test_data_that_say_little_give_a_finite_model(rows, tmp_path):
    user, chosen, rejected = torch.tensor(rows).T
    embeddings = Embeddings(torch.zeros(0, 0), torch.randn(10, 6, generator=torch.Generator().manual_seed(0)))
    comparisons = Comparisons.from_pairs(user=user, prompt=None, chosen=chosen, rejected=rejected)
    n_users = int(user.max()) + 1
    found = fitted(embeddings, comparisons, n_users)
    config = preset("ours", "linear")[1]
    ids = [str(number) for number in range(n_users)]
    saved = RewardModel.from_fit(found, embeddings, user_ids=ids, fit_config=config, encoder={})
    saved.save(tmp_path / "model")
    loaded = RewardModel.load(tmp_path / "model")
    assert loaded.fingerprint == saved.fingerprint
    margin = margins(loaded.head, loaded.states, embeddings, comparisons)
    assert bool(torch.isfinite(margin).all())
    assert float(margin.abs().max()) < 20


def test_products_find_a_taste_that_depends_on_the_prompt():
    """Everyone prefers the response that points as the prompt does, or, half of them, the other one."""
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randn(40, 3, generator=generator)
    responses = torch.randn(60, 3, generator=generator)
    user = torch.arange(40).repeat_interleave(40)
    prompt = torch.randint(40, user.shape, generator=generator)
    rows = torch.stack([torch.randperm(60, generator=generator)[:2] for _ in user])
    side = torch.where(user % 2 == 0, 1.0, -1.0)
    margin = side * (prompts[prompt] * (responses[rows[:, 0]] - responses[rows[:, 1]])).sum(1)
    chosen = torch.where(margin > 0, rows[:, 0], rows[:, 1])
    rejected = torch.where(margin > 0, rows[:, 1], rows[:, 0])
    comparisons = Comparisons.from_pairs(user=user, prompt=prompt, chosen=chosen, rejected=rejected)
    embeddings = Embeddings(prompts, responses)
    found = fitted(embeddings, comparisons, 40, head={"inputs": "products"})
    assert (margins(found.head, found.states, embeddings, comparisons) > 0).float().mean() > 0.85
    alone = fitted(embeddings, comparisons, 40)
    assert (margins(alone.head, alone.states, embeddings, comparisons) > 0).float().mean() < 0.75


@pytest.mark.parametrize(("strength", "factors"), [(2.0, 1), (0.0, 0)])
def test_likings_that_vary_together_are_found_where_few_compare_the_same_two_items(strength, factors):
    """Each of 400 people compares 8 of 60 items; those of one half are liked together, or likings are alike."""
    generator = torch.Generator().manual_seed(0)
    x, kind = torch.randn(60, 4, generator=generator), torch.sign(torch.randn(60, generator=generator))
    liking = strength * torch.outer(torch.randn(400, generator=generator), kind)
    seen = torch.stack([torch.randperm(60, generator=generator)[:8] for _ in liking])
    pairs = torch.combinations(torch.arange(8))
    user = torch.arange(400).repeat_interleave(len(pairs))
    rows = seen[:, pairs].flatten(0, 1)
    margin = liking[user, rows[:, 0]] - liking[user, rows[:, 1]]
    ahead = torch.rand(len(user), generator=generator) < torch.sigmoid(margin)
    sides = torch.where(ahead[:, None], rows, rows.flip(1))
    train = Comparisons.from_pairs(user=user, prompt=None, chosen=sides[:, 0], rejected=sides[:, 1])
    embeddings = Embeddings(torch.zeros(0, 0), x)
    head, _ = preset("ours", "linear", head={"latent": 4, "item_directions": 60})
    model, _ = fit_shared_part(head, embeddings, train)
    found, _ = find_loadings(model, embeddings, train)
    assert found.shape == (60, factors)
    if factors:
        own = model.known_item(x)
        assert torch.corrcoef(torch.stack([found[own, 0], kind]))[0, 1].abs() > 0.95


def test_loadings_of_a_new_item_are_what_its_embedding_tells():
    """Of 400 people half like what the other half dislikes; the first number of an item tells which, in part."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 6, generator=generator)
    liking = torch.outer(
        1.0 - 2 * (torch.arange(400) % 2), 2 * x[:, 0] + torch.randn(100, generator=generator)
    )
    seen = torch.stack([torch.randperm(80, generator=generator)[:12] for _ in liking])  # the last 20 are new
    user = torch.arange(400).repeat_interleave(6)
    rows = seen.view(-1, 2)
    ahead = liking[user, rows[:, 0]] > liking[user, rows[:, 1]]
    sides = torch.where(ahead[:, None], rows, rows.flip(1))
    train = Comparisons.from_pairs(user=user, prompt=None, chosen=sides[:, 0], rejected=sides[:, 1])
    embeddings = Embeddings(torch.zeros(0, 0), x)
    model = fitted(embeddings, train, 400, head={"latent": 6, "item_directions": 1}).head
    read = model.read(x[:0], x, torch.zeros(100, dtype=torch.long))
    loading = read[:, 7]  # after six directions and an item's own
    assert torch.corrcoef(torch.stack([loading[80:], x[80:, 0]]))[0, 1].abs() > 0.95
    assert torch.corrcoef(torch.stack([loading[:80], liking[0, :80]]))[0, 1].abs() > 0.95


@pytest.mark.parametrize(("users", "items", "liked"), [(1, 10, 0), (2, 3, 3), (30, 3000, 0)])
def test_where_nobody_or_nothing_recurs_there_are_no_factors(users, items, liked):
    """One person and two, who compare few of their items twenty times, and 30 with hardly an item in common."""
    draw = torch.Generator().manual_seed(0)
    user = torch.arange(users).repeat_interleave(30)
    sides = torch.stack([torch.randperm(items, generator=draw)[:2] for _ in user])
    train = Comparisons.from_pairs(user=user, prompt=None, chosen=sides[:, 0], rejected=sides[:, 1])
    embeddings = Embeddings(torch.zeros(0, 0), torch.randn(items, 4, generator=draw))
    found = fitted(embeddings, train, users, head={"latent": 4, "item_directions": 128})
    assert found.head.config.item_directions == liked
    assert bool(torch.isfinite(found.states).all())
