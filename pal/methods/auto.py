"""auto: the method that cross-validation over people, their answers and items asks for.

Each candidate is fitted to a part of the training comparisons and judged on the rest in three ways: on known
people's answers about responses that they have compared with nothing, on responses that nobody compared, and
on people who were kept out and located from some of their answers. A fold keeps out either people and answers
or items, so that what is left is nearly all that the method will be fitted to: from half of the answers a
personal method would look worse than it is. The score is the log-likelihood, so that confidence counts. A
personal method must beat one reward for everyone significantly, and also this one and its own where all have
one taste, but each a care of their own: that some answer at random is no taste, and neither is what a
personal method fits better of what everyone shares. Among personal ones the simplest within one standard
error of the best is taken (Breiman et al., 1984).

Shapes: n comparisons, users of the task, regimes (ways of judging).
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import stdtrit
from torch import Tensor
from torch.nn.functional import logsigmoid

from pal.comparisons import Comparisons
from pal.config import registered
from pal.evaluation.prototypes import CARES
from pal.fitting.mixed_effects import TIE
from pal.methods import METHODS
from pal.methods.base import Learned, Method, Task

# The simplest first.
CANDIDATES = (
    "bt",
    "bt_prompts",
    "mixed_effects",
    "mixed_effects_items",
    "mixed_effects_prompts",
    "pal_ours",
    "pal_free",
)
# Those of which products with the prompt are part, and those that only a model without prompts needs.
WITH_PROMPTS, WITHOUT = ("bt_prompts", "mixed_effects_prompts"), ("pal_free",)
# Each tests a part of the people: half of these are kept out, of the others some answers.
PEOPLE_FOLDS = 3
ITEM_FOLDS = 2
REGIMES = ("known items", "new people", "new items")
NEW_ITEMS = 0.2  # share of responses (prompts, where there are some) that a fold of items keeps from all
PARTS = 3  # that a tested person's responses are dealt into; each is tested in turn where nothing is refitted
LEVEL = 0.95  # one-sided, at which a personal method must beat one reward for everyone
FAR_BEHIND = 4.0  # standard errors behind another, from which on a candidate is tried no further
MOST_PEOPLE = 2000  # that take part in choosing; the method chosen is fitted to all
FEWEST_PEOPLE = 10  # below which nothing can be told: one reward for everyone
ROUNDS = 20  # of EM for how common each care is
LEAST = 1e-6  # probability below which a log-loss grows no further


@dataclass(frozen=True)
class Tried:
    """A candidate's held-out log-loss."""

    name: str  # in `METHODS`
    loss: Float[np.ndarray, "regimes users"]  # in nats; NaN where a person was not judged
    accuracy: dict[str, float]  # mean over people, by way of judging
    folds: int = 0  # that it was tried on
    personal: bool = True  # whether people get rewards of their own
    # The loss where everyone has one taste, but each a care of their own.
    alike: Float[np.ndarray, "regimes users"] | None = None

    @property
    def mean(self) -> float:
        """Mean over people, then over the ways of judging."""
        judged = self.loss[~np.isnan(self.loss).all(1)]
        return float(np.nanmean(judged, 1).mean())

    def worse_than(self, other: "Tried") -> tuple[float, float]:
        """By how much its loss is higher, and the standard error of that, by person."""
        apart = self.loss - other.loss
        apart = apart[~np.isnan(apart).all(1)]
        means = np.nanmean(apart, 1, keepdims=True)
        # A person's share in the mean over people of each way of judging, and so in the mean of these.
        judged = (~np.isnan(apart)).sum(1, keepdims=True)
        by_person = np.nansum((apart - means) / judged, 0) / len(apart)
        n = (~np.isnan(apart)).any(0).sum()
        return float(means.mean()), float(np.sqrt(np.square(by_person).sum() * n / (n - 1)))


