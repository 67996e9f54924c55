"""Prototype pruning: fits with one prototype per user for every K, from one fit with too many prototypes.

With as many prototypes as there are groups, or a few more, a fit from scratch often ends with two groups at
one prototype and one group at two. With many more that seldom happens. Removing the prototype that is missed
least, then fitting on for a few steps, leads down to every smaller K (Figueiredo and Jain, 2002).

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
from pal.fitting.mixture import Mixture
from pal.fitting.objective import user_balanced
from pal.fitting.trainer import Fitted, check_finite, check_task, descend, mean_loss, training_threads
from pal.models.base import PreferenceModel, make_model

SPARE = 4  # prototypes at the start beyond the most that are wanted
REFINING_STEPS = 12  # after each removal
REFINING_RATE = 0.3  # learning rates of these steps, as a share of the first ones


def prune_prototypes(
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
        head: The head's shape, whose K is replaced, and without dropout: so few steps need no noise.
        config: How to fit: objective `mixture` with `grid_points` 0.
        most: The most prototypes that are asked for; at most `n_users`.
        device: Where to fit.
        seed: Makes the start random.

    Raises:
        PalError: As `pal.fitting.trainer.fit`.
    """
    start = head.model_copy(update={"K": min(most + SPARE, n_users), "dropout": 0.0})
    check_task(train, n_users, start, None)
    embeddings, train = embeddings.to(device), train.to(device)
    train = train[torch.argsort(train.user, stable=True)]
    if config.weighting == "users":
        train = user_balanced(train, n_users)
    widths = {"prompt_dim": embeddings.prompts.shape[1], "response_dim": embeddings.responses.shape[1]}
    rates = ("learning_rate", "weights_learning_rate", "scale_learning_rate")
    slower = {name: REFINING_RATE * getattr(config, name) for name in rates}
    refining = config.model_copy(update={**slower, "anneal": 0.0, "max_steps": REFINING_STEPS})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model(start, **widths).to(device)
        train.check(embeddings, n_users=n_users, needs_prompts=model.needs_prompts)
        objective = Mixture(embeddings, train, config, n_users, model).to(device)
        descend(model, objective, embeddings, None, config)
        while True:
            K = model.config.K
            model.eval()
            with torch.no_grad(), training_threads(model, objective):
                # Log of share times likelihood at each prototype: the simplex points are its corners here.
                joint = (objective.log_share + objective.likelihoods(model)) @ objective.points
                weights = torch.softmax(joint, 1)
                loss = check_finite(mean_loss(model, weights, embeddings, train, config), config.epochs)
            if most >= K:
                yield Fitted(model.requires_grad_(requires_grad=False), weights, loss)
            if K == 1:
                return
            kept = _all_but(K, least_missed(joint)).to(device)
            model = with_prototypes(model, kept, **widths)
            smaller = Mixture(embeddings, train, refining, n_users, model).to(device)
            shares = smaller.points @ (objective.log_share @ objective.points)[kept]
            smaller.log_share.copy_(shares.log_softmax(0))
            smaller.all_counts = objective.all_counts  # the answer counts, which stay the same
            objective = smaller
            descend(model, objective, embeddings, None, refining)


def with_prototypes(
    head: PreferenceModel, kept: Int[Tensor, " K"], *, prompt_dim: int, response_dim: int
) -> PreferenceModel:
    """A copy of a head with some of its prototypes alone, in training mode.

    Args:
        head: The head.
        kept: Which prototypes.
        prompt_dim: Width of the prompts' embeddings.
        response_dim: Width of the responses' embeddings.
    """
    config = head.config.model_copy(update={"K": len(kept)})
    small = make_model(config, prompt_dim=prompt_dim, response_dim=response_dim).to(kept.device)
    state, g = head.state_dict(), getattr(head, "g", None)
    for name, value in state.items():
        if name.startswith("g.first."):  # the first layers of all members of a stack are one matrix
            sides = value.split([g.stack * g.hidden, g.stack * g.skip_width])
            members = [side.view(g.stack, -1, *value.shape[1:])[kept] for side in sides if len(side)]
            state[name] = torch.cat([side.flatten(0, 1) for side in members])
        elif name.startswith(("prototypes", "g.")):
            state[name] = value[kept]
    small.load_state_dict(state)
    return small


def least_missed(joint: Float[Tensor, "users K"]) -> int:
    """The prototype without which the users' answers stay the most likely.

    Args:
        joint: Log of share times likelihood of each user at each prototype.
    """
    K = joint.shape[1]
    left = [torch.logsumexp(joint[:, _all_but(K, gone).to(joint.device)], 1).sum() for gone in range(K)]
    return int(torch.stack(left).argmax())


def _all_but(K: int, gone: int) -> Int[Tensor, " rest"]:
    return torch.tensor([k for k in range(K) if k != gone])
