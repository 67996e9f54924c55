"""Number of prototypes by cross-validation over users and comparisons, with the one-standard-error rule.

The users of a fold are kept out of fitting, then located by some of their comparisons and judged on the rest,
so that neither the users nor the comparisons that judge a candidate K were fitted to. Of the candidates the
smallest is chosen that the best does not clearly beat, by one standard error and by a paired test over users.
K = 1 is judged by the better of its own fit and of the best K's with one state for all, so that it has that
width, and careless users are set aside in it as they are in that.

With one prototype per user (`one_prototype_per_user`) this finds the number of groups. With free weights it
finds the smallest K that suffices, which may be smaller: the sign of a reward is affine in the weights, so
that users between three prototypes can behave as more than three groups.

With one prototype per user all K of a fold come from one fit with more prototypes than any candidate, on the
leading directions of the embeddings. With as many prototypes as there are groups, or a few more, a fit from
scratch often ends with two groups at one prototype and one group at two; with many more that seldom happens.
Removing the prototype that is missed least, then fitting on for a few steps, leads down to every smaller K
(Figueiredo and Jain, 2002). Otherwise every K is fitted from a new start, as training does, until two
candidates are no better than the best.

Shapes: n comparisons, users, K prototypes, dim of an embedding, width (directions kept).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from scipy.special import stdtrit
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig
from pal.errors import PalError
from pal.evaluation.accuracy import UNSEEN, Judged
from pal.evaluation.holding_out import linked_pairs
from pal.evaluation.prototypes import one_state_for_all
from pal.fitting.objectives import Mixture, user_balanced
from pal.fitting.trainer import Fitted, check_finite, descend, fit, training_threads
from pal.models.base import PreferenceModel, make_model, margins, mean_loss
from pal.users.points import Points

USER_FOLDS = 3  # parts of the users; each is judged by fits to the others
PAIR_FOLDS = 4  # parts of what a user compared; each is judged by a user located from the others
BEYOND = 2  # candidates tried beyond the best one where every K is fitted from a new start
WIDTH = 64  # directions of the embeddings that are read with one prototype per user
# How to fit one prototype per user: few long steps, found on simulations and on Persona with seeds that judge
# nothing else. With a linear annealing schedule the inverse temperature rises too early for so few steps.
ONE_PER_USER = {
    "objective": "mixture", "grid_points": 0, "loss": "logistic", "bound_loss": 0.0, "optimiser": "adamw",
    "learning_rate": 0.03, "weights_learning_rate": 0.1, "scale_learning_rate": 0.0, "schedule": "one_cycle",
    "epochs": 80, "max_steps": 80, "annealing_schedule": "geometric", "anneal": 0.4, "restarts": 1,
}  # fmt: skip
MIN_BATCH = 200_000  # comparisons a step
ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Candidate:
    """The cross-validated accuracy of one K."""

    K: int
    accuracy: float  # mean over users of the accuracy on their held-out comparisons
    standard_error: float  # of that mean
    sufficient: bool  # whether the best candidate is not clearly better; see `decide`


@dataclass(frozen=True)
class Choice:
    """The smallest K that suffices, and the curve over candidates that it was read from."""

    K: int
    candidates: list[Candidate]  # in ascending order of K
    n_users: int  # judged
    n_comparisons: int  # judged, each once


def one_prototype_per_user(config: FitConfig) -> FitConfig:
    """A quick way of fitting a latent class model, with every user at one prototype, which identifies K.

    Weighting, weight decay and precision stay as in `config`; `ONE_PER_USER` sets the rest.
    """
    size = config.batch_size and max(config.batch_size, MIN_BATCH)
    return FitConfig.from_options(**{**config.model_dump(), **ONE_PER_USER, "batch_size": size})


def choose_k(
    embeddings: Embeddings,
    comparisons: Comparisons,
    *,
    n_users: int,
    head: HeadConfig,
    config: FitConfig,
    candidates: Sequence[int] = tuple(range(1, 9)),
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Choice:
    """Cross-validate candidates for the number of prototypes on training comparisons of the seen users.

    The K of the head is replaced. The config is what `one_prototype_per_user` gives, or as training will fit;
    the last epoch is kept, as there is nothing to choose one by. Where every K is fitted from a new start,
    those candidates are left out that lie beyond two which are no better than the best before them.
    """
    tried = sorted(set(candidates))
    if not tried or tried[0] < 1:
        raise PalError(f"candidates must be numbers of at least 1, got {tried}")
    most = n_users - -(-n_users // USER_FOLDS)
    if tried[-1] > most:
        raise PalError(
            f"candidates must be at most {most}, the users of a fit in {USER_FOLDS} folds, got {tried[-1]}; "
            "lower them"
        )
    one_per_user = config.objective == "mixture" and not config.grid_points
    if one_per_user:
        embeddings = leading_directions(embeddings, comparisons, WIDTH)
    embeddings = embeddings.to(device)
    if np.bincount(comparisons.user.numpy()).max() < 2:
        raise PalError("comparisons must hold a user with at least two, got none; there is nothing to judge")
    folds = list(_folds(comparisons, n_users, device, np.random.default_rng(seed)))
    judged = torch.cat([fold.held_out.user[fold.side_folds[0] == fold.side_folds[1]] for fold in folds])
    total = np.bincount(judged.numpy(force=True), minlength=n_users)
    if not total.any():
        raise PalError(
            "comparisons must hold some of one user without a response in common, got none; set K in place "
            "of having it chosen"
        )
    right = {K: np.zeros((2, n_users)) for K in tried}  # by each user's state, and with one for all
    options = {"config": config, "device": device, "seed": seed}
    if one_per_user:
        for fold in folds:
            data = {"n_users": fold.n_users, "head": head, "most": tried[-1]}
            for fitted in prune_prototypes(embeddings, fold.train, **data, **options):
                if (K := fitted.head.config.K) in right:
                    right[K] += _held_out_right(fitted, embeddings, fold, n_users, config.loss)
        return decide(_with_one(right, total), total)
    for done, K in enumerate(tried, 1):
        for fold in folds:
            data = {"n_users": fold.n_users, "head": head.model_copy(update={"K": K})}
            fitted = fit(embeddings, fold.train, **data, **options)
            right[K] += _held_out_right(fitted, embeddings, fold, n_users, config.loss)
        choice = decide(_with_one({K: right[K] for K in tried[:done]}, total), total)
        accuracies = [candidate.accuracy for candidate in choice.candidates]
        if done - 1 - accuracies.index(max(accuracies)) >= BEYOND:
            break
    return choice


def leading_directions(embeddings: Embeddings, comparisons: Comparisons, width: int) -> Embeddings:
    """Uncentred PCA: the tables in the leading `width` directions of the rows that the comparisons point at.

    Nothing is centred, so that a linear map of the result is a linear map of the whole. What is learned from
    few users needs no more directions, and costs far less. A table that is no wider stays as it is.
    """
    q = comparisons.questions

    def project(table: Float[Tensor, "rows dim"], rows: Int[Tensor, " n"]) -> Float[Tensor, "rows width"]:
        if table.shape[1] <= width:
            return table
        moment = torch.zeros(table.shape[1], table.shape[1], dtype=torch.float64, device=table.device)
        for block in torch.unique(rows[rows >= 0]).to(table.device).split(ROWS_AT_ONCE):
            x = table[block].float()
            moment += (x.T @ x).double()
        directions = torch.linalg.eigh(moment).eigenvectors[:, -width:].float()
        return torch.cat([block.float() @ directions for block in table.split(ROWS_AT_ONCE)])

    return Embeddings(
        project(embeddings.prompts, q.prompt), project(embeddings.responses, torch.cat([q.first, q.second]))
    )


def decide(right: Mapping[int, Float[np.ndarray, " users"]], total: Int[np.ndarray, " users"]) -> Choice:
    """One-standard-error rule, held by a paired test: the smallest K that the best does not clearly beat.

    `right` are right judgements of `total` comparisons, candidates in ascending order. A candidate is
    sufficient within one standard error of the best, that of a mean over users, the larger of the two
    (Breiman et al., 1984); and also where the difference to the best, paired by user, is below Student's
    quantile of 97.5 %: with ten users chance alone makes several candidates differ by more than one error.
    One user tells no candidates apart. Errors are never below what so many answers can tell: where two of
    1,800 are judged wrong, or none, the spread over users says nothing.
    """
    judged = total > 0
    n_users, n = int(judged.sum()), int(total.sum())
    each = np.stack(list(right.values()))[:, judged] / total[judged]
    mean = each.mean(1)
    error, sufficient = np.zeros(len(mean)), np.ones(len(mean), dtype=bool)
    if n_users > 1:
        best = int(mean.argmax())
        # At least the error of n answers and two right and two wrong ones (Agresti and Coull).
        share = (mean * n + 2) / (n + 4)
        error = np.maximum(each.std(1, ddof=1) / np.sqrt(n_users), np.sqrt(share * (1 - share) / (n + 4)))
        paired = (each[best] - each).var(1, ddof=1) / n_users + UNSEEN / n**2
        margin = np.maximum(error, error[best])
        margin = np.maximum(margin, stdtrit(n_users - 1, 0.975) * np.sqrt(paired))
        sufficient = mean >= mean[best] - margin
    columns = (column.tolist() for column in (mean, error, sufficient))
    candidates = [Candidate(*row) for row in zip(right, *columns, strict=True)]
    K = next(candidate.K for candidate in candidates if candidate.sufficient)
    return Choice(K, candidates, n_users, n)


@dataclass(frozen=True)
class _Fold:
    """The other users' comparisons, which are fitted to, and the held-out users' with their sides' folds."""

    train: Comparisons
    n_users: int
    held_out: Comparisons
    side_folds: Int[Tensor, "2 n"]


