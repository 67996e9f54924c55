"""How many prototypes? Cross-validation over users and their comparisons, and the one-standard-error rule.

A candidate K is judged on comparisons that nothing was fitted to, of users that nothing was fitted to: the
users of a fold are kept out of fitting, then located by part of their comparisons and judged on the rest. Of
the candidates the smallest is chosen whose accuracy is within one standard error, over users, of the best
(Breiman et al., 1984).

With one prototype per user (`one_prototype_per_user`) this finds the number of groups. With free weights it
finds the smallest K that suffices, which may be smaller: the sign of a reward is affine in the weights, so
that users between three prototypes can behave as more than three groups.

With one prototype per user all K come from one fit a fold, with more prototypes than any candidate, of which
`pruning` takes away one at a time. It reads the leading directions of the embeddings alone. Other ways of
fitting start afresh for every K, as training does, and go up the candidates no further than it pays.

Shapes used in this module:
    n           comparisons
    users       users
    candidates  numbers of prototypes that are tried
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig
from pal.errors import PalError
from pal.evaluation.accuracy import Judged
from pal.evaluation.directions import leading
from pal.evaluation.pruning import pruned
from pal.fitting.trainer import Fitted, fit
from pal.models.base import margins
from pal.users.population import fit_population

USER_FOLDS = 3
PAIR_FOLDS = 4
BEYOND = 2  # candidates tried beyond the best one where every K is fitted afresh
WIDTH = 64  # directions of the embeddings that are read with one prototype per user
# How to fit one prototype per user, whatever way is else: few long steps, found on simulations and on Persona
# with seeds that judge nothing else. A linear rise of the temperature leaves the start too soon for them.
ONE_PER_USER = {
    "objective": "mixture",
    "grid_points": 0,
    "loss": "logistic",
    "bound_loss": 0.0,
    "optimiser": "adamw",
    "learning_rate": 0.03,
    "weights_learning_rate": 0.1,
    "scale_learning_rate": 0.0,
    "schedule": "one_cycle",
    "epochs": 80,
    "max_steps": 80,
    "annealing_schedule": "geometric",
    "anneal": 0.4,
    "restarts": 1,
}
FEWEST_A_STEP = 200_000  # comparisons
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Candidate:
    """What cross-validation found for one K.

    Args:
        K: Prototypes.
        accuracy: Mean over users of the accuracy on their held-out comparisons.
        standard_error: Of that mean; see `decide`.
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
    """A quick way of fitting with every user at one of the prototypes, which identifies K.

    Of the way given it keeps weighting, weight decay and precision; see `ONE_PER_USER` for the rest.
    """
    size = config.batch_size and max(config.batch_size, FEWEST_A_STEP)
    return FitConfig.from_options(**{**config.model_dump(), **ONE_PER_USER, "batch_size": size})


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
        config: How to fit: as `one_prototype_per_user` gives it, or as training will. The last epoch is
            kept, as there is nothing to choose one by.
        candidates: Numbers of prototypes to try. Where every K is fitted afresh, those are left out that lie
            beyond two which are no better than the best before them.
        user_folds: Parts of the users; each is judged by fits to the others.
        pair_folds: Parts of a user's comparisons; each is judged by a user located from the others.
        device: Where to fit.
        seed: Makes folds and fits random.
        progress: Called with the fits judged and the most that there can be.

    Raises:
        PalError: If candidates are missing or exceed the users of a fit, or no user has two comparisons.
    """
    tried = sorted(set(candidates))
    _check(tried, comparisons, n_users, user_folds)
    draw = np.random.default_rng(seed)
    user_fold = torch.from_numpy(draw.permutation(n_users) % user_folds)
    pair_fold = _within_user_folds(comparisons.user, n_users, pair_folds, draw)
    parts = []
    for held in range(user_folds):
        inside = (user_fold == held)[comparisons.user].nonzero().squeeze(1)
        train, count = _without(comparisons, user_fold == held)
        asked, fold = comparisons[inside].to(device), pair_fold[inside].to(device)
        parts.append(_Part(train.to(device), count, asked, fold))
    total = np.bincount(comparisons.user.numpy(), minlength=n_users)
    right: dict[int, np.ndarray] = {}
    one = config.objective == "mixture" and not config.grid_points
    if one:
        embeddings = leading(embeddings, comparisons, WIDTH)
    embeddings = embeddings.to(device)
    fits = (_pruned if one else _afresh)(embeddings, parts, head, config, tried, device, seed)
    for done, (K, part, fitted) in enumerate(fits, 1):
        judged = _judge(fitted, embeddings, part, n_users, pair_folds, config)
        right[K] = right.get(K, np.zeros(n_users)) + judged
        if progress is not None:
            progress(done, len(tried) * user_folds)
        if not one and done % user_folds == 0 and _past(decide(sorted(right), right, total)):
            break
    return decide(sorted(right), right, total)


@dataclass(frozen=True)
class _Part:
    """A fold of users: what is fitted without them, and their own comparisons with the folds of these."""

    train: Comparisons
    n_users: int
    asked: Comparisons
    pair_fold: Int[Tensor, " n"]


def _pruned(
    embeddings: Embeddings,
    parts: list[_Part],
    head: HeadConfig,
    config: FitConfig,
    tried: list[int],
    device: torch.device | str,
    seed: int,
) -> Iterator[tuple[int, _Part, Fitted]]:
    """One way down from too many prototypes a fold."""
    for part in parts:
        fits = pruned(
            embeddings,
            part.train,
            n_users=part.n_users,
            head=head,
            config=config,
            most=tried[-1],
            device=device,
            seed=seed,
        )
        for fitted in fits:
            if fitted.head.config.K in tried:
                yield fitted.head.config.K, part, fitted


def _afresh(
    embeddings: Embeddings,
    parts: list[_Part],
    head: HeadConfig,
    config: FitConfig,
    tried: list[int],
    device: torch.device | str,
    seed: int,
) -> Iterator[tuple[int, _Part, Fitted]]:
    """Every candidate, the folds of one together."""
    for K in tried:
        shape = head.model_copy(update={"K": K})
        for part in parts:
            yield (
                K,
                part,
                fit(
                    embeddings,
                    part.train,
                    n_users=part.n_users,
                    head=shape,
                    config=config,
                    device=device,
                    seed=seed,
                ),
            )


def _past(choice: Choice) -> bool:
    """Whether the last candidates are no better than the best before them."""
    accuracies = [row.accuracy for row in choice.candidates]
    return len(accuracies) - 1 - accuracies.index(max(accuracies)) >= BEYOND


def decide(
    tried: Sequence[int],
    right: Mapping[int, Float[np.ndarray, " users"]],
    total: Int[np.ndarray, " users"],
) -> Choice:
    """Apply the one-standard-error rule: the smallest K within one standard error of the best.

    The error is that of an accuracy over users, the larger of the two that are compared. That of their
    difference, which the same users judge, is smaller and would suit a test of one K against one other; here
    the best is the best of many, and takes with it whatever chance gave it. No error is below what so many
    answers can tell: where two of 1,800 are judged wrong, or none, their spread over users says nothing.

    Args:
        tried: The candidates, ascending.
        right: Right judgements by candidate, one per user.
        total: Comparisons judged, by user.
    """
    asked = total > 0
    accuracy = np.stack([right[K] for K in tried])[:, asked] / total[asked]
    mean = accuracy.mean(1)
    best = int(mean.argmax())  # of equals the smallest
    errors = _standard_errors(accuracy, int(total.sum()))
    enough = mean >= mean[best] - np.maximum(errors, errors[best])
    rows = [Candidate(K, float(mean[i]), float(errors[i]), bool(enough[i])) for i, K in enumerate(tried)]
    chosen = next(row.K for row in rows if row.sufficient)
    return Choice(chosen, rows, int(asked.sum()), int(total.sum()))


def _standard_errors(
    accuracy: Float[np.ndarray, "candidates users"], n: int
) -> Float[np.ndarray, " candidates"]:
    """Over users, and at least that of n answers and two right and two wrong ones (Agresti and Coull)."""
    users = accuracy.shape[1]
    spread = accuracy.std(1, ddof=1) / np.sqrt(users) if users > 1 else np.zeros(len(accuracy))
    share = (accuracy.mean(1) * n + 2) / (n + 4)
    return np.maximum(spread, np.sqrt(share * (1 - share) / (n + 4)))


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
    fitted: Fitted, embeddings: Embeddings, part: _Part, n_users: int, folds: int, config: FitConfig
) -> Float[np.ndarray, " users"]:
    """Right judgements of held-out users' comparisons, each by the user as located from the other folds.

    Log-likelihoods add up over comparisons, so that a fold's are taken away from those of all.
    """
    population = fit_population(config.population, fitted.states)
    place = part.pair_fold * n_users + part.asked.user
    with torch.inference_mode():
        each = population.evidence(fitted.head, embeddings, part.asked, config.loss)
        sums = each.new_zeros(folds * n_users, each.shape[1]).index_add(0, place, each)
        by_fold = sums.view(folds, n_users, -1)
        states = population.posterior((by_fold.sum(0) - by_fold).flatten(0, 1)).mean
        margin = margins(fitted.head, states, embeddings, replace(part.asked, user=place))
    return Judged.of(margin, part.asked.user, n_users=n_users).right
