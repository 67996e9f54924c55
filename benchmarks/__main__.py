"""Run the benchmarks, all or those named, print their tables, and keep them in results.json.

python -m benchmarks            all: most of an hour on two quiet cores
python -m benchmarks speed      one; the others' figures in results.json stay as they are
"""

import sys
from importlib import import_module

from benchmarks.table import keep, show

# Each benchmark is a function of that name in this module. Times first, while nothing else is warm.
MODULES = {
    "startup": "speed",
    "speed": "speed",
    "pal_b": "pal_b",
    "text": "encoding",
    "images": "encoding",
    "default": "simulated",
    "simulated": "simulated",
    "bound": "simulated",
    "persona": "persona",
    "asking": "persona",
    "words": "persona",
    "corners": "persona",
    "choose": "choose",
    "pickafilter": "pickafilter",
    "serving": "speed",
    "best_of_n": "persona",
    "real_people": "real_people",
    "care": "care",
    "scale": "scale",
    "large_csv": "scale",
    "service": "service",
    "answers": "answers",
    "pages": "pages",
    "intervals": "validity",
    "plurality": "validity",
    "one_reward": "validity",
    "homogeneous": "validity",
    "homogeneous_auto": "validity",
    "attributes": "validity",
}


def main(names: list[str]) -> None:
    for name in names:
        if name not in MODULES:
            sys.exit(f"error: a benchmark must be one of {', '.join(MODULES)}, got {name!r}")
    for name in names or MODULES:
        section = getattr(import_module(f"benchmarks.{MODULES[name]}"), name)()
        show(section)
        keep(name, section)


if __name__ == "__main__":
    main(sys.argv[1:])
