"""Run the campaigns, all or those named, print their counts, and fail where a case did.

python -m faults                all
python -m faults damage         one
"""

import sys
from importlib import import_module

from faults.tally import show

NAMES = (
    "damage",  # truncations and bit flips of shards, store files, models and downloads
    "fuzz",  # structured nonsense for parameters, tables, ids, texts and headers
    "malice",  # files made to hurt
    "together",  # several at once on one store; locks, clocks, read-only stores
    "hub",  # a hub that cuts, lies and stalls
    "workers",  # a worker of a cluster killed; a rank that never comes
)


def main(names: list[str]) -> None:
    for name in names:
        if name not in NAMES:
            sys.exit(f"error: a campaign must be one of {', '.join(NAMES)}, got {name!r}")
    failed = 0
    for name in names or NAMES:
        print(f"\n{name}", flush=True)
        tallies = import_module(f"faults.{name}").run()
        show(tallies)
        failed += sum(len(tally.failures) for tally in tallies)
    sys.exit(f"\nerror: {failed:,} cases did not end as promised" if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
