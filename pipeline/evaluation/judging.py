"""Judging: which test pairs the models, and what needs no model, get right.

Margins on all test pairs are computed once; an accuracy is on a choice among them:
    users   seen, unseen; unlocated, those unseen without a comparison to locate them by, where others have
            some; all of these together
    items   known or new to training, or all
    test    the named test set, where a dataset has several
    pairs   filtered or untouched, where images got colour filters
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from pal.evaluation.accuracy import Judged
from pal.serving.saved_model import SavedModel
from pipeline.datasets import DATASETS
from pipeline.evaluation.answers import Answers, Key, Test, answers
from pipeline.evaluation.baselines import Margins
from pipeline.evaluation.strictest import Strictest
from pipeline.evaluation.strictest import of as strict
from pipeline.params import Evaluate
from pipeline.study import Study

if TYPE_CHECKING:
    from pipeline.evaluation.bounds import Bound

# The test set that headlines are about, the first of these that occurs (D32).
HEADLINE_TESTS = ("no_leakage", "test")
# Version 2's test set comes in two parts; together they are what is published as its test set.
PARTS_OF_TEST = ("leakage", "no_leakage")


@dataclass(frozen=True)
class Results:
    """Everything judged.

    Args:
        main: The headline test set, by users and items.
        cells: Every named test set, of seen, unseen and all users; empty where there is one set.
        filters: Filtered and untouched pairs of the headline test set; empty where no image has a filter.
        test: The headline test set's name; empty where there is one set.
        strictest: Users and items never seen, at once; None where there is nobody unseen.
    """

    main: list[Test]
    cells: list[Test] = field(default_factory=list)
    filters: list[Test] = field(default_factory=list)
    test: str = ""
    strictest: Strictest | None = None

    @property
    def all(self) -> list[Test]:
        """Main, cells, filters and what was never seen in one list."""
        strictest = self.strictest.tests if self.strictest else []
        return [*self.main, *self.cells, *self.filters, *strictest]


def judge(
    data: Study,
    models: dict[str, SavedModel],
    baselines: dict[str, Margins],
    knobs: Evaluate,
    halves: tuple[str, ...] = ("seen", "unseen"),
    bound: "Bound | None" = None,
) -> Results:
    """Judge models and baselines, and the bound where there is one, on all test pairs of either half."""
    parts = [part for half in halves for part in answers(data, half, models, baselines, knobs, bound)]
    sets = named_sets(parts)
    test = headline_test(parts, sets)
    main, cells, filters = [], [], []
    for part in parts:
        inside = part.inside(sets.get(test))
        for items in kinds_of_items(part, inside, data.dataset):
            main += part.tests(inside & part.on(items), items=items, test=test)
        filtered = part.filtered()
        if bool((inside & filtered).any()):
            filters += part.tests(inside & filtered, test=test, pairs="filtered")
            filters += part.tests(inside & ~filtered, test=test, pairs="untouched")
    for name, marks in sets.items():
        cells += [found for part in parts for found in part.tests(part.inside(marks), test=name)]
        cells += _everyone(parts, marks, name, knobs)
    inside = [part.inside(sets.get(test)) for part in parts]
    strictest = strict(data, parts, inside, test) if "unseen" in halves else None
    return Results(main, cells, filters, test, strictest)


def kinds_of_items(part: Answers, inside: torch.Tensor, dataset: str) -> list[str]:
    """What to report the items under: one kind alone is all; where they are kept apart, known and new."""
    kinds = sorted(part.marks["items"].filter(inside.tolist()).unique().to_list())
    if len(kinds) < 2:
        return ["all"]
    return kinds if DATASETS[dataset].ITEMS_APART else ["all", *kinds]


def named_sets(parts: list[Answers]) -> dict[str, list[str]]:
    """The test sets to report by name, each with the marks that belong to it; empty where all is one set."""
    names = sorted({name for part in parts for name in part.marks["test"].drop_nulls().unique().to_list()})
    if len(names) < 2:
        return {}
    sets = {name: [name] for name in names}
    if set(PARTS_OF_TEST) <= set(names) and "test" not in names:
        sets["test"] = list(PARTS_OF_TEST)
    return sets


def headline_test(parts: list[Answers], sets: dict[str, list[str]]) -> str:
    """The set that headlines are about, else the largest; empty where all is one set."""
    sizes = {name: sum(int(part.inside(marks).sum()) for part in parts) for name, marks in sets.items()}
    largest = max(sizes, key=lambda name: sizes[name], default="")
    return next((name for name in HEADLINE_TESTS if name in sets), largest)


def _everyone(parts: list[Answers], marks: list[str], test: str, knobs: Evaluate) -> list[Test]:
    """Seen users with their own weights together with unseen ones, from none and from the headline shots."""
    parts = [part for part in parts if bool(part.inside(marks).any())]
    if {part.users for part in parts} <= {"seen"}:
        return []
    tests = []
    for model in dict.fromkeys(model for part in parts for model, _ in part.margins):
        for shots in (0, knobs.headline_shots) if model == "model" else (None,):
            keys = [_standing_in(part, model, shots) for part in parts]
            if not any((model, shots) in part.margins for part in parts) or None in keys:
                continue
            each = [p.judged(key, p.inside(marks)) for p, key in zip(parts, keys, strict=True) if key]
            judged = Judged(np.concatenate([j.right for j in each]), np.concatenate([j.total for j in each]))
            tests.append(Test("all", "all", shots, model, judged, None, test))
    return tests


def _standing_in(part: Answers, model: str, shots: int | None) -> Key | None:
    """A model's margins at some shots: seen users need no shots, and who cannot be located has none."""
    return next((key for key in ((model, shots), (model, None), (model, 0)) if key in part.margins), None)
