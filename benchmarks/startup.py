"""How soon a stage that needs no torch shows its help, and `import pal` is there.

Each command is started five times as a process of its own, and the median counts. `python -X importtime`
then says whether torch was imported. Seconds; about 10 in all.
"""

import subprocess
import sys
import time
from statistics import median

from benchmarks.studies import ROOT
from benchmarks.table import Row, Section, show

STARTS = {
    "python -m pipeline split --help": (["-m", "pipeline", "split", "--help"], 0.4),
    "python -m pipeline prepare --help": (["-m", "pipeline", "prepare", "--help"], 0.4),
    "python -c 'import pal'": (["-c", "import pal"], None),
    "python -c ''": (["-c", ""], None),
}
RUNS = 5


def measure() -> Section:
    """Median seconds of each start, and the torch modules that it imported."""
    rows = []
    for what, (arguments, most) in STARTS.items():
        runs = [_seconds(arguments) for _ in range(RUNS)]
        rows.append(Row(what, median(runs), "s", at_most=most, note=f"fastest {min(runs):.2f} s"))
    rows += [
        Row(f"{what}: modules of torch", float(_torch_modules(arguments)), "imported", at_most=0.0)
        for what, (arguments, _) in STARTS.items()
        if arguments[-1]
    ]
    return Section("Startup: seconds until a stage's help, and until pal is there", {"runs": RUNS}, rows)


def _seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    _run(arguments)
    return time.perf_counter() - started


def _torch_modules(arguments: list[str]) -> int:
    lines = _run(["-X", "importtime", *arguments]).splitlines()
    names = [line.rsplit("|", 1)[-1].strip() for line in lines if line.startswith("import time:")]
    return sum(name.split(".")[0] == "torch" for name in names)


def _run(arguments: list[str]) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stderr


if __name__ == "__main__":
    show(measure())
