"""Locating: unseen users' weights from none, few and more of their comparisons, over random draws."""

from collections.abc import Iterator

import torch

from pal.serving.saved_model import SavedModel
from pal.users.adapt import comparison_log_likelihoods
from pipeline.params import Evaluate
from pipeline.study import Study


def locate(data: Study, model: SavedModel, knobs: Evaluate) -> dict[int, list[torch.Tensor]]:
    """Unseen users' weights from each number of shots, one table per draw; nested within a draw (D18).

    A user with fewer comparisons than shots is located from all of them. Where no user has any, there is
    nothing but zero shots.
    """
    pairs = data.select("unseen", "adapt")
    n_users = data.n_users("unseen")
    with torch.inference_mode():
        each = comparison_log_likelihoods(
            model.head, model.prior, data.embeddings, pairs, model.fit_config.loss
        )
        located = {0: [model.prior.weights(each.new_zeros(n_users, each.shape[1]))]}
        for shots, rows in drawn_shots(pairs.user, n_users, knobs):
            total = each.new_zeros(n_users, each.shape[1]).index_add(0, pairs.user[rows], each[rows])
            located.setdefault(shots, []).append(model.prior.weights(total))
    return located


def drawn_shots(user: torch.Tensor, n_users: int, knobs: Evaluate) -> Iterator[tuple[int, torch.Tensor]]:
    """Numbers of shots, and which comparisons these are: draw after draw, the same for whoever is judged.

    Args:
        user: Whose each comparison is.
        n_users: Users in all.
        knobs: The seed, the numbers of shots and the draws.
    """
    generator = torch.Generator().manual_seed(knobs.seed)
    for _ in range(knobs.draws if len(user) else 0):
        place = places_in_user(user, n_users, generator)
        for shots in knobs.shots:
            yield shots, (place < shots).nonzero().squeeze(1)


def places_in_user(user: torch.Tensor, n_users: int, generator: torch.Generator) -> torch.Tensor:
    """Each comparison's place, from 0, in a random order of its user's comparisons."""
    shuffled = torch.randperm(len(user), generator=generator)
    order = shuffled[torch.argsort(user[shuffled], stable=True)]
    counts = torch.bincount(user, minlength=n_users)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    place = torch.empty_like(user)
    place[order] = torch.arange(len(user)) - starts
    return place
