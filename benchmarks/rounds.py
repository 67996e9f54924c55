"""Timing on a machine that others use too: rounds, each between two looks at the float32 matrix peak.

A round whose peak fell under 85 % of the best that the process saw was disturbed, and does not count; of the
others the fastest does. Disturbance within a round that both looks missed is what the minimum is for.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

SHARE = 0.85  # of the best peak, that a round's must have
WANTED, AT_MOST = 4, 12  # rounds that count, and rounds in all


@dataclass(frozen=True)
class Timed:
    """The fastest undisturbed round.

    Args:
        seconds: On the clock.
        cpu_seconds: Of this process, in the same round.
        peak: Float32 matrix peak beside it, GFLOP/s: the lower of before and after.
        kept: Rounds that counted.
        rounds: Rounds in all.
    """

    seconds: float
    cpu_seconds: float
    peak: float
    kept: int
    rounds: int

    @property
    def words(self) -> str:
        """Peak and rounds, for a note."""
        peak = f"peak {self.peak:.0f} GFLOP/s, {self.kept} of {self.rounds} rounds undisturbed"
        return f"{peak}, {self.cpu_seconds:.2f} CPU seconds"


def timed(part: Callable[[], float | None]) -> Timed:
    """Time a part until enough rounds were undisturbed; where it returns seconds, those are taken."""
    found: list[tuple[float, float, float]] = []
    kept: list[tuple[float, float, float]] = []
    while len(kept) < WANTED and len(found) < AT_MOST:
        before, started, cpu = peak(), time.perf_counter(), time.process_time()
        own = part()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        found.append((seconds if own is None else own, cpu, min(before, peak())))
        kept = [one for one in found if one[2] >= SHARE * peak.best]
    best = min(kept or found)
    return Timed(*best, len(kept), len(found))


def peak(size: int = 1024, repeats: int = 4) -> float:
    """Float32 matrix peak at this moment, GFLOP/s, on as many threads as torch has."""
    x, y, out = (torch.ones(size, size) for _ in range(3))
    fastest = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(x, y, out=out)
        fastest = min(fastest, time.perf_counter() - started)
    now = 2 * size**3 / fastest / 1e9
    peak.best = max(peak.best, now)
    return now


peak.best = 0.0


@dataclass(frozen=True)
class InTurns:
    """Several parts in turns, over the rounds that were not disturbed.

    Args:
        seconds: The fastest of each part.
        ratios: Of each part, the median over rounds of its seconds over the first part's.
        note: Peak and rounds, in words.
        quiet: Whether enough rounds were undisturbed.
    """

    seconds: list[float]
    ratios: list[float]
    note: str
    quiet: bool


def in_turns(*parts: Callable[[], object], at_most: int = AT_MOST) -> InTurns:
    """Time parts in turns, with a look at the peak before, between and after them."""
    found: list[tuple[float, list[float]]] = []
    kept: list[tuple[float, list[float]]] = []
    while len(kept) < WANTED and len(found) < at_most:
        peaks, seconds = [peak()], []
        for part in parts:
            started = time.perf_counter()
            part()
            seconds.append(time.perf_counter() - started)
            peaks.append(peak())
        found.append((min(peaks), seconds))
        kept = [one for one in found if one[0] >= SHARE * peak.best]
    used = [seconds for _, seconds in kept or found]
    lowest = min(p for p, _ in kept or found)
    note = f"peak at least {lowest:.0f} GFLOP/s, {len(kept)} of {len(found)} rounds undisturbed"
    ratios = [median(seconds[at] / seconds[0] for seconds in used) for at in range(len(parts))]
    return InTurns([min(times) for times in zip(*used, strict=True)], ratios, note, len(kept) >= WANTED)
