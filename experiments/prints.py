"""Fingerprints for DVC: of the code that the entries run, and of the real data that they need.

As the pipeline's own stages `code` and `check`: a new docstring reruns nothing, and a folder outside the
repository, which DVC cannot see, reruns what reads it when it changes.
"""

from pathlib import Path
from typing import get_args

from experiments import sources
from experiments.entries import Needs
from pal.files import new_folder, write_json, write_text
from pipeline import code

PRINTS = Path("data/paper/prints")
# What an entry's findings come from; ledger, verdicts and figures only read them.
RUNS = ("counts", "fits", "intervals", "measure", "recovery", "running", "study")


def main() -> None:
    """Write code.txt, and one fingerprint per kind of real data."""
    with new_folder(PRINTS) as folder:
        write_text(folder / "code.txt", "".join(of_code(Path())))
        for needs in get_args(Needs):
            write_json(folder / f"{needs}.json", sources.fingerprint(needs))


def of_code(root: Path) -> list[str]:
    """One line per module that running an entry imports, as `pipeline.code.fingerprint` writes them."""
    lines: set[str] = set()
    modules = [*(f"experiments/{name}.py" for name in RUNS), "benchmarks/studies.py"]
    for module in modules:
        lines |= set(code.fingerprint(root, Path(module)))
    return sorted(lines)
