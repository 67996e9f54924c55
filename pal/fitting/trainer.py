"""Fitting: learn the shared model and the states of the seen users, with early stopping and restarts.

Embeddings stay on the device and batches are gathered by row number; what does not depend on the user is
computed once per distinct question of a batch. Randomness comes from the seed alone.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig, registered
from pal.errors import PalError
from pal.fitting import OBJECTIVES
from pal.fitting.objectives import Objective, PerComparison, user_balanced
from pal.models.base import PreferenceModel, make_model, margins, mean_loss
from pal.users.population import Population

Progress = Callable[[int, float], None]

# Multiply-adds of a step's forward pass (comparisons times parameters) from which on a second thread is used.
WORK_FOR_TWO_THREADS = 1e10


@dataclass(frozen=True)
class Fitted:
    """The result of a fit: the shared model, in evaluation mode, and the seen users' states."""

    head: PreferenceModel
    states: Float[Tensor, "users s"]
    train_loss: float  # mean over the training comparisons, dropout off
    # One entry per validation: epoch, loss, and val_loss and val_accuracy where there are such comparisons.
    history: list[dict[str, float]] = field(default_factory=list)
    population: Population | None = None  # for objectives that learn it; None has it read off the states


def fit(
    embeddings: Embeddings,
    train: Comparisons,
    *,
    n_users: int,
    head: HeadConfig,
    config: FitConfig,
    val: Comparisons | None = None,
    states: Float[Tensor, "users s"] | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> Fitted:
    """Fit a model and the states of the seen users, whose comparisons are `train`.

    The best epoch on `val` is kept, or else the last; of restarts the best. `states` are held fixed where
    they are given, as for users whose group is known. What is solved and not descended is computed on the
    CPU, whatever the device. The same seed gives the same result on the same machine. `progress` is called
    after each epoch with its number and its mean loss.
    """
    if not len(train):
        raise PalError("train must hold at least one comparison, got none")
    if n_users < head.K and states is None:
        raise PalError(f"K must be at most the number of seen users, {n_users}, got {head.K}; lower K")
    kind = registered(OBJECTIVES, config.objective)
    descends = isinstance(kind, type)
    device = device if descends else "cpu"
    embeddings, train = embeddings.to(device), train.to(device)
    if config.weighting == "users":
        train = user_balanced(train, n_users)
    val = val.to(device) if val is not None and len(val) else None
    if not descends:
        options = {"head": head, "config": config, "val": val, "seed": seed, "progress": progress}
        return kind(embeddings, train, n_users=n_users, **options)

    def restart(number: int) -> Fitted:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + number)
            model = make_model(head, **embeddings.dims).to(device)
            for comparisons in filter(None, (train, val)):
                comparisons.check(embeddings, n_users=n_users, needs_prompts=model.needs_prompts)
            given, shape = states, (n_users, model.state_dim)
            if given is not None and tuple(given.shape) != shape:
                raise PalError(f"states must have the shape (n_users, K) = {shape}, got {tuple(given.shape)}")
            if model.shared_state is not None:
                given = model.shared_state.expand(shape)
            task = (embeddings, train, config, n_users, model)
            objective = kind(*task) if given is None else PerComparison(*task, given.clone())
            objective.to(device)
            history = descend(model, objective, embeddings, val, config, progress)
        model.eval()
        with torch.inference_mode(), training_threads(model, objective):
            final = objective.states(model)
            loss = mean_loss(margins(model, final, embeddings, train), train, config.loss).item()
        check_finite(loss, config.epochs)
        return Fitted(model.requires_grad_(requires_grad=False), final.clone(), loss, history)

    return min(map(restart, range(config.restarts)), key=lambda fitted: fitted.train_loss)


