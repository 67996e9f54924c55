"""Scores of every model on every slice of the predictions, and the few of them that Git keeps.

users   seen, unseen; unlocated, those unseen without a comparison to locate them by, where others have some;
        all of these together
items   known or new to training, or all; or never seen, the cold-start slice
test    the named test set, where a dataset has several
pairs   filtered or untouched, where images got colour filters; or all

METRICS is the list to add a metric to; CHOSEN says which numbers are in the headline.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import chain, product
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Int

from pal.comparisons import Comparisons
from pal.evaluation.accuracy import Judged, confidence_interval, paired_test, worst_decile
from pipeline.datasets import DATASETS
from pipeline.evaluation.predictions import FEW_ANSWERS, USERS, few_answers, rounded
from pipeline.params import Evaluate
from pipeline.study import Study

Numbers = dict[str, float | None]
# The test set that headlines are about, the first of these that occurs (D32).
HEADLINE_TESTS = ("no_leakage", "test")
# Version 2's test set comes in two parts; together they are what is published as its test set.
PARTS_OF_TEST = ("leakage", "no_leakage")
LABELS = ("users", "items", "test", "pairs", "shots", "model")
NEVER_SEEN = "never seen"  # what the items of the cold-start slice are called
KNOWN_ITEMS = "unseen users are tested on {} that training knows, every one of them"
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
NOT_COMPARED: Numbers = dict.fromkeys(("difference", "low", "high", "p", "users"))
ONE_REWARD = ("k1", "shared")  # the K = 1 of the same settings, and the model with one state for everyone


def judged(predictions: pl.DataFrame) -> Judged:
    """Right judgements per user, means over the draws of the shots; users in the order of their numbers."""
    _, first, user, total = np.unique(
        predictions["user"], return_index=True, return_inverse=True, return_counts=True
    )
    draws = predictions["draws"].to_numpy()[first]
    return Judged(np.bincount(user, weights=predictions["right"]) / draws, total)


def balanced(predictions: pl.DataFrame) -> float | None:
    """Mean over answers of the accuracy among pairs with that answer; None where there are many answers."""
    by_answer = predictions.group_by("answer").agg((pl.col("right") / pl.col("draws")).mean())
    return by_answer["right"].mean() if 2 <= len(by_answer) <= FEW_ANSWERS else None


# What is measured of every model on every slice: functions of its predictions there. To add a metric is
# one function and one line: details, report and headline show it (macro is in the details alone).
METRICS: dict[str, Callable[[pl.DataFrame], float | None]] = {
    "accuracy": lambda predictions: judged(predictions).micro,
    "macro": lambda predictions: judged(predictions).macro,
    "balanced": balanced,
    "worst_decile": lambda predictions: worst_decile(judged(predictions)),
}


@dataclass(frozen=True)
class Score:
    """One model on one slice; labels as the predictions have them, `user` the numbers of the users judged."""

    users: str
    items: str
    test: str
    pairs: str
    shots: int | None
    model: str
    user: Int[np.ndarray, " users"]
    judged: Judged
    metrics: Numbers

    def row(self) -> dict[str, Any]:
        """A row of the details: labels, metrics, the interval of the accuracy, and counts."""
        low, high = confidence_interval(self.judged)
        metrics = {name: rounded(value) for name, value in self.metrics.items()}
        labels = {name: getattr(self, name) for name in LABELS}
        accuracy = {"accuracy": metrics.pop("accuracy"), "low": rounded(low), "high": rounded(high)}
        counts = {"n_users": len(self.judged.total), "n_pairs": int(self.judged.total.sum())}
        return {**labels, **accuracy, **metrics, **counts}


@dataclass(frozen=True)
class Scores:
    """Every model on every slice."""

    main: list[Score]  # the headline test set, by users and items
    by_test: list[Score] = field(default_factory=list)  # every named one; empty where there is one set
    by_filter: list[Score] = field(default_factory=list)  # of the headline test set; empty without filters
    test: str = ""  # the headline test set's name; empty where there is one set
    cold_start: list[Score] = field(default_factory=list)  # users, prompts and responses never seen, at once
    # Its pairs; those left_out, since the same user was located by one of their items; and why it is empty.
    cold_start_counts: dict[str, str | int] = field(default_factory=dict)


def find(scores: list[Score], users: str, model: str, *, new: bool = False, **labels: Any) -> Score | None:
    """The score of a model on all items, on known ones where these are kept apart, or on new ones.

    Without other labels: of no shots, on all pairs, of any test set.
    """
    labels = {"users": users, "model": model, "shots": None, "pairs": "all", **labels}
    for items in ("new",) if new else ("all", "known"):
        for score in scores:
            if score.items == items and all(getattr(score, name) == at for name, at in labels.items()):
                return score
    return None


def score_slices(predictions: pl.DataFrame, data: Study, knobs: Evaluate) -> Scores:
    """Score every model on every slice of the predictions."""
    pairs = predictions.select("pair", "users").unique("pair", maintain_order=True)
    pairs = pairs.hstack(data.places.select("items", "test", "filtered")[pairs["pair"]])
    sets = named_sets(pairs)
    # The set that headlines are about, else the largest; empty where all is one set.
    sizes = {name: pairs["test"].is_in(members).sum() for name, members in sets.items()}
    largest = max(sizes, key=lambda name: sizes[name], default="")
    headline = next((name for name in HEADLINE_TESTS if name in sets), largest)
    in_headline = pl.col("test").is_in(sets[headline]) if headline else pl.lit(value=True)
    comparisons = data.comparisons[torch.from_numpy(pairs["pair"].to_numpy().astype("int64"))]
    pairs = pairs.with_columns(
        in_headline=in_headline.fill_null(value=False),
        filtered=pl.col("filtered").is_not_null(),
        **cold_start_columns(data, comparisons),
    )
    table = predictions.join(pairs.drop("users"), on="pair", maintain_order="left")

    main, by_test, by_filter, cold_start = [], [], [], []
    for users in USERS:
        rows = table.filter(pl.col("users") == users, "in_headline")
        kinds = sorted(rows["items"].unique().to_list())
        if len(kinds) < 2 or not DATASETS[data.dataset].ITEMS_APART:
            main += _scores(rows, users, test=headline)
        for items in kinds if len(kinds) > 1 else ():
            main += _scores(rows.filter(pl.col("items") == items), users, items=items, test=headline)
        if rows["filtered"].any():
            by_filter += _scores(rows.filter("filtered"), users, test=headline, pairs="filtered")
            by_filter += _scores(rows.filter(~pl.col("filtered")), users, test=headline, pairs="untouched")
    for name, members in sets.items():
        rows = table.filter(pl.col("test").is_in(members))
        for users in USERS:
            by_test += _scores(rows.filter(pl.col("users") == users), users, test=name)
        by_test += _scores(everyone(rows, knobs.headline_shots), "all", test=name)

    unseen = table.filter(pl.col("users") != "seen", "in_headline")
    new = pl.col("new_prompt") & pl.col("new_responses")
    for users in USERS[1:]:
        rows = unseen.filter(pl.col("users") == users, new, ~pl.col("located_by"))
        cold_start += _scores(rows, users, items=NEVER_SEEN, test=headline)
    pairs = unseen.unique("pair")
    n, left_out = len(pairs.filter(new, ~pl.col("located_by"))), len(pairs.filter(new, "located_by"))
    reasons = (  # why the slice is empty, by what is missing first
        (n > 0, ""),
        (not len(pairs), "no unseen user has a comparison to test on"),
        (left_out > 0, "unseen users were located by the very items that training never showed"),
        (data.prompt_ids and not pairs["new_prompt"].any(), KNOWN_ITEMS.format("prompts")),
        (not pairs["new_responses"].any(), KNOWN_ITEMS.format("responses")),
        (True, "no comparison of unseen users has a new prompt and new responses at once"),
    )
    why = next(reason for applies, reason in reasons if applies)
    counts = {"why": why, "pairs": n, "left_out": left_out}
    return Scores(main, by_test, by_filter, headline, cold_start, counts)


def _scores(
    predictions: pl.DataFrame, users: str, *, items: str = "all", test: str = "", pairs: str = "all"
) -> list[Score]:
    """Every model on one slice; nothing where the slice is empty."""
    return [
        Score(
            *(users, items, test, pairs, shots, model, np.unique(rows["user"]), judged(rows)),
            {name: metric(rows) for name, metric in METRICS.items()},
        )
        for (model, shots), rows in predictions.group_by("model", "shots", maintain_order=True)
    ]


def named_sets(pairs: pl.DataFrame) -> dict[str, list[str]]:
    """The test sets to report by name, each with the marks that belong to it; empty where all is one set."""
    names = sorted(pairs["test"].drop_nulls().unique().to_list())
    if len(names) < 2:
        return {}
    sets = {name: [name] for name in names}
    if set(PARTS_OF_TEST) <= set(names) and "test" not in names:
        sets["test"] = list(PARTS_OF_TEST)
    return sets


def everyone(predictions: pl.DataFrame, headline_shots: int) -> pl.DataFrame:
    """Seen users, and unlocated ones, together with unseen ones from none and from the headline shots."""
    groups = dict(predictions.group_by("users", "model", "shots", maintain_order=True))
    halves = list(dict.fromkeys(users for users, _, _ in groups))
    tables = [predictions.clear()]
    if set(halves) <= {"seen"}:
        return tables[0]
    for model in dict.fromkeys(model for _, model, _ in groups):
        for shots in (0, headline_shots) if model == "model" else (None,):
            keys = [
                next((key for n in (shots, None, 0) if (key := (users, model, n)) in groups), None)
                for users in halves
            ]
            if None not in keys and any((users, model, shots) in groups for users in halves):
                tables += [groups[key].with_columns(shots=pl.lit(shots, pl.Int32)) for key in keys if key]
    return pl.concat(tables)


def cold_start_columns(data: Study, pairs: Comparisons) -> dict[str, pl.Series]:
    """Which pairs have a prompt, which have responses, that no training pair has; which are `located_by`.

    These share an item with an adapt pair of the same user. Where all questions share a few answers, as yes
    and no, responses cannot be new, and only the prompt counts.
    """
    train, adapt, q = data.select("seen", "train"), data.select("unseen", "adapt"), data.comparisons.questions
    question = pairs.question
    prompts = [q.prompt] if data.prompt_ids else []
    responses = [] if prompts and few_answers(data.comparisons) else [q.first, q.second]
    located_by = torch.zeros(len(pairs), dtype=torch.bool)
    width = max(len(data.prompt_ids), len(data.response_ids), 1)
    for side, shown in chain(product(prompts, prompts), product(responses, responses)):
        theirs = adapt.user * width + shown[adapt.question]
        located_by |= torch.isin(pairs.user * width + side[question], theirs)

    def new(sides: list[torch.Tensor]) -> torch.Tensor:
        old = torch.zeros(len(pairs), dtype=torch.bool)
        for side in sides:
            old |= torch.isin(side[question], torch.cat([each[train.question] for each in sides]))
        return ~old

    masks = {"new_prompt": new(prompts), "new_responses": new(responses), "located_by": located_by}
    return {name: pl.Series(name, mask.numpy()) for name, mask in masks.items()}


def headline(scores: Scores, plurality: dict[str, Numbers], knobs: Evaluate) -> dict[str, Any]:
    """The numbers shown by `dvc metrics diff`, as nested dicts: of those that there are, the 15 of CHOSEN."""

    def accuracy(
        users: str, model: str, *shots: int, among: list[Score] = scores.main, **labels: Any
    ) -> float | None:
        """At the first of the numbers of shots at which the model was judged."""
        found = (find(among, users, model, shots=n, **labels) for n in shots or (None,))
        return next((rounded(score.metrics["accuracy"]) for score in found if score), None)

    def by_filter(users: str, *shots: int) -> Numbers:
        return {
            f"{users}.{pairs}.accuracy": accuracy(users, "model", *shots, among=scores.by_filter, pairs=pairs)
            for pairs in ("filtered", "untouched")
        }

    model = find(scores.main, "seen", "model")
    metrics = model.metrics if model else {}
    # Where answers are few, balanced accuracy says more than these.
    baselines = ("longer", "similarity") if metrics.get("balanced") is None else ()
    shots = sorted({knobs.headline_shots, *sorted(set(knobs.shots))[-HEADLINE_SHOTS + 1 :]})
    tests = {
        f"tests.{name}.{users}.accuracy": accuracy(users, "model", *n, among=scores.by_test, test=name)
        for name in dict.fromkeys(score.test for score in scores.by_test)
        for users, n in (("seen", ()), ("all", (0,)))
    }
    candidates = {  # in the order to show them; None where one does not apply
        **{f"seen.{NAMES.get(m, m)}": rounded(metrics.get(m)) for m in METRICS if m != "macro"},
        "seen.new_items.accuracy": accuracy("seen", "model", new=True),
        **by_filter("seen"),
        **{f"seen.{m}.accuracy": accuracy("seen", m) for m in ("k1", *baselines, "majority", "oracle")},
        "seen.plurality_p": plurality["seen"].get("differ_p"),
        "unseen.zero_shot.accuracy": accuracy("unseen", "model", 0),
        **{f"unseen.few_shot.{n}.accuracy": accuracy("unseen", "model", n) for n in shots},
        "unseen.new_items.accuracy": accuracy("unseen", "model", knobs.headline_shots, new=True),
        **by_filter("unseen", knobs.headline_shots, 0),
        "unseen.k1.accuracy": accuracy("unseen", "k1"),
        **tests,
    }
    patterns = [pattern.format(headline=knobs.headline_shots) for pattern in CHOSEN]

    def rank(name: str) -> int:
        return next((n for n, pattern in enumerate(patterns) if fnmatch(name, pattern)), -1)

    numbers = {name: value for name, value in candidates.items() if value is not None}
    last_first = list(numbers)[::-1]  # so that of few-shot numbers those with more shots are chosen
    chosen = sorted(last_first, key=rank)[:MAX_NUMBERS]
    tree: dict[str, Any] = {}
    for name in (name for name in numbers if name in chosen):
        section, (*path, last) = tree, name.split(".")
        for key in path:
            section = section.setdefault(key, {})
        section[last] = numbers[name]
    return tree


def against_one_reward(scores: list[Score], users: str, knobs: Evaluate, *, new: bool = False) -> Numbers:
    """Whether the model beats one reward for everyone, paired by user; nulls where it is one reward.

    Of ONE_REWARD the one that is harder to beat counts: a K = 1 is narrower, and cannot set careless users
    aside. Unseen users are taken at the headline shots, at none where they cannot be located.
    """
    shots = (None,) if users == "seen" else (knobs.headline_shots, 0)
    model = next(filter(None, (find(scores, users, "model", shots=n, new=new) for n in shots)), None)
    tests = (compare(model, find(scores, users, name, new=new), knobs) for name in ONE_REWARD)
    compared = (test for test in tests if test["low"] is not None)
    return min(compared, key=lambda test: test["low"], default=dict(NOT_COMPARED))


def compare(score: Score | None, other: Score | None, knobs: Evaluate) -> Numbers:
    """How much more accurate the first is than the other, paired by the users whom both judge; else nulls."""
    if score is None or other is None:
        return dict(NOT_COMPARED)
    both, *rows = np.intersect1d(score.user, other.user, return_indices=True)
    if not len(both):
        return dict(NOT_COMPARED)
    sides = zip((score.judged, other.judged), rows, strict=True)
    x, y = (Judged(side.right[at], side.total[at]) for side, at in sides)
    test = paired_test(x, y, seed=knobs.seed)
    values = (test.difference, test.low, test.high, test.p_value, test.n_users)
    return dict(zip(NOT_COMPARED, map(rounded, values), strict=True))


def fewer_users(scores: list[Score], knobs: Evaluate) -> list[str]:
    """A sentence on the few-shot numbers that leave out users with fewer comparisons; none if none does."""
    at = {n: len(s.user) for n in (0, *knobs.shots) if (s := find(scores, "unseen", "model", shots=n))}
    every = at.get(0, 0)
    fewer = ", ".join(f"{at.get(n, 0):,} of {every:,} at {n}" for n in knobs.shots if at.get(n, 0) < every)
    return [f"Few-shot numbers are of the unseen users with so many comparisons: {fewer}."] if fewer else []
