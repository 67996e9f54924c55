"""Fitting: learn the shared head and the weights of the users seen.

Embeddings stay on the device and batches are gathered by row number; what does not depend on the user is
computed once per distinct question of a batch. Randomness comes from the seed alone.

Shapes used in this module:
    n       comparisons
    users   seen users
    K       prototypes
"""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings, distinct_rows
from pal.config import FitConfig, HeadConfig
from pal.errors import PalError
from pal.fitting.losses import LOSSES, expected_loss, weighted_mean
from pal.fitting.objectives import FixedWeights, Mixture, Objective, PerComparison, user_balanced
from pal.models.heads import Head, make_head

Progress = Callable[[int, float], None]


@dataclass(frozen=True)
class Fitted:
    """What fitting leaves behind.

    Args:
        head: The shared part, in evaluation mode.
        weights: One row of the simplex per seen user.
        train_loss: Mean loss over the training comparisons, dropout off.
        history: One entry per look at the validation comparisons: epoch, loss, and val_loss and
            val_accuracy where there are any.
    """

    head: Head
    weights: Float[Tensor, "users K"]
    train_loss: float
    history: list[dict[str, float]] = field(default_factory=list)


def fit(
    embeddings: Embeddings,
    train: Comparisons,
    *,
    n_users: int,
    head: HeadConfig,
    config: FitConfig,
    val: Comparisons | None = None,
    weights: Float[Tensor, "users K"] | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> Fitted:
    """Fit a head and its users' weights; the best epoch on `val` is kept, of restarts the best.

    Args:
        embeddings: Frozen-encoder outputs that the comparisons point into.
        train: Comparisons of the seen users.
        n_users: Seen users; rows of the weights table.
        head: The head's shape.
        config: How to fit.
        val: Comparisons that choose the epoch; None keeps the last.
        weights: Weights to hold fixed, as for users whose group is known; None learns them.
        device: Where to compute.
        seed: Makes everything random; the same seed gives the same result on the same machine.
        progress: Called after each epoch with its number and its mean loss.

    Raises:
        PalError: If there is nothing to train on, K exceeds the users, weights have another shape, rows
            point nowhere, or the loss is not finite.
    """
    check_task(train, n_users, head, weights)
    embeddings, train = embeddings.to(device), train.to(device)
    if config.weighting == "users":
        train = user_balanced(train, n_users)
    val = val.to(device) if val is not None and len(val) else None
    fits = [
        _fit_once(embeddings, train, val, n_users, head, config, weights, device, seed + restart, progress)
        for restart in range(config.restarts)
    ]
    return min(fits, key=lambda fitted: fitted.train_loss)


def check_task(
    train: Comparisons, n_users: int, head: HeadConfig, weights: Float[Tensor, "users K"] | None
) -> None:
    """Make sure that there is something to fit, and that K and the weights given suit the users.

    Raises:
        PalError: If not.
    """
    if not len(train):
        raise PalError("train must hold at least one comparison, got none")
    if n_users < head.K and weights is None:
        raise PalError(f"K must be at most the number of seen users, {n_users}, got {head.K}; lower K")
    if weights is not None and weights.shape != (n_users, head.K):
        shape = tuple(weights.shape)
        raise PalError(f"weights must have the shape (n_users, K) = {(n_users, head.K)}, got {shape}")


def _fit_once(
    embeddings: Embeddings,
    train: Comparisons,
    val: Comparisons | None,
    n_users: int,
    head_config: HeadConfig,
    config: FitConfig,
    weights: Tensor | None,
    device: torch.device | str,
    seed: int,
    progress: Progress | None,
) -> Fitted:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = make_head(
            head_config,
            prompt_dim=embeddings.prompts.shape[1],
            response_dim=embeddings.responses.shape[1],
        ).to(device)
        for comparisons in (train, val):
            if comparisons is not None:
                comparisons.check(embeddings, n_users=n_users, needs_prompts=head.needs_prompts)
        objective = _objective(embeddings, train, n_users, head_config, config, weights).to(device)
        history = descend(head, objective, embeddings, val, config, progress)
    head.eval()
    with torch.inference_mode():
        final = objective.weights(head)
        loss = check_finite(mean_loss(head, final, embeddings, train, config), config.epochs)
    return Fitted(head.requires_grad_(requires_grad=False), final.clone(), loss, history)


def _objective(
    embeddings: Embeddings,
    train: Comparisons,
    n_users: int,
    head: HeadConfig,
    config: FitConfig,
    weights: Tensor | None,
) -> Objective:
    if head.K == 1:
        weights = torch.ones(n_users, 1)
    if weights is not None:
        return FixedWeights(embeddings, train, config, weights)
    kind = Mixture if config.objective == "mixture" else PerComparison
    return kind(embeddings, train, config, n_users, head.K)


def descend(
    head: Head,
    objective: Objective,
    embeddings: Embeddings,
    val: Comparisons | None,
    config: FitConfig,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Run the epochs, and leave head and objective as they were at the best look.

    Args:
        head: What is fitted, from where it stands.
        objective: What is descended on, on the head's device.
        embeddings: What the comparisons point into.
        val: Comparisons that choose the epoch; None keeps the last.
        config: How to fit.
        progress: Called after each epoch with its number and its mean loss.

    Returns:
        The looks, as in `Fitted.history`.
    """
    optimiser = make_optimiser(head.named_parameters(), objective.parameters(), config)
    epochs, every = config.plan(objective.n_batches)
    schedule = make_schedule(optimiser, config, epochs * objective.n_batches)
    history: list[dict[str, float]] = []
    best, best_state, looks_since = None, None, 0
    for epoch in range(1, epochs + 1):
        loss = _epoch(head, objective, optimiser, schedule, epoch, epochs)
        if progress is not None:
            progress(epoch, loss)
        if epoch % every and epoch < epochs:
            continue
        look = {"epoch": float(epoch), "loss": loss}
        history.append(look)
        if val is None:
            continue
        head.eval()
        with torch.inference_mode():
            look |= validate(head, objective.weights(head), embeddings, val, config)
        score = score_of(look, config)
        looks_since += 1
        if best is None or score > best:
            best, looks_since = score, 0
            best_state = deepcopy((head.state_dict(), objective.state_dict()))
        if config.patience and looks_since >= config.patience:
            break
    if best_state is not None:
        head.load_state_dict(best_state[0])
        objective.load_state_dict(best_state[1])
    return history


def _epoch(
    head: Head,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None,
    epoch: int,
    epochs: int,
) -> float:
    head.train()
    total, count = torch.zeros((), device=objective.device), 0
    for number, batch in enumerate(objective.batches()):
        done = (epoch - 1 + number / objective.n_batches) / epochs
        loss = objective.loss(head, batch, done)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if schedule is not None:
            schedule.step()
        total += loss.detach()
        count += 1
    return check_finite((total / count).item(), epoch)


def check_finite(loss: float, epoch: int) -> float:
    """The loss, or an error that names its epoch.

    Raises:
        PalError: If the loss is not finite.
    """
    if not isfinite(loss):
        raise PalError(
            f"the loss became {loss} in epoch {epoch}; lower learning_rate, or look for NaN in the embeddings"
        )
    return loss


def make_optimiser(
    named: Iterable[tuple[str, Tensor]], mixing: Iterable[Tensor], config: FitConfig
) -> torch.optim.Optimizer:
    """Fused: over these few dozen small tensors the plain one takes ten times as long.

    Args:
        named: A head's parameters; model A's prototypes learn at the rate of the users' weights, model B's
            scale at its own where that is set.
        mixing: What else learns at that rate.
        config: Kind, rates and decay.
    """
    shared, scale, fast = [], [], list(mixing)
    homes = {"prototypes": fast, "log_scale": scale if config.scale_learning_rate else shared}
    for name, parameter in named:
        homes.get(name, shared).append(parameter)
    groups = [
        {"params": shared, "lr": config.learning_rate, "weight_decay": config.weight_decay},
        {"params": scale, "lr": config.scale_learning_rate, "weight_decay": 0.0},
        {"params": fast, "lr": config.weights_learning_rate, "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind([group for group in groups if group["params"]], fused=True)


def make_schedule(
    optimiser: torch.optim.Optimizer, config: FitConfig, total: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The learning rates of a run of `total` steps, or None where they stay."""
    if config.schedule == "constant":
        return None
    peaks = [group["lr"] for group in optimiser.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, peaks, total_steps=max(total, 2), cycle_momentum=False
    )


def validate(
    head: Head,
    weights: Float[Tensor, "users K"],
    embeddings: Embeddings,
    val: Comparisons,
    config: FitConfig,
) -> dict[str, float]:
    """Loss and accuracy on validation comparisons, of a head in evaluation mode."""
    margin = margins(head, weights, embeddings, val)
    loss = weighted_mean(expected_loss(LOSSES[config.loss], margin, val.label), val.weight)
    right = (margin > 0).float() + 0.5 * (margin == 0).float()
    return {"val_loss": loss.item(), "val_accuracy": right.mean().item()}


def score_of(look: dict[str, float], config: FitConfig) -> tuple[float, float]:
    """What a look at the validation comparisons is judged by: the larger, the better."""
    score = (look["val_accuracy"], -look["val_loss"])
    return score if config.best_by == "accuracy" else score[::-1]


def mean_loss(
    head: Head,
    weights: Float[Tensor, "users K"],
    embeddings: Embeddings,
    comparisons: Comparisons,
    config: FitConfig,
) -> float:
    """Mean loss of comparisons under given weights."""
    margin = margins(head, weights, embeddings, comparisons)
    losses = expected_loss(LOSSES[config.loss], margin, comparisons.label)
    return weighted_mean(losses, comparisons.weight).item()


def margins(
    head: Head, weights: Float[Tensor, "users K"], embeddings: Embeddings, comparisons: Comparisons
) -> Float[Tensor, " n"]:
    """Reward of the chosen response less that of the rejected one, for each comparison's user.

    Args:
        head: A head in evaluation mode.
        weights: The table that `comparisons.user` points into.
        embeddings: What the comparisons' questions point into.
        comparisons: The answers; only the questions that they ask are read.
    """
    parts = [
        head.margin(read.index_select(0, place), weights.index_select(0, block.user)) * block.sign
        for block, read, place in read_blocks(head, embeddings, comparisons)
    ]
    return torch.cat(parts) if parts else comparisons.sign


def read_blocks(
    head: Head, embeddings: Embeddings, comparisons: Comparisons
) -> Iterator[tuple[Comparisons, Tensor, Tensor]]:
    """Comparisons in blocks of bounded memory, each with its distinct questions as the head reads them."""
    for start in range(0, len(comparisons), head.questions_at_once):
        block = comparisons.slice(start, start + head.questions_at_once)
        asked, place = distinct_rows(block.question, len(comparisons.questions))
        yield block, head.read(embeddings, comparisons.questions[asked]), place
