"""Have the n-th system call fail that changes files, in this process or in a child's.

python -m faults.shim 3 ENOSPC once split simulated      runs `python -m pipeline split simulated` so
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pal import calls

FAULTS = ("ENOSPC", "EIO", "EINTR", "short")


@dataclass
class Shim:
    """Which call fails, and how.

    Args:
        nth: The first that fails, from 1; of writes alone where it is to be short; 0 has none fail.
        fault: ENOSPC, EIO, EINTR, or short for a write that takes half of what it is given.
        sticky: Whether all later ones fail too.
        seen: The names of the calls that were made, in order.
    """

    nth: int = 0
    fault: str = "EIO"
    sticky: bool = False
    seen: list[str] = field(default_factory=list)

    def call(self, name: str, real: Any, *values: Any) -> Any:
        """Make a call, or have it fail."""
        if self.fault == "short" and name != "write":
            return real(*values)
        self.seen.append(name)
        count = len(self.seen)
        if not self.nth or count < self.nth or (count > self.nth and not self.sticky):
            return real(*values)
        if self.fault == "short":
            handle, view = values
            return real(handle, view[: max(1, len(view) // 2)])
        if name == "close":  # Linux closes it whatever it answers
            real(*values)
        code = getattr(errno, self.fault)
        raise OSError(code, os.strerror(code))


@contextmanager
def installed(shim: Shim) -> Iterator[Shim]:
    """All changing calls go through the shim."""
    kept = {name: getattr(calls, name) for name in calls.CHANGING}
    for name, real in kept.items():
        setattr(calls, name, lambda *values, name=name, real=real: shim.call(name, real, *values))
    try:
        yield shim
    finally:
        for name, real in kept.items():
            setattr(calls, name, real)


if __name__ == "__main__":
    from pipeline.__main__ import main

    nth, fault, how, *words = sys.argv[1:]
    sys.argv = ["pipeline", *words]
    with installed(Shim(int(nth), fault, how == "sticky")):
        main()
