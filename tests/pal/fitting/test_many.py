from dataclasses import replace

import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig, preset
from pal.errors import PalError
from pal.fitting.fit import fit, margins
from pal.fitting.many import Job, fit_many, joined

B = HeadConfig(model="B", K=3, latent=4, hidden=5)
A = HeadConfig(model="A", K=2, latent=3, hidden=5)
MIXTURE = FitConfig(objective="mixture", epochs=12, batch_size=0, validate_every=3, restarts=2)
PAL = FitConfig(epochs=6, batch_size=300, validate_every=2)


def _alone(toy, job, config):
    given = {"val": job.val, "weights": job.weights, "seed": job.seed}
    return fit(toy.embeddings, job.train, n_users=job.n_users, head=job.head, config=config, **given)


def _assert_same(toy, found, expected):
    """Equal but for rounding; not each parameter, as those without a gradient (f's bias) follow rounding."""
    assert torch.allclose(found.weights, expected.weights, atol=1e-4)
    assert found.train_loss == pytest.approx(expected.train_loss, abs=1e-4)
    for look, other in zip(found.history, expected.history, strict=True):
        assert look == pytest.approx(other, abs=1e-3)
    mine, other = (
        margins(fitted.head, fitted.weights, toy.embeddings, toy.val) for fitted in (found, expected)
    )
    assert torch.allclose(mine, other, atol=1e-3)


@pytest.mark.parametrize(
    ("head", "config"),
    [
        (B, MIXTURE),
        (B.model_copy(update={"dropout": 0.3}), MIXTURE),
        (B.model_copy(update={"normalise": "mixed", "learn_scale": True}), MIXTURE),
        (B.model_copy(update={"similarity": "inner", "hidden_layers": 2}), PAL),
        (B, PAL.model_copy(update={"shuffle": "prompts", "optimiser": "adam", "schedule": "constant"})),
        (A, MIXTURE),
        (A.model_copy(update={"prototypes": "projected", "distance": "l2"}), PAL),
        (A.model_copy(update={"prototypes": "input", "inputs": "prompt_and_response"}), PAL),
        (A.model_copy(update={"K": 1}), MIXTURE),
        (B, PAL.model_copy(update={"weighting": "users", "best_by": "loss", "loss": "smooth_hinge"})),
        (A.model_copy(update={"hidden": 0, "normalise_inputs": True}), MIXTURE),
    ],
)
def test_a_job_gives_what_fit_gives(toy, head, config):
    job = Job(toy.train, toy.n_users, head, seed=5, val=toy.val)
    [found] = fit_many(toy.embeddings, [job], config=config)
    _assert_same(toy, found, _alone(toy, job, config))


def test_jobs_beside_each_other_are_as_each_alone(toy):
    other = toy.train[torch.arange(0, 1000, 2)]
    head = B.model_copy(update={"dropout": 0.3})
    jobs = [
        Job(toy.train, toy.n_users, head, seed=1, val=toy.val),
        Job(other, toy.n_users, head, seed=2, val=toy.val),
        Job(toy.train, toy.n_users, head.model_copy(update={"K": 2}), seed=1),
        Job(toy.train, toy.n_users, head.model_copy(update={"K": 1}), seed=4, val=toy.val),
    ]
    together = fit_many(toy.embeddings, jobs, config=MIXTURE)
    for job, found in zip(jobs, together, strict=True):
        assert found.head.config.K == job.head.K
        _assert_same(toy, found, fit_many(toy.embeddings, [job], config=MIXTURE)[0])


def test_batches_of_different_length_do_not_disturb_each_other(toy):
    jobs = [
        Job(toy.train[torch.arange(n)], toy.n_users, A, seed=n, val=toy.val) for n in (1000, 950, 400, 10)
    ]
    for job, found in zip(jobs, fit_many(toy.embeddings, jobs, config=PAL), strict=True):
        _assert_same(toy, found, _alone(toy, job, PAL))


def test_known_weights_stay_as_given(toy):
    weights = torch.eye(3)[torch.arange(toy.n_users) % 3]
    job = Job(toy.train, toy.n_users, B, weights=weights)
    [found] = fit_many(toy.embeddings, [job], config=MIXTURE)
    assert torch.equal(found.weights, weights)
    _assert_same(toy, found, _alone(toy, job, MIXTURE))


def test_labels_and_weights_count_as_in_fit(toy):
    train = replace(toy.train, label=torch.rand(1000), weight=1 + torch.rand(1000))
    for config in (MIXTURE, PAL):
        job = Job(train, toy.n_users, B, seed=3, val=toy.val)
        _assert_same(toy, fit_many(toy.embeddings, [job], config=config)[0], _alone(toy, job, config))


