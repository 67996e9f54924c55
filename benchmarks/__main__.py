"""Run the benchmarks, all or those named, print their tables, and keep them in results.json.

python -m benchmarks            all: most of an hour on two quiet cores
python -m benchmarks speed      one; the others' figures in results.json stay as they are
"""

import sys
from importlib import import_module

from benchmarks.table import keep, show

# Times first, while nothing else is warm.
NAMES = (
    "startup",
    "speed",
    "many",
    "pal_b",
    "text",
    "images",
    "storage",
    "warm",
    "default",
    "simulated",
    "persona",
    "asking",
    "choose",
    "pickafilter",
    "serving",
    "best_of_n",
    "ukpconvarg",
    "scale",
)


def main(names: list[str]) -> None:
    for name in names:
        if name not in NAMES:
            sys.exit(f"error: a benchmark must be one of {', '.join(NAMES)}, got {name!r}")
    for name in names or NAMES:
        section = import_module(f"benchmarks.{name}").measure()
        show(section)
        keep(name, section)


if __name__ == "__main__":
    main(sys.argv[1:])
