"""Fits with one prototype per user for many K at the price of few: start with too many, take one away at a time.

With as many prototypes as there are groups, or few more, a fit from scratch often ends with two groups at one
prototype and one group at two. With many more that seldom happens, and taking away the prototype that is
missed least, then fitting on for a few steps, leads down to every smaller K (as in Figueiredo and Jain, 2002).

Shapes used in this module:
    users   seen users
    K       prototypes
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig
from pal.fit import Fitted, check_finite, check_task, descend, mean_loss
from pal.heads import Head, make_head
from pal.mlp import StackedMLP
from pal.objectives import Mixture

SPARE = 4  # prototypes at the start beyond the most that is asked for
REFINING = 20  # steps after each that was taken away
COOLER = 0.3  # learning rates of these steps, as a share of the first ones


def pruned(
    embeddings: Embeddings,
    train: Comparisons,
    *,
    n_users: int,
    head: HeadConfig,
    config: FitConfig,
    most: int,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Iterator[Fitted]:
    """Fits with `most` prototypes, one fewer, and so on down to one.

    Args:
        embeddings: Frozen-encoder outputs that the comparisons point into.
        train: Comparisons of the seen users.
        n_users: Seen users.
        head: The head's shape, whose K is replaced.
        config: How to fit: objective `mixture` with `grid_points` 0.
        most: The most prototypes that are asked for; at most `n_users`.
        device: Where to fit.
        seed: Makes the start random.

    Raises:
        PalError: As `pal.fit.fit`.
    """
    start = head.model_copy(update={"K": min(most + SPARE, n_users)})
    check_task(train, n_users, start, None)
    embeddings, train = embeddings.to(device), train.to(device)
    train = train[torch.argsort(train.user, stable=True)]
    rates = {
        name: COOLER * getattr(config, name)
        for name in ("learning_rate", "weights_learning_rate", "scale_learning_rate")
    }
    later = config.model_copy(update={**rates, "anneal": 0.0, "max_steps": REFINING})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = {"prompt_dim": embeddings.prompts.shape[1], "response_dim": embeddings.responses.shape[1]}
        now = make_head(start, **widths).to(device)
        train.check(embeddings, n_users=n_users, needs_prompts=now.needs_prompts)
        objective = Mixture(embeddings, train, config, n_users, start.K).to(device)
        descend(now, objective, embeddings, None, config)
        while True:
            now.eval()
            joint = _joint(objective, now)
            K = len(objective.points)
            if K <= most:
                weights = torch.softmax(joint, 1)
                loss = mean_loss(now, weights, embeddings, train, config)
                yield Fitted(now, weights, check_finite(loss, config.epochs))
            if K == 1:
                return
            kept = _without(K, _least_missed(joint), device)
            now = with_prototypes(now, kept, **widths)
            before, objective = objective, Mixture(embeddings, train, later, n_users, K - 1).to(device)
            shares = objective.points @ (before.log_share @ before.points)[kept]
            objective.log_share.copy_(shares.log_softmax(0))
            objective.everything = before.everything
            descend(now, objective, embeddings, None, later)


def with_prototypes(head: Head, kept: Int[Tensor, " K"], *, prompt_dim: int, response_dim: int) -> Head:
    """A copy of a head with some of its prototypes alone, in training mode.

    Args:
        head: The head.
        kept: Which prototypes.
        prompt_dim: Width of the prompts' embeddings.
        response_dim: Width of the responses' embeddings.
    """
    config = head.config.model_copy(update={"K": len(kept)})
    small = make_head(config, prompt_dim=prompt_dim, response_dim=response_dim).to(kept.device)
    own = "prototypes" if config.model == "A" else "g."
    state = {
        name: _members(value, name, kept, getattr(head, "g", None)) if name.startswith(own) else value
        for name, value in head.state_dict().items()
    }
    small.load_state_dict(state)
    return small


def _members(value: Tensor, name: str, kept: Int[Tensor, " K"], g: StackedMLP | None) -> Tensor:
    """A parameter's part that belongs to the kept members: rows of a stack, or of the joint first layer."""
    if g is None or not name.startswith("g.first."):
        return value[kept]
    hidden, skip = value.split([g.stack * g.hidden, g.stack * g.skip_width])
    parts = [part.view(g.stack, -1, *value.shape[1:])[kept].flatten(0, 1) for part in (hidden, skip) if len(part)]
    return torch.cat(parts)


def _joint(objective: Mixture, head: Head) -> Float[Tensor, "users K"]:
    """Log of share times likelihood, of each user at each prototype.

    The points of the simplex are its corners here, in an order of their own.
    """
    with torch.no_grad():
        return (objective.log_share + objective.likelihoods(head)) @ objective.points


def _least_missed(joint: Float[Tensor, "users K"]) -> int:
    """The prototype without which the users' answers stay the most likely."""
    left = [torch.logsumexp(joint[:, _without(joint.shape[1], k, joint.device)], 1).sum() for k in range(joint.shape[1])]
    return int(torch.stack(left).argmax())


def _without(K: int, k: int, device: torch.device | str) -> Int[Tensor, " rest"]:
    return torch.tensor([other for other in range(K) if other != k], device=device)
