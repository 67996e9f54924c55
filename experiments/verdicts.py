"""Verdicts: what the text says beside what we measured, one verdict per statement.

A number is reproduced where it lies within our interval or within the stated tolerance of our mean, and our
interval reaches at most `PRECISION` points to either side. Otherwise ours is better or worse, if it differs
by at least `EFFECT` points; of a baseline (K = 1, or the encoder's own similarity) higher is not better, and
the verdict says only that it differs. A claim holds in a cell where our whole interval lies beyond its bound
by the least effect, and fails where the whole interval lies on the other side of the bound. It is reproduced
where it holds in every cell that it speaks of, and not where it fails in any. All else is undecided.

Every preset has a verdict of its own, beside the others. The statement's is that of the text's own preset
where it was run, else of the authors' code, else of ours. A variant of a preset, chosen after results were
seen, gets none.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import numpy as np

from experiments.entries import Axis, Claim, Place, Published

Row = dict[str, Any]
REPRODUCED, BETTER, WORSE, UNDECIDED = "reproduced", "better", "worse", "undecided"
BASELINE, BESIDE = "baseline differs", "no verdict: a variant"
HOLDS_NOT, NOT_RUN, NO_NUMBER, NOT_OURS = "not reproduced", "not run", "no number given", "not repeated here"
PRESETS = ("paper", "authors", "ours")  # whose verdict is the statement's: the first that was run
EFFECT = 1.0  # points; smaller differences are neither better nor worse
PRECISION = 3.0  # points; with wider intervals nothing is reproduced


class Estimate(NamedTuple):
    """An accuracy or a difference of two, in per cent, and its 95 % interval."""

    ours: float
    low: float
    high: float


def of_number(paper: float, ours: Estimate, tolerance: float, *, baseline: bool = False) -> str:
    """The verdict on a published number, of which larger is better unless it is a baseline's."""
    apart = abs(paper - ours.ours)
    if ours.low <= paper <= ours.high or apart <= tolerance + 1e-9:
        return REPRODUCED if ours.high - ours.low <= 2 * PRECISION else UNDECIDED
    if apart < EFFECT:
        return UNDECIDED
    return BASELINE if baseline else BETTER if ours.ours > paper else WORSE


def matches(at: Place, place: Place) -> bool:
    """Whether a cell is one that a place speaks of; `K: groups` means K = K*."""
    return all(
        at.get(axis) == (at.get("groups") if value == "groups" else value) for axis, value in place.items()
    )


def published(number: Published, rows: list[Row]) -> Row:
    """A published number beside each of our cells that it is about, preset by preset."""
    about = {"paper": number.value, "spread": number.spread, "place": number.place, "cell": dict(number.at)}
    if number.whose == "others":
        return {**about, "why": number.why, "verdict": NOT_OURS}
    rows = [row for row in rows if matches(row, number.at)]
    judged = []
    for row in rows:
        similarity = row["what"].startswith("similarity")
        if similarity and row["preset"] != rows[0]["preset"]:  # which no preset changes: the first stands
            continue
        if "-" in row["preset"]:
            verdict = BESIDE
        elif number.value is None:
            verdict = NO_NUMBER
        else:
            baseline = row.get("K") == 1 or similarity
            verdict = of_number(number.value, _estimate(row), number.tolerance, baseline=baseline)
        seeds = {"preset": row["preset"], "seeds": len(row["each"]), "verdict": verdict}
        judged.append({"cell": cell_of(row), **_estimate(row)._asdict(), **seeds})
    return {**about, **_statement(judged)}


def claim(said: Claim, rows: list[Row]) -> Row:
    """A claim as it stands in our cells, preset by preset, with the cells in which it does not hold."""
    judged = []
    for preset in dict.fromkeys(row["preset"] for row in rows):
        held = cells(said, [row for row in rows if row["preset"] == preset])
        if not held:
            continue
        holds = [cell["holds"] for cell in held]
        mean = Estimate(*(sum(cell[key] for cell in held) / len(held) for key in Estimate._fields))
        if "-" in preset:
            verdict = BESIDE
        elif said.value is not None:  # a claim with a number is held to the mean over its cells
            verdict = of_number(said.value, mean, said.tolerance)
        elif False in holds:
            verdict = {"below": BETTER, "reaches": WORSE}.get(said.check, HOLDS_NOT)
        else:
            verdict = REPRODUCED if all(holds) else UNDECIDED
        judged.append({"preset": preset, **_rounded(mean), "cells": held, "verdict": verdict})
    return {"says": said.says, "place": said.place, "paper": said.value, **_statement(judged)}


