"""The headline: the few numbers kept in Git, and whether more prototypes than one are worth it."""

from typing import Any

from pal.evaluation.accuracy import Judged, paired_test, worst_decile
from pipeline.evaluation.answers import Test
from pipeline.evaluation.judging import Results
from pipeline.params import Evaluate

MAX_NUMBERS = 15
HEADLINE_SHOTS = 4
NOTHING: dict[str, float | None] = {"difference": None, "low": None, "high": None, "p": None}


def find(
    tests: list[Test],
    users: str,
    model: str,
    *,
    shots: int | None = None,
    new: bool = False,
    test: str | None = None,
    pairs: str = "all",
) -> Test | None:
    """The test of a model on all items, on known ones where these are kept apart, or on new ones."""
    for items in ("new",) if new else ("all", "known"):
        for found in tests:
            if (found.users, found.model, found.shots, found.items) != (users, model, shots, items):
                continue
            if found.pairs == pairs and test in (None, found.test):
                return found
    return None


def plurality(tests: list[Test], users: str, knobs: Evaluate) -> dict[str, float | None]:
    """Whether the model beats one reward for everyone, paired by user; nulls where it is one reward.

    Unseen users are taken at the headline shots, at none where they cannot be located.
    """
    shots = (None,) if users == "seen" else (knobs.headline_shots, 0)
    model = next(filter(None, (find(tests, users, "model", shots=n) for n in shots)), None)
    return compare(model, find(tests, users, "k1"), knobs)


def compare(one: Test | None, other: Test | None, knobs: Evaluate) -> dict[str, float | None]:
    """How much more accurate one is than another, paired by user; nulls where either was not judged."""
    if one is None or other is None:
        return dict(NOTHING)
    test = paired_test(one.judged, other.judged, seed=knobs.seed, resamples=knobs.resamples)
    return {
        "difference": rounded(test.difference),
        "low": rounded(test.low),
        "high": rounded(test.high),
        "p": rounded(test.p_value),
    }


def headline(
    results: Results, plurality: dict[str, dict[str, float | None]], knobs: Evaluate
) -> dict[str, Any]:
    """The numbers shown by `dvc metrics diff`: those that there are, the most telling 15 of them."""
    found = {name: value for name, value in _numbers(results, plurality, knobs) if value is not None}
    for name in _expendable(found, knobs)[: max(0, len(found) - MAX_NUMBERS)]:
        del found[name]
    return _nested(found)


def _numbers(
    results: Results, plurality: dict[str, dict[str, float | None]], knobs: Evaluate
) -> list[tuple[str, float | None]]:
    """Every candidate by its dotted name, in the order to show them; None where it does not apply."""
    main = results.main

    def accuracy(users: str, model: str, **which: Any) -> float | None:
        test = find(main, users, model, **which)
        return None if test is None else rounded(test.judged.micro)

    model = find(main, "seen", "model")
    few = model is not None and model.balanced is not None
    shots = sorted({knobs.headline_shots, *sorted(set(knobs.shots))[-HEADLINE_SHOTS + 1 :]})
    baselines = [name for name in ("longer", "similarity") if not few]
    return [
        ("seen.accuracy", accuracy("seen", "model")),
        ("seen.balanced_accuracy", rounded(model.balanced) if model else None),
        ("seen.worst_decile", rounded(worst_decile(model.judged)) if model else None),
        ("seen.new_items.accuracy", accuracy("seen", "model", new=True)),
        *_by_filter(results, "seen", (None,)),
        *((f"seen.{name}.accuracy", accuracy("seen", name)) for name in ("k1", *baselines)),
        *((f"seen.{name}.accuracy", accuracy("seen", name)) for name in ("majority", "oracle")),
        ("seen.plurality_p", plurality["seen"].get("differ_p")),
        ("unseen.zero_shot.accuracy", accuracy("unseen", "model", shots=0)),
        *((f"unseen.few_shot.{n}.accuracy", accuracy("unseen", "model", shots=n)) for n in shots),
        ("unseen.new_items.accuracy", accuracy("unseen", "model", shots=knobs.headline_shots, new=True)),
        *_by_filter(results, "unseen", (knobs.headline_shots, 0)),
        ("unseen.k1.accuracy", accuracy("unseen", "k1")),
        *_by_set(results.cells),
    ]


def _by_filter(results: Results, users: str, shots: tuple[int | None, ...]) -> list[tuple[str, float | None]]:
    """Accuracies on filtered and on untouched pairs, at the first of the shots that was judged."""
    rows = []
    for pairs in ("filtered", "untouched"):
        each = (find(results.filters, users, "model", shots=n, pairs=pairs) for n in shots)
        test = next(filter(None, each), None)
        rows.append((f"{users}.{pairs}.accuracy", rounded(test.judged.micro) if test else None))
    return rows


def _by_set(cells: list[Test]) -> list[tuple[str, float | None]]:
    """The cells of D32: each named test set, on seen and on all users, the unseen ones from nothing."""
    rows = []
    for name in dict.fromkeys(test.test for test in cells):
        for users, shots in (("seen", None), ("all", 0)):
            test = find(cells, users, "model", shots=shots, test=name)
            rows.append((f"tests.{name}.{users}.accuracy", rounded(test.judged.micro) if test else None))
    return rows


def _expendable(found: dict[str, float], knobs: Evaluate) -> list[str]:
    """Names in the order in which to give them up; they stand in the details all the same."""
    main_shots = f"unseen.few_shot.{knobs.headline_shots}.accuracy"
    first = [
        *("unseen.k1.accuracy", "seen.majority.accuracy", "unseen.new_items.accuracy"),
        *(name for name in found if name.startswith("unseen.few_shot.") and name != main_shots),
        *("seen.oracle.accuracy", "seen.balanced_accuracy", "seen.worst_decile"),
        *("seen.new_items.accuracy", "unseen.untouched.accuracy", "unseen.filtered.accuracy"),
        *(name for name in reversed(found) if name.startswith("tests.")),
        *("seen.untouched.accuracy", "seen.filtered.accuracy", "seen.similarity.accuracy"),
    ]
    return [name for name in first if name in found]


def _nested(found: dict[str, float]) -> dict[str, Any]:
    """Dotted names as nested dicts."""
    tree: dict[str, Any] = {}
    for name, value in found.items():
        *path, last = name.split(".")
        section = tree
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return tree


def per_user(tests: list[Test]) -> dict[str, Any]:
    """Each user's accuracy, by half: seen as trained, unseen from the most shots that they have."""
    found: dict[str, Any] = {}
    model = [test for test in tests if test.model == "model"]
    for users, half in (("seen", "seen"), ("unlocated", "unseen"), ("unseen", "unseen")):
        shots = max((test.shots or 0 for test in model if test.users == users), default=0)
        test = find(model, users, "model", shots=None if users == "seen" else shots)
        if test is not None:
            known: Judged = test.judged
            found[half] = _filled(known.per_user, found.get(half))
    return found


def _filled(accuracy: Any, other: Any) -> Any:
    """Accuracies, with another's where there are none."""
    import numpy as np

    return accuracy if other is None else np.where(np.isnan(accuracy), other, accuracy)


def rounded(value: float | None) -> float | None:
    """Six digits: more are noise, and would differ between machines."""
    return None if value is None else round(float(value), 6)
