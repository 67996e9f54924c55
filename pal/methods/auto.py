"""auto: the method that cross-validation over people, their answers and items asks for.

Each candidate is fitted to a part of the training comparisons and judged on the rest in three ways: on known
people's answers about responses that they have compared with nothing, on responses that nobody compared, and
on people who were kept out and located from half of their answers. The score is the log-likelihood, so that
confidence counts. A personal method must beat one reward for everyone significantly; among personal ones the
simplest within one standard error of the best is taken (Breiman et al., 1984).

Shapes used in this module:
    n      comparisons
    users  users of the task
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pal.comparisons import Comparisons
from pal.config import registered
from pal.methods import METHODS
from pal.methods.base import Learned, Method, Task

# The simplest first.
CANDIDATES = ("bt", "mixed_effects", "mixed_effects_items", "mixed_effects_prompts", "pal_ours", "pal_free")
# Those of which products with the prompt are part, and those that only a model without prompts needs.
WITH_PROMPTS, WITHOUT = ("mixed_effects_prompts",), ("pal_free",)
FOLDS = 4
REGIMES = ("known items", "new items", "new people")
NEW_ITEMS = 0.2  # share of responses (of prompts, where there are some) that a fold keeps from everyone
HELD_OUT = 0.25  # share of a person's responses that a fold tests on
NEW_PEOPLE = 0.2  # share of the people that a fold keeps out
SIGNIFICANT = 1.645  # standard errors by which a personal method must beat one reward for everyone: 95 %
MOST_PEOPLE = 2000  # that take part in choosing; the method chosen is fitted to all
FEWEST_PEOPLE = 10  # below which nothing can be told: one reward for everyone
LEAST = 1e-6  # probability below which a log-loss grows no further


@dataclass(frozen=True)
class Tried:
    """A candidate's held-out log-loss.

    Args:
        name: In `METHODS`.
        loss: Per person, in nats, mean over the ways of judging; NaN for people not judged.
        accuracy: Mean over people, by way of judging.
    """

    name: str
    loss: Float[np.ndarray, " users"]
    accuracy: dict[str, float]

    @property
    def mean(self) -> float:
        """Mean over people."""
        return float(np.nanmean(self.loss))

    def worse_than(self, other: "Tried") -> tuple[float, float]:
        """By how much its loss is higher, paired by person, and the standard error of that."""
        apart = self.loss - other.loss
        apart = apart[~np.isnan(apart)]
        return float(apart.mean()), float(apart.std(ddof=1) / np.sqrt(len(apart)))


def learn_auto(task: Task) -> Learned:
    """Try the candidates, and fit the one that was chosen to the whole task."""
    if len(torch.unique(task.train.user)) < FEWEST_PEOPLE:
        why = f"fewer than {FEWEST_PEOPLE} people, from whom it cannot be told whether people differ"
        learned = registered(METHODS, "bt").learn(task)
        return replace(learned, said=(f"auto: bt, since there are {why}.",), method="bt")
    left_out = WITHOUT if task.has_prompts else WITH_PROMPTS
    tried = [judge(name, task) for name in CANDIDATES if name not in left_out]
    name = decide(tried)
    learned = registered(METHODS, name).learn(task)
    return replace(learned, said=explain(tried, name), method=name)


def decide(tried: list[Tried]) -> str:
    """The candidate to take: the first is one reward for everyone, and the simplest come first."""
    shared, *personal = tried
    better = [each for each in personal if _gain(each, shared) > SIGNIFICANT]
    if not better:
        return shared.name
    best = min(better, key=lambda each: each.mean)
    for each in better:
        worse, error = each.worse_than(best)
        if worse <= error:
            return each.name
    return best.name


def _gain(each: Tried, shared: Tried) -> float:
    better, error = shared.worse_than(each)
    return better / max(error, 1e-9)


def explain(tried: list[Tried], name: str) -> tuple[str, ...]:
    """What was tried, a sentence each, and which was taken."""
    lines = []
    for each in tried:
        accuracies = ", ".join(f"{100 * value:.1f} % on {regime}" for regime, value in each.accuracy.items())
        worse, error = each.worse_than(tried[0])
        beside = f", {worse:+.4f} ± {error:.4f} beside {tried[0].name}" if each is not tried[0] else ""
        loss = f"log-loss {each.mean:.4f}{beside}"
        lines.append(f"auto tried {each.name}: {loss}; right in {accuracies}")
    shared = tried[0].name
    why = (
        f"no personal method beats one reward for everyone by {SIGNIFICANT} standard errors"
        if name == shared
        else f"it beats {shared} significantly, and is the simplest within one standard error of the best"
    )
    return (*lines, f"auto: {name}, since {why}.")


def judge(name: str, task: Task) -> Tried:
    """Cross-validate one method."""
    method: Method = registered(METHODS, name)
    losses = {regime: np.full((FOLDS, task.n_users), np.nan) for regime in REGIMES}
    rights = {regime: np.full((FOLDS, task.n_users), np.nan) for regime in REGIMES}
    for number, fold in enumerate(folds(task)):
        learned = method.learn(replace(task, train=fold.learn, val=fold.val, progress=None))
        belief = learned.posterior(task.embeddings, fold.located, task.n_users)
        for regime, pairs in fold.tests.items():
            if not len(pairs):
                continue
            chance = learned.probability(task.embeddings, pairs, belief).clamp_min(LEAST)
            label = 1.0 if pairs.label is None else pairs.label
            loss = -(label * chance.log() + (1 - label) * (1 - chance).clamp_min(LEAST).log())
            right = (chance > 0.5).double() + 0.5 * (chance == 0.5).double()
            losses[regime][number] = _by_user(loss, pairs, task.n_users)
            rights[regime][number] = _by_user(right, pairs, task.n_users)
    with np.errstate(all="ignore"):
        by_regime = np.stack([_mean(losses[regime]) for regime in REGIMES])
        accuracy = {
            regime: float(np.nanmean(rights[regime]))
            for regime in REGIMES
            if not np.isnan(rights[regime]).all()
        }
    return Tried(name, _mean(by_regime), accuracy)


def _mean(table: Float[np.ndarray, "rows users"]) -> Float[np.ndarray, " users"]:
    """Mean over the rows that have a number; NaN where none has."""
    count = (~np.isnan(table)).sum(0)
    return np.where(count, np.nansum(table, 0) / np.maximum(count, 1), np.nan)


def _by_user(values: Tensor, pairs: Comparisons, n_users: int) -> Float[np.ndarray, " users"]:
    user = pairs.user.numpy(force=True)
    count = np.bincount(user, minlength=n_users)
    total = np.bincount(user, weights=values.double().numpy(force=True), minlength=n_users)
    return np.where(count, total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class Fold:
    """What a candidate is fitted to, what people are located by, and what it is judged on."""

    learn: Comparisons
    val: Comparisons | None
    located: Comparisons
    tests: dict[str, Comparisons]


def folds(task: Task) -> Iterator[Fold]:
    """Folds of people, of their responses, and of items; the same for every candidate."""
    pairs, rng = task.train, np.random.default_rng(task.seed)
    user = pairs.user.numpy(force=True)
    q = pairs.questions
    prompt, first, second = (x[pairs.question].numpy(force=True) for x in (q.prompt, q.first, q.second))
    width = int(max(first.max(), second.max())) + 1
    take_part = np.zeros(task.n_users, dtype=bool)
    take_part[rng.permutation(np.unique(user))[:MOST_PEOPLE]] = True
    # A response to a prompt; what one person says of it stays on one side of the fold.
    sides = np.stack([(prompt + 1) * width + first, (prompt + 1) * width + second])
    items, sides = np.unique(sides, return_inverse=True)
    sides = sides.reshape(2, -1)
    cells, cell = np.unique(user * len(items) + sides, return_inverse=True)
    cell = cell.reshape(2, -1)
    once = (np.bincount(cell.ravel()) == 1)[cell].all(
        0
    )  # pairs that share no response with another of the user
    for _ in range(FOLDS):
        new_person = rng.random(task.n_users) < NEW_PEOPLE
        shared = prompt if task.has_prompts else np.stack([first, second])
        new_item = (rng.random(int(shared.max()) + 1) < NEW_ITEMS)[shared]
        new, mixed = new_item, np.zeros_like(new_item)
        if not task.has_prompts:
            new, mixed = new_item.all(0), new_item[0] != new_item[1]
        tested = (rng.random(len(cells)) < HELD_OUT)[cell]
        alone = rng.random(len(user)) < HELD_OUT
        test = np.where(once, alone, tested.all(0))
        across = ~once & (tested[0] != tested[1])
        inside = take_part[user] & ~mixed
        known = inside & ~new & ~across
        old = ~new_person[user]

        def rows(mask: Bool[np.ndarray, " n"]) -> Comparisons:
            return pairs[torch.from_numpy(np.flatnonzero(mask)).to(pairs.user.device)]

        val = task.val
        if val is not None:
            kept = take_part & ~new_person
            val = val[torch.from_numpy(np.flatnonzero(kept[val.user.numpy(force=True)])).to(val.user.device)]
        yield Fold(
            rows(known & ~test & old),
            val,
            rows(known & ~test),
            {
                "known items": rows(known & test & old),
                "new items": rows(inside & new & old),
                "new people": rows(known & test & ~old),
            },
        )


AUTO = Method(
    "chosen by cross-validation",
    "One-standard-error rule (Breiman et al., 1984) over people, answers and items",
    "A personal method must beat one reward for everyone significantly.",
    learn_auto,
    prototypes=True,
)