def learn_auto(task: Task) -> Learned:
    """Try the candidates, and fit the one that was chosen to the whole task."""
    if len(torch.unique(task.train.user)) < FEWEST_PEOPLE:
        why = f"fewer than {FEWEST_PEOPLE} people, from whom it cannot be told whether people differ"
        learned = registered(METHODS, "bt").learn(task)
        return replace(learned, said=(f"auto: bt, since there are {why}.",), method="bt")
    left_out = WITHOUT if task.has_prompts else WITH_PROMPTS
    tried = race([name for name in CANDIDATES if name not in left_out], task)
    name = decide(tried)
    learned = registered(METHODS, name).learn(task)
    return replace(learned, said=explain(tried, name), method=name)


def decide(tried: list[Tried]) -> str:
    """The candidate to take; the simplest come first, and the first is one reward for everyone."""
    done = [each for each in tried if each.folds == tried[0].folds]
    # A personal reward has to beat what one reward can do that reads the same: prompts, too.
    shared = _simplest([each for each in done if not each.personal])
    better = [each for each in done if each.personal and _beats(each, shared)]
    return _simplest(better).name if better else shared.name


def _simplest(tried: list[Tried]) -> Tried:
    """The first within one standard error of the best."""
    best = min(tried, key=lambda each: each.mean)
    return next(each for each in tried if each is best or operator.le(*each.worse_than(best)))


def _beats(each: Tried, shared: Tried) -> bool:
    """Whether it is significantly better than `shared`, and than both where all have one taste.

    By t-tests over people: of ten the error itself is unsure.
    """
    people = int((~np.isnan(each.loss - shared.loss)).any(0).sum())
    alike = [replace(other, loss=other.alike) for other in (shared, each) if other.alike is not None]
    beside = (other.worse_than(each) for other in (shared, *alike))
    return all(better > max(error, 1e-9) * float(stdtrit(people - 1, LEVEL)) for better, error in beside)


def explain(tried: list[Tried], name: str) -> tuple[str, ...]:
    """What was tried, a sentence each, and which was taken."""
    best = min((each for each in tried if each.folds == tried[0].folds), key=lambda each: each.mean)
    beside_whom = (tried[0], best) if best is not tried[0] else (best,)
    lines = []
    for each in tried:
        accuracies = ", ".join(f"{100 * value:.1f} % on {regime}" for regime, value in each.accuracy.items())
        beside = [
            "{:+.4f} ± {:.4f} beside {}".format(*each.worse_than(other), other.name)
            for other in beside_whom
            if other is not each
        ]
        if each.folds == tried[0].folds:
            told = ", ".join([f"log-loss {each.mean:.4f}", *beside]) + f"; right in {accuracies}"
        else:  # its means are of other answers
            told = f"given up after {each.folds} of {tried[0].folds} folds, {', '.join(beside)}"
        lines.append(f"auto tried {each.name}: {told}")
    why = (
        "it beats one reward for everyone significantly, and is the simplest within one standard error of "
        "the best"
        if name in [each.name for each in tried if each.personal]
        else f"no personal method beats one reward for everyone significantly (one-sided, {LEVEL:.0%})"
    )
    return (*lines, f"auto: {name}, since {why}.")