def _statement(judged: list[Row]) -> Row:
    """One verdict of all: where the cells of the preset that counts disagree, there is none."""
    by = next((preset for preset in PRESETS if any(row["preset"] == preset for row in judged)), None)
    verdicts = {row["verdict"] for row in judged if row["preset"] == by}
    verdict = NOT_RUN if by is None else verdicts.pop() if len(verdicts) == 1 else UNDECIDED
    return {"verdict": verdict, "by": by, "presets": judged}


def cell_of(row: Place | Row) -> Place:
    """The axes of a row, without what was measured there and without the preset."""
    return {axis: row[axis] for axis in get_args(Axis) if axis in row}


def cells(said: Claim, rows: list[Row]) -> list[Row]:
    """A claim in every cell that it speaks of: our mean, its interval, and whether the claim holds there.

    `holds` is None where the interval does not tell.
    """
    found = []
    for at, measured in _measured(said, rows):
        low, high = measured.low, measured.high
        if said.check in ("below", "range"):
            most = said.least - 1e-6 if said.check == "below" else said.most
            holds = True if high <= most + 1e-9 else False if low > most + 1e-9 else None
        else:
            least = said.least - 1e-9 if said.check == "reaches" else said.least
            holds = True if low > least + said.effect else False if high <= least else None
        found.append({"cell": at, **_rounded(measured), "holds": holds})
    return found


def _measured(said: Claim, rows: list[Row]) -> Iterator[tuple[Place, Estimate]]:
    """Where a claim is looked at, and our estimate of what it is about there."""
    over = str(said.over)
    if said.check in ("reaches", "below"):
        for row in rows:
            if matches(row, said.at):
                yield cell_of(row), _estimate(row)
    elif said.check == "difference":  # wherever the other axes agree
        named = {*said.more, *said.less}
        for more in (row for row in rows if matches(row, said.more)):
            for less in (row for row in rows if matches(row, said.less)):
                if more is not less and _without(more, named) == _without(less, named):
                    yield _without(more, {"what"}), difference(_estimate(more), _estimate(less))
    elif said.check == "gap":  # how far the rise at `more` exceeds that at `less`
        groups = (_along(over, place, rows) for place in (said.more, said.less))
        for more, less in zip(*groups, strict=False):
            yield _without(more[0], {over}), difference(*map(_rise, (more, less)))
    else:
        for group in _along(over, said.at, rows):
            at = _without(group[0], {over})
            if said.check == "range":  # the best less the worst, whose interval is that of these two
                group = sorted(group, key=lambda row: row["accuracy"])
            yield at, _rise(group)


def difference(more: Estimate, less: Estimate) -> Estimate:
    """The difference of two estimates by MOVER (Zou and Donner 2008), as if they were independent.

    Both are of the same people and seeds, so the true interval is narrower, seldom wider.
    """
    apart = more.ours - less.ours
    below = np.hypot(more.ours - more.low, less.high - less.ours)
    above = np.hypot(more.high - more.ours, less.ours - less.low)
    return Estimate(apart, apart - float(below), apart + float(above))


def _rise(group: list[Row]) -> Estimate:
    return difference(_estimate(group[-1]), _estimate(group[0]))


def _estimate(row: Row) -> Estimate:
    return Estimate(row["accuracy"], row["low"], row["high"])


def _rounded(estimate: Estimate) -> Row:
    return {key: round(value, 2) for key, value in estimate._asdict().items()}


def _without(row: Place | Row, axes: set[str]) -> Place:
    return {axis: value for axis, value in cell_of(row).items() if axis not in axes}


def _along(over: str, place: Place, rows: list[Row]) -> list[list[Row]]:
    """Rows of a place that differ along an axis alone, each group in the axis's order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if over in row and matches(row, place):
            groups.setdefault(repr(_without(row, {over})), []).append(row)
    return [sorted(group, key=lambda row: row[over]) for group in groups.values() if len(group) > 1]
