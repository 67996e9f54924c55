"""Run the benchmarks, all or those named, print their tables, and keep them in results.json.

python -m benchmarks            all: most of an hour on two quiet cores
python -m benchmarks speed      one; the others' figures in results.json stay as they are
"""

import sys
from importlib import import_module

from benchmarks.table import LeftOut, keep, show

# Each benchmark is a function of its name in this module. Times first, while nothing else is warm.
FUNCTIONS = {
    "speed": "startup speed serving",
    "pal_b": "pal_b",
    "encoding": "text images",
    "simulated": "default simulated bound",
    "persona": "persona asking words corners best_of_n",
    "pickafilter": "pickafilter",
    "real_people": "real_people likings care",
    "scale": "scale large_csv",
    "service": "service answers",
    "pages": "pages",
    "validity": "choose intervals plurality one_reward homogeneous homogeneous_auto attributes",
}
MODULES = {name: module for module, names in FUNCTIONS.items() for name in names.split()}


def main(names: list[str]) -> None:
    for name in names:
        if name not in MODULES:
            sys.exit(f"error: a benchmark must be one of {', '.join(MODULES)}, got {name!r}")
    for name in names or MODULES:
        try:
            section = getattr(import_module(f"benchmarks.{MODULES[name]}"), name)()
        except LeftOut as reason:
            print(f"\n{name} is left out: {reason}")
            continue
        show(section)
        keep(name, section)


if __name__ == "__main__":
    main(sys.argv[1:])