def _folds(
    comparisons: Comparisons, n_users: int, device: torch.device | str, rng: np.random.Generator
) -> Iterator[_Fold]:
    """Folds of users at random, and of what a user compared (`folds_of_sides`)."""
    user_fold = torch.from_numpy(rng.permutation(n_users) % USER_FOLDS)
    side_folds = torch.from_numpy(folds_of_sides(comparisons, rng))
    for number in range(USER_FOLDS):
        fitted = user_fold != number
        inside = fitted[comparisons.user]
        train, held_out = comparisons[inside.nonzero().squeeze(1)], (~inside).nonzero().squeeze(1)
        row = fitted.cumsum(0) - 1  # the users of a fit are numbered without gaps
        yield _Fold(
            replace(train, user=row[train.user]).to(device),
            int(fitted.sum()),
            comparisons[held_out].to(device),
            side_folds[:, held_out].to(device),
        )


def folds_of_sides(comparisons: Comparisons, rng: np.random.Generator) -> Int[np.ndarray, "2 n"]:
    """The fold of either response of each comparison, so that no fold gives another's answers away.

    A user's comparisons that share responses stand in one fold, since A > B and B > C give away A > C; folds
    are at random, as even as can be. Where most of a user's comparisons hang together, their responses are
    dealt, and comparisons may lie between two folds.
    """
    q = comparisons.questions
    user = comparisons.user.numpy()
    prompt, low, high = (side[comparisons.question].numpy() for side in (q.prompt, q.first, q.second))
    block = linked_pairs(pl.DataFrame({"user": user, "prompt": prompt, "low": low, "high": high}))
    draw = rng.random(len(user))
    first = pl.DataFrame({"user": user, "block": block, "draw": draw}).with_columns(
        first=pl.col("draw").min().over("block"), size=pl.len().over("block"), of=pl.len().over("user")
    )
    place = first.select(pl.col("first").rank("dense").over("user") - 1)["first"].to_numpy().astype(np.int64)
    folds = np.stack([place, place]) % PAIR_FOLDS
    big = (first["size"] > 1).to_numpy() & (2 * first["size"] > first["of"]).to_numpy()
    if big.any():
        sides = pl.DataFrame(
            {"block": np.tile(block[big], 2), "item": np.concatenate([low[big], high[big]])}
        ).with_columns(draw=pl.Series(rng.random(2 * big.sum())))
        dealt = sides.select(pl.col("draw").min().over("block", "item").rank("dense").over("block") - 1)
        folds[:, big] = dealt["draw"].to_numpy().astype(np.int64).reshape(2, -1) % PAIR_FOLDS
    return folds


