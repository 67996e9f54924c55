"""Fits with one prototype per user for many K at the price of few: from too many, one taken away at a time.

With as many prototypes as there are groups, or a few more, a fit from scratch often ends with two groups at
one prototype and one group at two. With many more that seldom happens, and taking away the prototype that is
missed least, then fitting on for a few steps, leads down to every smaller K (Figueiredo and Jain, 2002).

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
from pal.fitting.trainer import Fitted, check_finite, check_task, descend, mean_loss
from pal.models.base import PreferenceModel, make_model
from pal.models.mlp import StackedMLP

SPARE = 4  # prototypes at the start beyond the most that is asked for
REFINING = 12  # steps after each that was taken away
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
        head: The head's shape, whose K is replaced, and without dropout: so few steps need no noise.
        config: How to fit: objective `mixture` with `grid_points` 0.
        most: The most prototypes that are asked for; at most `n_users`.
        device: Where to fit.
        seed: Makes the start random.

    Raises:
        PalError: As `pal.fit`.
    """
    start = head.model_copy(update={"K": min(most + SPARE, n_users), "dropout": 0.0})
    check_task(train, n_users, start, None)
    embeddings, train = embeddings.to(device), train.to(device)
    train = train[torch.argsort(train.user, stable=True)]
    if config.weighting == "users":
        train = user_balanced(train, n_users)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        now = make_model(start, **_widths(embeddings)).to(device)
        train.check(embeddings, n_users=n_users, needs_prompts=now.needs_prompts)
        objective = Mixture(embeddings, train, config, n_users, now).to(device)
        descend(now, objective, embeddings, None, config)
        while True:
            now.eval()
            joint = _joint(objective, now)
            if most >= now.config.K:
                yield _fitted(now, joint, objective)
            if now.config.K == 1:
                return
            now, objective = _refined(now, objective, _least_missed(joint))


def _fitted(head: PreferenceModel, joint: Float[Tensor, "users K"], objective: Mixture) -> Fitted:
    config, weights = objective.config, torch.softmax(joint, 1)
    with torch.no_grad():
        loss = mean_loss(head, weights, objective.embeddings, objective.train_set, config)
    return Fitted(head.requires_grad_(requires_grad=False), weights, check_finite(loss, config.epochs))


def _refined(head: PreferenceModel, objective: Mixture, gone: int) -> tuple[PreferenceModel, Mixture]:
    """Head and objective without one prototype, fitted on for a few steps at full temperature."""
    kept = _others(head.config.K, gone).to(objective.device)
    embeddings = objective.embeddings
    small = with_prototypes(head, kept, **_widths(embeddings))
    config = _cooler(objective.config)
    rest = Mixture(embeddings, objective.train_set, config, objective.n_users, small).to(objective.device)
    shares = rest.points @ (objective.log_share @ objective.points)[kept]
    rest.log_share.copy_(shares.log_softmax(0))
    rest.all_answers = objective.all_answers  # the answers counted, which stay the same
    descend(small, rest, embeddings, None, config)
    return small, rest


def _cooler(config: FitConfig) -> FitConfig:
    """A short run with smaller steps and no annealing; the same again if it is one already."""
    if config.max_steps == REFINING and not config.anneal:
        return config
    names = ("learning_rate", "weights_learning_rate", "scale_learning_rate")
    rates = {name: COOLER * getattr(config, name) for name in names}
    return config.model_copy(update={**rates, "anneal": 0.0, "max_steps": REFINING})


def _widths(embeddings: Embeddings) -> dict[str, int]:
    return {"prompt_dim": embeddings.prompts.shape[1], "response_dim": embeddings.responses.shape[1]}


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
    sides = value.split([g.stack * g.hidden, g.stack * g.skip_width])
    members = [side.view(g.stack, -1, *value.shape[1:])[kept] for side in sides if len(side)]
    return torch.cat([side.flatten(0, 1) for side in members])


def _joint(objective: Mixture, head: PreferenceModel) -> Float[Tensor, "users K"]:
    """Log of share times likelihood, of each user at each prototype.

    The points of the simplex are its corners here, in an order of their own.
    """
    with torch.no_grad():
        return (objective.log_share + objective.likelihoods(head)) @ objective.points


def _least_missed(joint: Float[Tensor, "users K"]) -> int:
    """The prototype without which the users' answers stay the most likely."""
    K = joint.shape[1]
    left = [torch.logsumexp(joint[:, _others(K, gone).to(joint.device)], 1).sum() for gone in range(K)]
    return int(torch.stack(left).argmax())


def _others(K: int, gone: int) -> Int[Tensor, " rest"]:
    return torch.tensor([k for k in range(K) if k != gone])
