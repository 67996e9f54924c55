"""Verdicts: what the text says against what we measured, in one word and with the numbers behind it.

A number is reproduced where it lies within our interval or within the stated tolerance of our mean; else ours
is better or worse. A claim holds in a cell where our whole interval lies on its side of the bound, and fails
where it lies on the other; between the two our data do not tell. It is reproduced where it holds in every
cell that it speaks of, and not where it fails in any. A variant of a preset, chosen after results were seen,
stands beside without a verdict.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments import intervals
from experiments.entries import Claim, Place, Published
from experiments.measure import Arm

Row = dict[str, Any]
REPRODUCED, BETTER, WORSE = "reproduced", "better", "worse"
BESIDE = "no verdict: a variant"
UNDECIDED = "undecided"
NOT_HERE = "not judged: users' answers are not here"
HOLDS_NOT, NOT_RUN, NO_NUMBER, NOT_OURS = "not reproduced", "not run", "no number given", "not repeated here"


def of_number(paper: float, ours: float, low: float, high: float, tolerance: float) -> str:
    """The verdict on a published number, of which larger is better, beside our mean and interval."""
    if low <= paper <= high or abs(paper - ours) <= tolerance + 1e-9:
        return REPRODUCED
    return BETTER if ours > paper else WORSE


def of_count(paper: float, ours: int, tolerance: float) -> str:
    """The verdict on a published count: there is no better or worse."""
    return REPRODUCED if abs(paper - ours) <= tolerance else HOLDS_NOT


def matches(at: Place, place: Place) -> bool:
    """Whether a cell is one that a place speaks of; `K: groups` means K = K*."""
    return all(
        at.get(axis) == (at.get("groups") if value == "groups" else value) for axis, value in place.items()
    )


def is_variant(preset: str | None) -> bool:
    """Whether this is a preset with options changed: paper-full, say."""
    return "-" in (preset or "")


def published(number: Published, rows: list[Row]) -> list[Row]:
    """A published number beside each of our cells that it is about, one per preset."""
    about = {"paper": number.value, "spread": number.spread, "place": number.place}
    if number.whose == "others":
        return [{**about, "why": number.why, "verdict": NOT_OURS}]
    rows = [row for row in rows if matches(row, number.at)]
    judged = []
    for row in rows:
        # No preset changes a similarity: the first preset's row stands for all.
        if row["what"].startswith("similarity") and row["preset"] != rows[0]["preset"]:
            continue
        ours, low, high = (row[key] for key in ("accuracy", "low", "high"))
        cell = {"cell": cell_of(row), "ours": ours, "low": low, "high": high}
        if is_variant(row.get("preset")):
            verdict = BESIDE
        elif number.value is None:
            verdict = NO_NUMBER
        else:
            verdict = of_number(number.value, ours, low, high, number.tolerance)
        shown = {"preset": row.get("preset"), "seeds": len(row["each"]), "verdict": verdict}
        judged.append({**about, **cell, **shown})
    return judged or [{**about, "cell": dict(number.at), "verdict": NOT_RUN}]


def claim(said: Claim, arms: list[Arm]) -> list[Row]:
    """A claim as it stands in our cells, one verdict per preset with every cell behind it."""
    about = {"says": said.says, "place": said.place, "paper": said.value}
    judged = []
    for preset in dict.fromkeys(str(arm.at["preset"]) for arm in arms):
        held = cells(said, [arm for arm in arms if arm.at["preset"] == preset])
        if held:
            holds = [cell["holds"] for cell in held]
            if is_variant(preset):
                verdict = BESIDE
            elif said.value is not None:  # a claim with a number is held to the mean over its cells
                ends = (sum(cell[key] for cell in held) / len(held) for key in ("ours", "low", "high"))
                verdict = of_number(said.value, *ends, said.tolerance)
            elif False in holds:
                verdict = {"below": BETTER, "reaches": WORSE}.get(said.check, HOLDS_NOT)
            else:
                verdict = REPRODUCED if all(holds) else UNDECIDED
            row = {
                **about,
                "preset": preset,
                "cells": held,
                "holds_in": holds.count(True),
                "verdict": verdict,
            }
            judged.append(row)
    return judged or [{**about, "verdict": NOT_RUN}]


def cell_of(row: Place | Row) -> Place:
    """The axes of a row, without what was measured there and without the preset."""
    axes = ("groups", "train_pairs", "dim", "setting", "beta", "protocol", "K", "latent", "shots", "what")
    return {axis: row[axis] for axis in axes if axis in row}


def cells(said: Claim, arms: list[Arm]) -> list[Row]:
    """A claim in every cell that it speaks of: our mean, its interval, and whether the claim holds there.

    `holds` is None where the interval does not tell.
    """
    rows = []
    for at, ours, draws in _measured(said, arms):
        low, high = intervals.interval(draws)
        if said.check in ("below", "range"):
            most = said.least - 1e-6 if said.check == "below" else said.most
            holds = True if high <= most + 1e-9 else False if low > most + 1e-9 else None
        else:
            least = said.least - 1e-9 if said.check == "reaches" else said.least
            holds = True if low > least else False if high <= least else None
        ends = {"ours": round(ours, 2), "low": round(low, 2), "high": round(high, 2)}
        rows.append({"cell": cell_of(at), **ends, "holds": holds})
    return rows


def _measured(said: Claim, arms: list[Arm]) -> Iterator[tuple[Place, float, np.ndarray]]:
    """Where a claim is looked at, our mean of what it is about there, and resamples of that."""
    over = str(said.over)
    if said.check in ("reaches", "below"):
        for arm in (arm for arm in arms if matches(arm.at, said.at)):
            yield arm.at, intervals.mean(arm.judged), intervals.resampled(arm.judged)
    elif said.check == "difference":  # paired, wherever the other axes agree
        named = {*said.more, *said.less}
        for more in (arm for arm in arms if matches(arm.at, said.more)):
            for less in (arm for arm in arms if matches(arm.at, said.less)):
                if _without(more.at, named) == _without(less.at, named) and more is not less:
                    yield _without(more.at, {"what"}), *_less(more, less)
    elif said.check == "gap":  # how far the rise at `more` exceeds that at `less`
        groups = (_along(over, place, arms) for place in (said.more, said.less))
        for more, less in zip(*groups, strict=False):
            (ours, draws), (other, others) = _less(more[-1], more[0]), _less(less[-1], less[0])
            yield _without(more[0].at, {over}), ours - other, draws - others
    else:
        for group in _along(over, said.at, arms):
            at = _without(group[0].at, {over})
            if said.check == "range":  # the best less the worst, whose interval is that of these two
                group = sorted(group, key=lambda arm: intervals.mean(arm.judged))
            yield at, *_less(group[-1], group[0])


def _less(more: Arm, less: Arm) -> tuple[float, np.ndarray]:
    draws = intervals.resampled(more.judged) - intervals.resampled(less.judged)
    return intervals.mean(more.judged) - intervals.mean(less.judged), draws


def _without(at: Place, axes: set[str]) -> Place:
    return {axis: value for axis, value in at.items() if axis not in axes}


def _along(over: str, place: Place, arms: list[Arm]) -> list[list[Arm]]:
    """Arms of a place that differ along an axis alone, each group in the axis's order."""
    groups: dict[str, list[Arm]] = {}
    for arm in arms:
        if over in arm.at and matches(arm.at, place):
            groups.setdefault(repr(_without(arm.at, {over})), []).append(arm)
    return [sorted(group, key=lambda arm: arm.at[over]) for group in groups.values() if len(group) > 1]