def _held_out_right(
    fitted: Fitted, embeddings: Embeddings, fold: _Fold, n_users: int, loss: str
) -> Float[np.ndarray, "2 users"]:
    """Right judgements of held-out users' comparisons, each by the user as located from the other folds.

    Then of the same with the one state that fits the other users best.
    """
    population = Points.from_states(fitted.states)
    user, (first, second) = fold.held_out.user, fold.side_folds
    inside = first == second
    with torch.inference_mode():
        each = population.evidence(fitted.head, embeddings, fold.held_out, loss)
        by_fold = population.total(each, first * n_users + user, PAIR_FOLDS * n_users)
        by_fold = by_fold.index_add(0, (second * n_users + user)[~inside], each[~inside])
        everything = population.total(each, user, n_users)
        # Evidence adds up over comparisons: all of it, less what a fold has part in, is that of the others.
        states = population.posterior((everything - by_fold.view(PAIR_FOLDS, n_users, -1)).flatten(0, 1)).mean
        judged = fold.held_out[inside.nonzero()[:, 0]]
        own = replace(judged, user=first[inside] * n_users + judged.user)
        alike = one_state_for_all(fitted.head, fitted.states, embeddings, fold.train)
        alike = (fitted.states[:1] if alike is None else alike).expand(n_users, -1)
        both = margins(fitted.head, states, embeddings, own), margins(fitted.head, alike, embeddings, judged)
    return np.stack([Judged.from_margins(each, judged.user, n_users=n_users).right for each in both])