def descend(
    model: PreferenceModel,
    objective: Objective,
    embeddings: Embeddings,
    val: Comparisons | None,
    config: FitConfig,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Run the epochs, and leave model and objective as they were at the best validation.

    Begins at the model's present parameters; returns the validations, as in `Fitted.history`.
    """
    optimiser = make_optimiser(model, objective, config)
    epochs, interval = config.epochs, config.validate_every
    if config.max_steps and epochs * objective.n_batches > config.max_steps:
        epochs = max(1, config.max_steps // objective.n_batches)
        interval = max(1, round(interval * epochs / config.epochs))
    schedule = None
    if config.schedule != "constant":
        peaks, steps = [group["lr"] for group in optimiser.param_groups], max(epochs * objective.n_batches, 2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, peaks, total_steps=steps, cycle_momentum=False
        )
    history: list[dict[str, float]] = []
    best, best_state, since_best = None, None, 0
    with training_threads(model, objective):
        for epoch in range(1, epochs + 1):
            model.train()
            total = torch.zeros((), device=objective.device)
            for number, batch in enumerate(objective.batches()):
                of_batch = objective.loss(model, batch, (epoch - 1 + number / objective.n_batches) / epochs)
                optimiser.zero_grad(set_to_none=True)
                of_batch.backward()
                optimiser.step()
                if schedule is not None:
                    schedule.step()
                total += of_batch.detach()
            loss = check_finite((total / (number + 1)).item(), epoch)
            if progress is not None:
                progress(epoch, loss)
            if epoch % interval and epoch < epochs:
                continue
            validation = {"epoch": float(epoch), "loss": loss}
            history.append(validation)
            if val is None:
                continue
            model.eval()
            with torch.inference_mode():
                margin = margins(model, objective.states(model), embeddings, val)
                validation |= validate(margin, val, config.loss)
            score = (validation["val_accuracy"], -validation["val_loss"])
            score = score if config.best_by == "accuracy" else score[::-1]
            since_best += 1
            if best is None or score > best:
                best, since_best = score, 0
                best_state = deepcopy((model.state_dict(), objective.state_dict()))
            if config.patience and since_best >= config.patience:
                break
    if best_state is not None:
        model.load_state_dict(best_state[0])
        objective.load_state_dict(best_state[1])
    return history


def validate(margin: Float[Tensor, " n"], val: Comparisons, loss: str = "logistic") -> dict[str, float]:
    """Loss and accuracy on validation comparisons, as they stand in `Fitted.history`."""
    right = (margin > 0).float() + 0.5 * (margin == 0).float()
    return {"val_loss": mean_loss(margin, val, loss).item(), "val_accuracy": right.mean().item()}


def training_threads(model: PreferenceModel, objective: Objective) -> AbstractContextManager[None]:
    """Limit torch to the threads that pay for steps of this size; see `few_threads`.

    Measured on two cores that other processes use as well: up to 4e9 multiply-adds, a step with two threads
    took 3 to 25 times as long as with one, since threads wait for each other after each short call; at 7e10
    as long. More than two were not measured, and are not used.
    """
    work = objective.batch_size * sum(parameter.numel() for parameter in model.parameters())
    return few_threads(two=work >= WORK_FOR_TWO_THREADS)


@contextmanager
def few_threads(*, two: bool) -> Iterator[None]:
    """Limit torch to one thread, or to two.

    The size of the work alone should decide, never the machine's cores, so that a fit is the same to the bit
    on 64 of them.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 2 if two else 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_finite(loss: float, epoch: int) -> float:
    """The loss; an error that names its epoch if it is not finite."""
    if not isfinite(loss):
        raise PalError(
            f"the loss became {loss} in epoch {epoch}; lower learning_rate, or look for NaN in the embeddings"
        )
    return loss


def make_optimiser(model: PreferenceModel, objective: Objective, config: FitConfig) -> torch.optim.Optimizer:
    """Adam or AdamW, fused: over these few dozen small tensors the plain one takes ten times as long.

    Prototypes and the objective's parameters learn at the rate of the users' weights, and the model's scale
    at a rate of its own where that is set.
    """
    shared, scale, fast = [], [], list(objective.parameters())
    groups = {"prototypes": fast, "log_scale": scale if config.scale_learning_rate else shared}
    for name, parameter in model.named_parameters():
        groups.get(name, shared).append(parameter)
    options = [
        {"params": shared, "lr": config.learning_rate, "weight_decay": config.weight_decay},
        {"params": scale, "lr": config.scale_learning_rate, "weight_decay": 0.0},
        {"params": fast, "lr": config.weights_learning_rate, "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind([group for group in options if group["params"]], fused=True)
