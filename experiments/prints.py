"""Fingerprints of the real data that entries need: DVC cannot see a folder outside the repository."""

from pathlib import Path
from typing import get_args

from experiments import sources
from experiments.entries import Needs
from pal.files import new_folder, write_json

PRINTS = Path("data/paper/prints")


def main() -> None:
    """Write one fingerprint per kind of real data."""
    with new_folder(PRINTS) as folder:
        for needs in get_args(Needs):
            write_json(folder / f"{needs}.json", sources.fingerprint(needs))