def race(names: Sequence[str], task: Task) -> list[Tried]:
    """Cross-validate methods fold by fold; one that is far behind another is given up.

    This is a race (Maron and Moore, 1994). The first, which others are held against, is never given up.
    """
    nothing = np.full((3, task.n_users), np.nan)  # loss, loss where all have one taste, and accuracy
    judged = {name: {regime: [nothing] for regime in REGIMES} for name in names}
    tried: dict[str, Tried] = {}
    racing = list(names)
    for number, fold in enumerate(folds(task), 1):
        for name in racing:
            method: Method = registered(METHODS, name)
            learned = method.learn(replace(task, train=fold.learn, val=fold.val, progress=None))
            for regime, located, pairs in fold.tests:
                belief = learned.posterior(task.embeddings, located, task.n_users)
                chance = learned.probability(task.embeddings, pairs, belief)
                alike = chance_without_taste(learned, task, fold.learn, located, pairs)
                right = (chance > 0.5).double() + 0.5 * (chance == 0.5).double()
                values = _log_loss(chance, pairs), _log_loss(alike, pairs), right
                judged[name][regime].append(np.stack([_by_user(x, pairs, task.n_users) for x in values]))
            means = np.stack([_mean_over_folds(tables) for tables in judged[name].values()])
            accuracy = {
                regime: float(np.nanmean([right for _, _, right in tables]))
                for regime, tables in judged[name].items()
                if len(tables) > 1
            }
            tried[name] = Tried(name, means[:, 0], accuracy, number, method.personal, means[:, 1])
        best = min((tried[name] for name in racing), key=lambda each: each.mean)
        behind = {name: tried[name].worse_than(best) for name in racing if name != best.name}
        racing = [
            name
            for name in racing
            if name in (names[0], best.name) or behind[name][0] <= FAR_BEHIND * behind[name][1]
        ]
    return list(tried.values())


def chance_without_taste(
    learned: Learned, task: Task, learn: Comparisons, located: Comparisons, pairs: Comparisons
) -> Float[Tensor, " n"]:
    """Chances of what was chosen in `pairs` if everyone had one taste, but each a care of their own.

    Margins of someone of whom nothing is known are multiplied by the person's care, an inverse temperature.
    It is one of a few numbers: how common each is, is learned from all people by EM (`learn`, their answers),
    and which of them a person's is, from their own answers (`located`).
    """
    nothing = learned.posterior(task.embeddings, located.slice(0, 0), task.n_users)
    cares = torch.tensor(CARES, dtype=torch.float64)

    def margins(of: Comparisons) -> Float[Tensor, "n cares"]:
        chance = learned.probability(task.embeddings, of, nothing).double().cpu()
        return torch.logit(chance.clamp(LEAST, 1 - LEAST))[:, None] * cares

    def likelihood(of: Comparisons) -> Float[Tensor, "users cares"]:
        label, weight = (x.double().cpu()[:, None] for x in (of.labels, of.weights))
        margin = margins(of)
        each = weight * (label * logsigmoid(margin) + (1 - label) * logsigmoid(-margin))
        return torch.zeros(task.n_users, len(cares)).double().index_add(0, of.user.cpu(), each)

    of_all = likelihood(learn)[torch.unique(learn.user.cpu())]
    shares = torch.full_like(cares, 1 / len(cares))
    for _ in range(ROUNDS):
        shares = torch.softmax(of_all + shares.clamp_min(1e-9).log(), 1).mean(0)
    belief = torch.softmax(likelihood(located) + shares.log(), 1)
    chance = (belief[pairs.user.cpu()] * torch.sigmoid(margins(pairs))).sum(1)
    return chance.to(pairs.user.device)


def _log_loss(chance: Float[Tensor, " n"], pairs: Comparisons) -> Float[Tensor, " n"]:
    label, chance = pairs.labels, chance.clamp_min(LEAST)
    return -(label * chance.log() + (1 - label) * (1 - chance).clamp_min(LEAST).log())


def _mean_over_folds(tables: list[Float[np.ndarray, "values users"]]) -> Float[np.ndarray, "values users"]:
    """Each person's means over the folds in which they were judged."""
    count = (~np.isnan(tables)).sum(0)
    return np.where(count, np.nansum(tables, 0) / np.maximum(count, 1), np.nan)