def test_patience_is_each_jobs_own(toy):
    config = PAL.model_copy(update={"epochs": 30, "validate_every": 1, "patience": 3})
    jobs = [Job(toy.train, toy.n_users, A, seed=seed, val=toy.val) for seed in range(3)]
    found = fit_many(toy.embeddings, jobs, config=config)
    lengths = [len(fitted.history) for fitted in found]
    assert lengths == [len(_alone(toy, job, config).history) for job in jobs]
    assert len(set(lengths)) > 1


def test_a_mixture_in_batches_learns_what_it_learns_at_once(toy):
    config = MIXTURE.model_copy(update={"epochs": 40, "batch_size": 250, "learning_rate": 0.05})
    job = Job(toy.train, toy.n_users, B.model_copy(update={"K": 2}), val=toy.val)
    [found] = fit_many(toy.embeddings, [job], config=config)
    assert max(look["val_accuracy"] for look in found.history) > 0.8


def test_tables_of_their_own_are_joined(toy):
    other = Embeddings(torch.randn(7, 4), torch.randn(9, 4))
    pairs = torch.arange(8)
    train = Comparisons.of(user=pairs % 4, prompt=pairs % 7, chosen=pairs, rejected=pairs + 1)
    jobs = [Job(toy.train, toy.n_users, B, val=toy.val), Job(train, 4, B), Job(train, 4, B, seed=1)]
    embeddings, moved = joined([toy.embeddings, other], jobs, [0, 1, 1])
    assert moved[1].train is moved[2].train
    found = fit_many(embeddings, moved, config=MIXTURE)
    _assert_same(toy, found[0], _alone(toy, jobs[0], MIXTURE))
    alone = fit(other, train, n_users=4, head=B, config=MIXTURE, seed=1)
    assert torch.allclose(found[2].weights, alone.weights, atol=1e-4)


def test_vectors_without_prompts_are_joined(toy):
    tables = [Embeddings(torch.empty(0, 0), torch.randn(n, 4)) for n in (5, 6)]
    pairs = torch.arange(4)
    train = Comparisons.of(user=pairs % 2, prompt=None, chosen=pairs, rejected=pairs + 1)
    embeddings, [job] = joined(tables, [Job(train, 2, A)], [1])
    assert job.train.questions.prompt.tolist() == [-1] * 4
    assert job.train.questions.first.tolist() == [5, 6, 7, 8]
    [found] = fit_many(embeddings, [job], config=PAL)
    alone = fit(tables[1], train, n_users=2, head=A, config=PAL)
    assert torch.allclose(found.weights, alone.weights, atol=1e-4)


def test_heads_may_differ_in_k_alone(toy):
    jobs = [Job(toy.train, toy.n_users, head) for head in (B, B.model_copy(update={"latent": 5}))]
    with pytest.raises(PalError, match=r"K alone, got .*latent=5.* in job 1"):
        fit_many(toy.embeddings, jobs, config=PAL)


def test_what_fit_refuses_is_refused(toy):
    with pytest.raises(PalError, match="at least one comparison"):
        fit_many(toy.embeddings, [Job(toy.train[torch.arange(0)], 20, B)], config=PAL)
    with pytest.raises(PalError, match="K must be at most"):
        fit_many(toy.embeddings, [Job(toy.train, 2, B)], config=PAL)


def test_progress_counts_restarts(toy):
    seen = []
    jobs = [Job(toy.train, toy.n_users, B, seed=seed) for seed in range(2)]
    fit_many(toy.embeddings, jobs, config=MIXTURE, progress=lambda *at: seen.append(at))
    assert seen[-1] == (4, 4)


def test_half_precision_is_fitted_one_by_one(toy):
    config = PAL.model_copy(update={"precision": "bfloat16"})
    job = Job(toy.train, toy.n_users, B, val=toy.val)
    [found] = fit_many(toy.embeddings, [job], config=config)
    assert torch.equal(found.weights, _alone(toy, job, config).weights)


@pytest.mark.parametrize(("name", "model"), [("paper", "A"), ("authors", "A"), ("authors", "B")])
def test_other_presets_stack(toy, name, model):
    options = {"K": 2, "latent": 4, "dropout": 0.0}
    head, config = preset(name, model, head=options, fit={"epochs": 3, "batch_size": 100})
    jobs = [Job(toy.train, toy.n_users, head, seed=seed, val=toy.val) for seed in range(3)]
    for job, found in zip(jobs, fit_many(toy.embeddings, jobs, config=config), strict=True):
        _assert_same(toy, found, _alone(toy, job, config))
