"""Structured nonsense for parameters, tables, ids, texts, JSON and safetensors headers.

Whatever comes in, the end is a result or one sentence of ours, within two seconds and a gigabyte.
"""

import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from faults.damage import _inside
from faults.fuzz.drawn import targets
from faults.tally import Tally
from pal.errors import PalError
from pipeline.errors import PipelineError

EXAMPLES = 5_000
SECONDS = 2.0
MEMORY = 1 << 30  # bytes by which the process may grow, over all examples


def run(examples: int = EXAMPLES, number: int = 0) -> list[Tally]:
    """So many examples over all targets."""
    found = targets()
    before = _peak()
    tallies = [_campaign(name, *target, examples // len(found), number) for name, target in found.items()]
    grown = _peak() - before
    failures = [f"memory grew by {grown / 1e9:.1f} GB"] if grown > MEMORY else []
    return [
        *tallies,
        Tally("all of these within a gigabyte", 1, failures, {"grown": f"{grown / 1e6:,.0f} MB"}),
    ]


def _campaign(
    name: str, strategy: st.SearchStrategy[Any], take: Callable[[Any], Any], examples: int, number: int
) -> Tally:
    counts: Counter[str] = Counter()
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, _inside(Path(folder)):

        @seed(number)
        @settings(
            max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(strategy)
        def each(example: Any) -> None:
            counts["tried"] += 1
            start = time.process_time()
            fault, place = _outcome(take, example)
            took = time.process_time() - start
            if took > SECONDS and counts["tried"] > 1:  # the first one loads modules
                fault, place = f"took {took:.1f} s", "time"
            counts["faults"] += bool(fault)
            if fault:
                failures.setdefault(place, f"{name}, seed {number}: {fault}, of {example!r}"[:600])

        each()
    more = counts["faults"] - len(failures)
    return Tally(
        f"examples of {name}",
        counts["tried"],
        list(failures.values()),
        {"more like these": more} if more else {},
    )


def _outcome(take: Callable[[Any], Any], example: Any) -> tuple[str, str]:
    """What went wrong, and where it was raised."""
    try:
        take(example)
    except (PalError, PipelineError) as error:
        return ("more than one line", "lines") if "\n" in str(error) else ("", "")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        last = error.__traceback__
        while last and last.tb_next:
            last = last.tb_next
        where = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last else ""
        return f"{type(error).__name__}: {error} at {where}"[:300], where
    return "", ""


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