def _by_user(values: Tensor, pairs: Comparisons, n_users: int) -> Float[np.ndarray, " users"]:
    """Each person's mean; NaN of those who are not in the pairs."""
    user = pairs.user.numpy(force=True)
    count = np.bincount(user, minlength=n_users)
    total = np.bincount(user, weights=values.double().numpy(force=True), minlength=n_users)
    return np.where(count, total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class Fold:
    """What a candidate is fitted to, and how it is judged: by what people are located, and on what."""

    learn: Comparisons
    val: Comparisons | None
    tests: list[tuple[str, Comparisons, Comparisons]]


def folds(task: Task) -> Iterator[Fold]:
    """Folds of people with some of their responses, then folds of items; the same for every candidate."""
    pairs, rng = task.train, np.random.default_rng(task.seed)
    user, device = pairs.user.numpy(force=True), pairs.user.device
    prompt, first, second = _items(pairs)
    width = int(max(first.max(), second.max())) + 1
    people = rng.permutation(np.unique(user))[:MOST_PEOPLE]
    inside = np.isin(user, people)
    # A response to a prompt; what one person says of it stays on one side of the fold.
    sides = np.stack([(prompt + 1) * width + first, (prompt + 1) * width + second])
    items, sides = np.unique(sides, return_inverse=True)
    cells, cell = np.unique(user * len(items) + sides.reshape(2, -1), return_inverse=True)
    cell = cell.reshape(2, -1)
    # Pairs that share no response with another of the user.
    once = (np.bincount(cell.ravel()) == 1)[cell].all(0)

    def rows(mask: Bool[np.ndarray, " n"], of: Comparisons = pairs) -> Comparisons:
        return of[torch.from_numpy(np.flatnonzero(mask)).to(device)]

    def validation(mask: Callable[[Comparisons], Bool[np.ndarray, " n"]]) -> Comparisons | None:
        return None if task.val is None else rows(mask(task.val), task.val)

    decided = (pairs.labels != TIE).numpy(force=True)
    for number in range(PEOPLE_FOLDS):
        tested, new = people[number::PEOPLE_FOLDS], people[number :: 2 * PEOPLE_FOLDS]
        stranger, known = np.isin(user, new), np.isin(user, np.setdiff1d(tested, new))
        dealt, alone = rng.integers(PARTS, size=len(cells))[cell], rng.integers(PARTS, size=len(user))
        test = [np.where(once, alone == part, (dealt == part).all(0)) for part in range(PARTS)]
        kept = [np.where(once, alone != part, (dealt != part).all(0)) for part in range(PARTS)]
        learn = rows(inside & ~stranger & (~known | kept[0]))
        tests = [("known items", learn, rows(known & test[0] & decided))]
        tests += [
            ("new people", rows(stranger & kept[part]), rows(stranger & test[part] & decided))
            for part in range(PARTS)
        ]
        old = np.setdiff1d(people, new)
        val = validation(lambda val, old=old: np.isin(val.user.numpy(force=True), old))
        yield Fold(learn, val, [test for test in tests if len(test[-1])])
    for _ in range(ITEM_FOLDS):
        new_item = rng.random(max(width, int(prompt.max()) + 1)) < NEW_ITEMS

        def share(of: Comparisons, new_item: Bool[np.ndarray, " items"] = new_item) -> np.ndarray:
            """How many of a comparison's two responses (of its prompt) are new."""
            prompt, first, second = _items(of)
            return (
                2 * new_item[prompt] if task.has_prompts else new_item[first].astype(int) + new_item[second]
            )

        learn = rows(inside & (share(pairs) == 0))
        new = rows(inside & (share(pairs) == 2) & decided)
        if not len(learn) or not len(new):  # with a handful of items nothing can be told of new ones
            continue
        known = validation(lambda val: np.isin(val.user.numpy(force=True), people) & (share(val) == 0))
        yield Fold(learn, known, [("new items", learn, new)])


def _items(of: Comparisons) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prompt and both responses of each comparison."""
    q = of.questions
    return tuple(x[of.question].numpy(force=True) for x in (q.prompt, q.first, q.second))


AUTO = Method(
    "chosen by cross-validation",
    "One-standard-error rule (Breiman et al., 1984) over people, answers and items",
    "A personal method must beat one reward for everyone significantly.",
    learn_auto,
    prototypes=True,
)
