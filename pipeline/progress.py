"""Progress bars of long steps: lively in a terminal, a line now and then in a log."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

SECONDS_IN_A_LOG = 10.0


def bar(total: int, what: str, unit: str) -> "tqdm":
    """A progress bar on standard error; nothing is drawn where there is nothing to do."""
    from tqdm import tqdm

    often = 0.1 if sys.stderr.isatty() else SECONDS_IN_A_LOG
    return tqdm(
        total=total, desc=what, unit=unit, unit_scale=unit == "B", mininterval=often, disable=not total,
        dynamic_ncols=True,
    )  # fmt: skip
