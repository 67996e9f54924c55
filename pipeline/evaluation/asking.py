"""Asking: where unseen users stand after questions chosen for each of them, one after another.

Of an unseen user the answers to the adapt pairs are known, so these are what may be asked. Each next one is
that whose answer is expected to tell most about the user; beside it stands `locating`, which draws them.
"""

import torch

from pal.comparisons import Comparisons
from pal.serving.saved_model import SavedModel
from pal.users.adapt import comparison_log_likelihoods
from pal.users.ask import chances
from pal.users.interviews import interview
from pipeline.study import Study

NUMBERS_AT_ONCE = 1 << 24


def located(data: Study, model: SavedModel, most: int) -> dict[int, torch.Tensor]:
    """Unseen users' weights after 1, 2 and more questions chosen from their own; none where there are none.

    A user with fewer questions stands where all of them put them.

    Args:
        data: The dataset.
        model: Locates users, and says what an answer is expected to tell.
        most: Questions to ask of each; no more than a user with the most of them has.
    """
    pairs, n_users = data.select("unseen", "adapt"), data.n_users("unseen")
    if not most or not len(pairs) or model.config.K == 1:
        return {}
    counts = torch.bincount(pairs.user, minlength=n_users)
    rounds, width = min(most, int(counts.max())), int(counts.max()) * len(model.prior.mass)
    found: dict[int, list[torch.Tensor]] = {}
    for users in torch.arange(n_users).split(max(1, NUMBERS_AT_ONCE // width)):
        likelihood = _asked(data, model, pairs, counts, users, rounds)
        for n, total in enumerate(likelihood, 1):
            found.setdefault(n, []).append(model.prior.weights(total))
    return {n: torch.cat(parts) for n, parts in found.items()}


def _asked(
    data: Study,
    model: SavedModel,
    pairs: Comparisons,
    counts: torch.Tensor,
    users: torch.Tensor,
    rounds: int,
) -> torch.Tensor:
    """Log-likelihoods of a block of users at the prior's points after each round."""
    here = pairs[((pairs.user >= users[0]) & (pairs.user <= users[-1])).nonzero().squeeze(1)]
    user = here.user - users[0]
    order = torch.argsort(user, stable=True)
    count = counts[users]
    place = torch.arange(len(order)) - (count.cumsum(0) - count).repeat_interleave(count)
    with torch.inference_mode():
        loss = model.fit_config.loss
        answers = comparison_log_likelihoods(model.head, model.prior, data.embeddings, here, loss)
        questions = here.questions[here.question]
        chance = chances(model.head, model.prior.points, data.embeddings, questions, loss).to(answers.dtype)

    def by_user(values: torch.Tensor) -> torch.Tensor:
        """(users, q, points), padded with zeros."""
        table = values.new_zeros(len(users), max(1, int(count.max())), values.shape[1])
        table[user[order], place] = values[order]
        return table

    allowed = torch.arange(max(1, int(count.max()))) < count[:, None]
    return interview(by_user(chance), by_user(answers), allowed, model.prior.mass, rounds).likelihood
