"""pickafilter: not read yet."""

from pathlib import Path

from pipeline.datasets import Found
from pipeline.params import Params


def find(params: Params) -> Found:
    """What the source names now."""
    raise NotImplementedError


def prepare(params: Params, files: dict[str, Path], out: Path) -> dict[str, int]:
    """Write items and pairs."""
    raise NotImplementedError
