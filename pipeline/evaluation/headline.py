"""Headline: the at most 15 numbers kept in Git, and paired comparisons of models."""

from fnmatch import fnmatch
from typing import Any

import numpy as np

from pal.evaluation.accuracy import Judged, paired_test
from pipeline.evaluation.predictions import rounded
from pipeline.evaluation.slices import METRICS, Score, Scores, find
from pipeline.params import Evaluate

MAX_NUMBERS = 15
HEADLINE_SHOTS = 4
# By falling importance, metrics that are not listed before all others. Of the numbers that a dataset has, the
# first 15 are shown; the rest stands in the details.
CHOSEN = (
    *("seen.accuracy", "seen.k1.accuracy", "seen.longer.accuracy", "seen.plurality_p"),
    *("unseen.zero_shot.accuracy", "unseen.few_shot.{headline}.accuracy", "seen.similarity.accuracy"),
    *("seen.filtered.accuracy", "seen.untouched.accuracy", "tests.*"),
    *("unseen.filtered.accuracy", "unseen.untouched.accuracy", "seen.new_items.accuracy"),
    *("seen.worst_decile", "seen.balanced_accuracy", "seen.oracle.accuracy", "unseen.few_shot.*"),
    *("unseen.new_items.accuracy", "seen.majority.accuracy", "unseen.k1.accuracy"),
)
NAMES = {"balanced": "balanced_accuracy"}
DETAILS_ONLY = ("macro",)
NOT_COMPARED: dict[str, float | None] = dict.fromkeys(("difference", "low", "high", "p", "users"))
ONE_REWARD = ("k1", "shared")  # the K = 1 of the same settings, and the model with one state for everyone


def headline(
    scores: Scores, plurality: dict[str, dict[str, float | None]], knobs: Evaluate
) -> dict[str, Any]:
    """The numbers shown by `dvc metrics diff`, as nested dicts: of those that there are, the 15 of CHOSEN."""
    patterns = [pattern.format(headline=knobs.headline_shots) for pattern in CHOSEN]

    def rank(name: str) -> int:
        return next((n for n, pattern in enumerate(patterns) if fnmatch(name, pattern)), -1)

    numbers = {name: value for name, value in _numbers(scores, plurality, knobs).items() if value is not None}
    last_first = list(numbers)[::-1]  # so that of few-shot numbers those with more shots are chosen
    chosen = sorted(last_first, key=rank)[:MAX_NUMBERS]
    tree: dict[str, Any] = {}
    for name in (name for name in numbers if name in chosen):
        *path, last = name.split(".")
        section = tree
        for key in path:
            section = section.setdefault(key, {})
        section[last] = numbers[name]
    return tree


def _numbers(
    scores: Scores, plurality: dict[str, dict[str, float | None]], knobs: Evaluate
) -> dict[str, float | None]:
    """Every candidate by its dotted name, in the order to show them; None where it does not apply."""

    def accuracy(users: str, model: str, **labels: Any) -> float | None:
        score = find(scores.main, users, model, **labels)
        return rounded(score.metrics["accuracy"]) if score else None

    def by_filter(users: str, shots: tuple[int | None, ...]) -> dict[str, float | None]:
        """Accuracies on filtered and on untouched pairs, at the first of the shots that was judged."""
        first: dict[str, float | None] = {}
        for pairs in ("filtered", "untouched"):
            each = (find(scores.by_filter, users, "model", shots=n, pairs=pairs) for n in shots)
            score = next(filter(None, each), None)
            first[f"{users}.{pairs}.accuracy"] = rounded(score.metrics["accuracy"]) if score else None
        return first

    model = find(scores.main, "seen", "model")
    metrics = model.metrics if model else {}
    few_answers = metrics.get("balanced") is not None
    baselines = () if few_answers else ("longer", "similarity")
    shots = sorted({knobs.headline_shots, *sorted(set(knobs.shots))[-HEADLINE_SHOTS + 1 :]})
    tests = {
        f"tests.{name}.{users}.accuracy": find(scores.by_test, users, "model", shots=n, test=name)
        for name in dict.fromkeys(score.test for score in scores.by_test)
        for users, n in (("seen", None), ("all", 0))
    }
    return {
        **{f"seen.{NAMES.get(m, m)}": rounded(metrics.get(m)) for m in METRICS if m not in DETAILS_ONLY},
        "seen.new_items.accuracy": accuracy("seen", "model", new=True),
        **by_filter("seen", (None,)),
        **{f"seen.{m}.accuracy": accuracy("seen", m) for m in ("k1", *baselines, "majority", "oracle")},
        "seen.plurality_p": plurality["seen"].get("differ_p"),
        "unseen.zero_shot.accuracy": accuracy("unseen", "model", shots=0),
        **{f"unseen.few_shot.{n}.accuracy": accuracy("unseen", "model", shots=n) for n in shots},
        "unseen.new_items.accuracy": accuracy("unseen", "model", shots=knobs.headline_shots, new=True),
        **by_filter("unseen", (knobs.headline_shots, 0)),
        "unseen.k1.accuracy": accuracy("unseen", "k1"),
        **{name: rounded(score.metrics["accuracy"]) if score else None for name, score in tests.items()},
    }


def against_one_reward(
    scores: list[Score], users: str, knobs: Evaluate, *, new: bool = False
) -> dict[str, float | None]:
    """Whether the model beats one reward for everyone, paired by user; nulls where it is one reward.

    Of the two rewards for everyone (ONE_REWARD) the one that is harder to beat counts: a K = 1 is narrower,
    and has no prototype at which to set careless users aside. Unseen users are taken at the headline shots,
    at none where they cannot be located.

    Args:
        scores: Of the headline test set.
        users: seen or unseen.
        knobs: Shots and seed.
        new: On new items; else on all, or where these are kept apart on known ones.
    """
    shots = (None,) if users == "seen" else (knobs.headline_shots, 0)
    model = next(filter(None, (find(scores, users, "model", shots=n, new=new) for n in shots)), None)
    tests = [compare(model, find(scores, users, name, new=new), knobs) for name in ONE_REWARD]
    compared = [test for test in tests if test["low"] is not None]
    return min(compared, key=lambda test: test["low"] or 0, default=dict(NOT_COMPARED))


def compare(score: Score | None, other: Score | None, knobs: Evaluate) -> dict[str, float | None]:
    """How much more accurate the first is than the other, paired by user; nulls where either is missing.

    Of the users whom both judge: few-shot numbers leave out who has too few comparisons.
    """
    if score is None or other is None:
        return dict(NOT_COMPARED)
    _, *rows = np.intersect1d(score.user, other.user, return_indices=True)
    if not len(rows[0]):
        return dict(NOT_COMPARED)
    sides = (each.judged for each in (score, other))
    x, y = (Judged(side.right[at], side.total[at]) for side, at in zip(sides, rows, strict=True))
    test = paired_test(x, y, seed=knobs.seed)
    values = (test.difference, test.low, test.high, test.p_value, test.n_users)
    return dict(zip(NOT_COMPARED, map(rounded, values), strict=True))


def fewer_users(scores: list[Score], knobs: Evaluate) -> list[str]:
    """A sentence on the few-shot numbers that leave out users with fewer comparisons; none if none does."""
    at = {n: len(s.user) for n in (0, *knobs.shots) if (s := find(scores, "unseen", "model", shots=n))}
    every = at.get(0, 0)
    fewer = ", ".join(f"{at.get(n, 0):,} of {every:,} at {n}" for n in knobs.shots if at.get(n, 0) < every)
    return [f"Few-shot numbers are of the unseen users with so many comparisons: {fewer}."] if fewer else []
