import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig
from pal.errors import PalError
from pal.fitting import trainer
from pal.fitting.trainer import fit
from pal.models.base import margins, mean_loss

HEAD = HeadConfig(model="B", K=2, latent=4, hidden_layers=0, bias=False)
QUICK = FitConfig(epochs=60, learning_rate=0.1, batch_size=200)
BRIEF = FitConfig(epochs=2, batch_size=200)


def accuracy(fitted, embeddings: Embeddings, comparisons: Comparisons) -> float:
    return (margins(fitted.head, fitted.states, embeddings, comparisons) > 0).float().mean().item()


@pytest.mark.parametrize("objective", ["pal", "mixture"])
def test_model_b_learns_two_groups(toy, objective):
    config = QUICK.model_copy(update={"objective": objective})
    fitted = fit(toy.embeddings, toy.train, n_users=20, head=HEAD, config=config)
    assert accuracy(fitted, toy.embeddings, toy.val) > 0.95
    group = fitted.states.argmax(1)
    assert set(group[::2].tolist()) != set(group[1::2].tolist())


def test_same_seed_gives_the_same_result(toy):
    config = BRIEF
    head = HEAD.model_copy(update={"dropout": 0.3, "hidden_layers": 1})
    one, two, other = (
        fit(toy.embeddings, toy.train, n_users=20, head=head, config=config, val=toy.val, seed=seed)
        for seed in (1, 1, 2)
    )
    assert torch.equal(one.states, two.states)
    assert one.history == two.history
    for name, tensor in one.head.state_dict().items():
        assert torch.equal(tensor, two.head.state_dict()[name])
    assert not torch.equal(one.states, other.states)


def test_best_epoch_on_validation_is_kept(toy):
    """A learning rate that is far too high makes epochs of very different worth."""
    config = FitConfig(epochs=12, learning_rate=1.0, schedule="constant", batch_size=200)
    fitted = fit(toy.embeddings, toy.train, n_users=20, head=HEAD, config=config, val=toy.val)
    looks = [(look["val_accuracy"], -look["val_loss"]) for look in fitted.history]
    assert looks[-1] < max(looks)
    assert accuracy(fitted, toy.embeddings, toy.val) == pytest.approx(max(looks)[0])
    found = mean_loss(margins(fitted.head, fitted.states, toy.embeddings, toy.val), toy.val)
    assert found.item() == pytest.approx(-max(looks)[1], rel=1e-5)


def test_patience_ends_a_fit_that_no_longer_gains(toy):
    config = FitConfig(epochs=50, learning_rate=1e-9, weights_learning_rate=1e-9, patience=3, batch_size=0)
    fitted = fit(toy.embeddings, toy.train, n_users=20, head=HEAD, config=config, val=toy.val)
    assert len(fitted.history) < 50


def test_restart_of_lowest_training_loss_is_kept(toy):
    def losses(restarts: int, seed: int) -> float:
        config = BRIEF.model_copy(update={"restarts": restarts})
        return fit(toy.embeddings, toy.train, n_users=20, head=HEAD, config=config, seed=seed).train_loss

    assert losses(3, 0) == min(losses(1, seed) for seed in range(3))


@pytest.mark.parametrize("objective", ["mixture"])
def test_bfloat16_fits_as_well_as_float32(toy, objective):
    """The same starts and batches: both end up right, with weights in float32.

    Long enough to settle: a third of the way there rounding decides who is ahead, on each processor otherwise.
    """
    head = HEAD.model_copy(update={"hidden_layers": 1})
    options = {"objective": objective, "shuffle": "prompts"}
    configs = [QUICK.model_copy(update=options | {"precision": p}) for p in ("float32", "bfloat16")]
    one, two = (
        fit(toy.embeddings, toy.train, n_users=20, head=head, config=config, val=toy.val)
        for config in configs
    )
    assert two.states.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in two.head.state_dict().values())
    assert accuracy(two, toy.embeddings, toy.val) == pytest.approx(
        accuracy(one, toy.embeddings, toy.val), abs=0.03
    )
    assert two.train_loss == pytest.approx(one.train_loss, rel=0.2)


def test_weights_count_in_losses_and_not_in_accuracy(toy):
    """Two validation comparisons, the second counted three times: (l0 + 3 l1) / 4."""
    fitted = fit(toy.embeddings, toy.train, n_users=20, head=HEAD, config=BRIEF)
    two = toy.val[torch.arange(2)]
    weighted = Comparisons(
        two.user, two.question, two.sign, None, two.questions, weight=torch.tensor([1.0, 3.0])
    )
    margin = margins(fitted.head, fitted.states, toy.embeddings, two)
    losses = torch.nn.functional.softplus(-margin)
    assert mean_loss(margin, weighted).item() == pytest.approx(((losses[0] + 3 * losses[1]) / 4).item())
    plain, counted = (
        fit(toy.embeddings, toy.train, n_users=20, head=HEAD, config=BRIEF, val=val)
        for val in (two, weighted)
    )
    assert plain.history[0]["val_accuracy"] == counted.history[0]["val_accuracy"]
    assert plain.history[0]["val_loss"] != counted.history[0]["val_loss"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "train must hold at least one comparison, got none"),
        ({"K": 21}, "K must be at most the number of seen users, 20, got 21; lower K"),
        ({"n_users": 15}, r"user must hold row numbers in \[0, 15\), got 1"),
        ({"weights": torch.ones(20, 3)}, r"states must have the shape .* \(20, 2\), got \(20, 3\)"),
        ({"poison": True}, "the loss became nan in epoch 1; lower learning_rate, or look for NaN"),
    ],
)
def test_fit_refuses_what_it_cannot_use(toy, change, message):
    train = toy.train[torch.arange(change.get("n", len(toy.train)))]
    head = HEAD.model_copy(update={"K": change.get("K", 2)})
    prompts = toy.embeddings.prompts * (float("nan") if "poison" in change else 1)
    embeddings, n = Embeddings(prompts, toy.embeddings.responses), change.get("n_users", 20)
    with pytest.raises(PalError, match=message):
        fit(embeddings, train, n_users=n, head=head, config=BRIEF, states=change.get("weights"))


def test_small_steps_take_one_thread_and_the_number_is_restored(toy, monkeypatch):
    seen = []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for work in (1e10, 0):
            monkeypatch.setattr(trainer, "WORK_FOR_TWO_THREADS", work)
            watch = lambda *_: seen.append(torch.get_num_threads())  # noqa: E731
            fit(toy.embeddings, toy.train, n_users=20, head=HEAD, config=BRIEF, progress=watch)
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1, 2, 2]