def _with_one(
    right: dict[int, Float[np.ndarray, "2 users"]], total: Int[np.ndarray, " users"]
) -> dict[int, Float[np.ndarray, " users"]]:
    """Right judgements; of K = 1, if it is tried, at least those of the best K with one state for all."""
    own = {K: each for K, (each, _) in right.items()}
    if 1 in own:
        means = {K: (each / total.clip(1)).sum(1) for K, each in right.items()}
        best = max(means, key=lambda K: means[K][0])
        own[1] = right[best][1] if means[best][1] > means[1][0] else own[1]
    return own


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
    """Fits as `fit` with `most` prototypes, at most `n_users`, one fewer, and so on down to one.

    The K of the head is replaced, and there is no dropout: so few steps need no noise. The objective is
    `mixture`, with `grid_points` 0.
    """
    start = head.model_copy(update={"K": min(most + SPARE, n_users), "dropout": 0.0})
    if not len(train):
        raise PalError("train must hold at least one comparison, got none")
    embeddings, train = embeddings.to(device), train.to(device)
    train = train[torch.argsort(train.user, stable=True)]
    if config.weighting == "users":
        train = user_balanced(train, n_users)
    rates = ("learning_rate", "weights_learning_rate", "scale_learning_rate")
    slower = {name: REFINING_RATE * getattr(config, name) for name in rates}
    refining = config.model_copy(update={**slower, "anneal": 0.0, "max_steps": REFINING_STEPS})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model(start, **embeddings.dims).to(device)
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
                loss = mean_loss(margins(model, weights, embeddings, train), train, config.loss).item()
            check_finite(loss, config.epochs)
            if most >= K:
                yield Fitted(model.requires_grad_(requires_grad=False), weights, loss)
            if K == 1:
                return
            kept = _all_but(K, least_missed(joint)).to(device)
            model = with_prototypes(model, kept, **embeddings.dims)
            smaller = Mixture(embeddings, train, refining, n_users, model).to(device)
            shares = smaller.points @ (objective.log_share @ objective.points)[kept]
            smaller.log_share.copy_(shares.log_softmax(0))
            smaller.all_counts = objective.all_counts  # the answer counts, which stay the same
            objective = smaller
            descend(model, objective, embeddings, None, refining)


def with_prototypes(
    head: PreferenceModel, kept: Int[Tensor, " K"], *, prompt_dim: int, response_dim: int
) -> PreferenceModel:
    """A copy of a head with the prototypes `kept` alone, in training mode."""
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

    `joint` is the log of share times likelihood of each user at each prototype.
    """
    K = joint.shape[1]
    left = [torch.logsumexp(joint[:, _all_but(K, gone).to(joint.device)], 1).sum() for gone in range(K)]
    return int(torch.stack(left).argmax())


def _all_but(K: int, gone: int) -> Int[Tensor, " rest"]:
    return torch.tensor([k for k in range(K) if k != gone])
