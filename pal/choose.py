"""How many prototypes? Cross-validation over users and their comparisons, and the one-standard-error rule.

A candidate K is judged on comparisons that nothing was fitted to, of users that nothing was fitted to: the
users of a fold are kept out of fitting, then located by part of their comparisons and judged on the rest. Of
the candidates the smallest is chosen whose accuracy is within one standard error, over users, of the best
(Breiman et al., 1984).

With one prototype per user (`one_prototype_per_user`) this finds the number of groups. With free weights it
finds the smallest K that suffices, which may be smaller: the sign of a reward is affine in the weights, so
that users between three prototypes can behave as more than three groups.

Shapes used in this module:
    n           comparisons
    users       users
    candidates  numbers of prototypes that are tried
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pal.accuracy import Judged
from pal.adapt import Prior, comparison_log_likelihoods
from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig
from pal.errors import PalError
from pal.fit import Fitted, margins
from pal.many import Job, fit_many
from pal.pruning import pruned

USER_FOLDS = 3
PAIR_FOLDS = 4
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Candidate:
    """What cross-validation found for one K.

    Args:
        K: Prototypes.
        accuracy: Mean over users of the accuracy on their held-out comparisons.
        standard_error: Of that mean, over users.
        sufficient: Whether that accuracy is within one standard error of the best candidate's.
    """

    K: int
    accuracy: float
    standard_error: float
    sufficient: bool


@dataclass(frozen=True)
class Choice:
    """The curve over candidates, and what follows from it.

    Args:
        K: The smallest sufficient candidate.
        candidates: In ascending order of K.
        n_users: Users judged.
        n_comparisons: Comparisons judged, each once.
    """

    K: int
    candidates: list[Candidate]
    n_users: int
    n_comparisons: int


def one_prototype_per_user(config: FitConfig) -> FitConfig:
    """The same way of fitting with every user at one of the prototypes, which identifies K."""
    changed = {"objective": "mixture", "grid_points": 0, "loss": "logistic", "bound_loss": 0.0}
    return FitConfig.of(**{**config.model_dump(), **changed})


def choose_k(
    embeddings: Embeddings,
    comparisons: Comparisons,
    *,
    n_users: int,
    head: HeadConfig,
    config: FitConfig,
    candidates: Sequence[int] = tuple(range(1, 9)),
    user_folds: int = USER_FOLDS,
    pair_folds: int = PAIR_FOLDS,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> Choice:
    """Cross-validate candidates for the number of prototypes.

    Args:
        embeddings: Frozen-encoder outputs that the comparisons point into.
        comparisons: Training comparisons of the seen users; test comparisons have no place here.
        n_users: Seen users.
        head: The head's shape, whose K is replaced.
        config: How to fit. The last epoch is kept, as there is nothing to choose one by.
        candidates: Numbers of prototypes to try.
        user_folds: Parts of the users; each is judged by fits to the others.
        pair_folds: Parts of a user's comparisons; each is judged by a user located from the others.
        device: Where to fit.
        seed: Makes folds and fits random.
        progress: Called with the fits done and their number.

    Raises:
        PalError: If candidates are missing or exceed the users of a fit, or no user has two comparisons.
    """
    tried = sorted(set(candidates))
    _check(tried, comparisons, n_users, user_folds)
    draw = np.random.default_rng(seed)
    user_fold = torch.from_numpy(draw.permutation(n_users) % user_folds)
    pair_fold = _within_user_folds(comparisons.user, n_users, pair_folds, draw)
    embeddings = narrowed(embeddings, comparisons)
    parts = []
    for held in range(user_folds):
        asked = (user_fold == held)[comparisons.user].nonzero().squeeze(1)
        parts.append((*_without(comparisons, user_fold == held), comparisons[asked], pair_fold[asked]))
    ways = _pruned if config.objective == "mixture" and not config.grid_points else _afresh
    right = {K: np.zeros(n_users) for K in tried}
    for K, part, fitted in ways(embeddings, parts, head, config, tried, device, seed):
        right[K] += _judge(fitted, embeddings, *parts[part][2:], n_users, pair_folds, config)
    total = np.bincount(comparisons.user.numpy(), minlength=n_users)
    return decide(tried, np.stack([right[K] for K in tried]), total)


def narrowed(embeddings, comparisons, width=64):
    if width <= 0: return embeddings
    q = comparisons.questions
    def one(table, rows):
        if table.shape[1] <= width: return table
        x = table[torch.unique(rows[rows >= 0])].float()
        values, directions = torch.linalg.eigh(x.T @ x)
        return table.float() @ directions[:, -width:]
    return Embeddings(one(embeddings.prompts, q.prompt), one(embeddings.responses, torch.cat([q.first, q.second])))


def _pruned(embeddings, parts, head, config, tried, device, seed):
    for number, (train, n_users, _, _) in enumerate(parts):
        for fitted in pruned(embeddings, train, n_users=n_users, head=head, config=config, most=tried[-1], device=device, seed=seed):
            K = fitted.head.config.K
            if K in tried:
                yield K, number, fitted


def _afresh(embeddings, parts, head, config, tried, device, seed):
    for K in tried:
        jobs = [
            Job(train=train, n_users=count, head=head.model_copy(update={"K": K}), seed=seed)
            for train, count, _, _ in parts
        ]
        for number, fitted in enumerate(fit_many(embeddings, jobs, config=config, device=device)):
            yield K, number, fitted


def decide(
    tried: Sequence[int], right: Float[np.ndarray, "candidates users"], total: Int[np.ndarray, " users"]
) -> Choice:
    """Apply the one-standard-error rule, paired by user.

    Args:
        tried: The candidates, ascending.
        right: Right judgements by candidate and user.
        total: Comparisons judged, by user.
    """
    asked = total > 0
    accuracy = right[:, asked] / total[asked]
    mean = accuracy.mean(1)
    best = int(mean.argmax())  # of equals the smallest
    errors = _standard_errors(accuracy)
    enough = mean >= mean[best] - errors[best]
    rows = [Candidate(K, float(mean[i]), float(errors[i]), bool(enough[i])) for i, K in enumerate(tried)]
    chosen = next(row.K for row in rows if row.sufficient)
    return Choice(chosen, rows, int(asked.sum()), int(total.sum()))


def _standard_errors(values: Float[np.ndarray, "candidates users"]) -> Float[np.ndarray, " candidates"]:
    n = values.shape[1]
    return values.std(1, ddof=1) / np.sqrt(n) if n > 1 else np.zeros(len(values))


def _check(tried: list[int], comparisons: Comparisons, n_users: int, user_folds: int) -> None:
    if not tried or tried[0] < 1:
        raise PalError(f"candidates must be numbers of at least 1, got {tried}")
    fitted = n_users - -(-n_users // user_folds)
    if tried[-1] > fitted:
        raise PalError(
            f"candidates must be at most {fitted}, the users of a fit in {user_folds} folds, got "
            f"{tried[-1]}; lower them"
        )
    if int(torch.bincount(comparisons.user, minlength=n_users).max()) < 2:
        raise PalError("comparisons must hold a user with at least two, got none; there is nothing to judge")


def _within_user_folds(
    user: Int[Tensor, " n"], n_users: int, folds: int, draw: np.random.Generator
) -> Int[Tensor, " n"]:
    """Each comparison's fold: a user's comparisons at random over the folds, as even as can be."""
    order = np.lexsort((draw.random(len(user)), user.numpy()))
    counts = np.bincount(user.numpy(), minlength=n_users)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    place = np.empty(len(user), dtype=np.int64)
    place[order] = np.arange(len(user)) - starts
    return torch.from_numpy(place % folds)


def _without(comparisons: Comparisons, held: Bool[Tensor, " users"]) -> tuple[Comparisons, int]:
    """The comparisons of the other users, who are numbered anew, and how many these are."""
    kept = comparisons[(~held)[comparisons.user].nonzero().squeeze(1)]
    number = (~held).cumsum(0) - 1
    return replace(kept, user=number[kept.user]), int((~held).sum())


def _judge(
    fitted: Fitted,
    embeddings: Embeddings,
    asked: Comparisons,
    pair_fold: Int[Tensor, " n"],
    n_users: int,
    folds: int,
    config: FitConfig,
) -> Float[np.ndarray, " users"]:
    """Right judgements of held-out users' comparisons, each by the user as located from the other folds.

    Log-likelihoods add up over comparisons, so that those of a fold are taken from the whole.
    """
    prior = Prior.of(fitted.weights)
    place = pair_fold * n_users + asked.user
    with torch.inference_mode():
        each = comparison_log_likelihoods(fitted.head, prior, embeddings, asked, config.loss)
        part = each.new_zeros(folds * n_users, each.shape[1]).index_add(0, place, each)
        part = part.view(folds, n_users, -1)
        weights = prior.weights((part.sum(0) - part).flatten(0, 1))
        margin = margins(fitted.head, weights, embeddings, replace(asked, user=place))
    return Judged.of(margin, asked.user, n_users=n_users).right
