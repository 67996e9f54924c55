"""Timing on a machine that others use too: calls in turns, each between two looks at the float32 matrix peak.

A sample beside which the peak fell under 85 % of the best that the process saw was disturbed, and does not
count; of the others the fastest does. Disturbance that both looks missed is what the minimum is for.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

SHARE = 0.85  # of the best peak, that the peak beside a sample must have
WANTED, AT_MOST = 4, 12  # samples that count, and samples in all


@dataclass(frozen=True)
class Timed:
    """The fastest undisturbed sample of each call, and the lowest peak beside one that counts, GFLOP/s."""

    seconds: dict[str, float]
    peak: float
    note: str
    unjudged: str  # why a figure made from these cannot be judged

    @property
    def words(self) -> dict[str, str]:
        """What a row says of them."""
        return {"note": self.note, "unjudged": self.unjudged}


def in_turns(
    calls: dict[str, Callable[[], object]], *, least_peak: float = 0.0, at_most: int = AT_MOST
) -> Timed:
    """Time calls in turns until enough samples of each were undisturbed, `at_most` of each.

    A call that returns a float says itself how many seconds it took; times are judged from `least_peak`
    GFLOP/s a thread on.
    """
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}

    def kept(name: str) -> list[tuple[float, float]]:
        return [sample for sample in samples[name] if sample[1] >= SHARE * peak.best]

    before = peak()
    for _ in range(at_most):
        for name in [name for name in calls if len(kept(name)) < WANTED]:
            started = time.perf_counter()
            result = calls[name]()
            seconds = time.perf_counter() - started
            after = peak()
            samples[name].append((result if isinstance(result, float) else seconds, min(before, after)))
            before = after
    best = {name: min(kept(name) or samples[name]) for name in calls}
    lowest = min(beside for _, beside in best.values())
    counts = ", ".join(f"{len(kept(name))} of {len(samples[name])}" for name in calls)
    unjudged = "" if all(map(kept, calls)) else "the machine was disturbed"
    if lowest < (least := least_peak * torch.get_num_threads()):
        unjudged = f"the peak was {lowest:.0f} GFLOP/s, under {least:.0f}"
    seconds = {name: seconds for name, (seconds, _) in best.items()}
    return Timed(seconds, lowest, f"peak {lowest:.0f} GFLOP/s, samples undisturbed: {counts}", unjudged)


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


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run a block on so many threads, with a best peak of their own."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    peak.best = 0.0
    peak()
    try:
        yield
    finally:
        torch.set_num_threads(before)
