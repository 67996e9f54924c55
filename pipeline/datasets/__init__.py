"""One module per dataset: where its raw files come from, and how they become items and pairs.

Each module has
    find(params) -> Found         what the source names now, for check's fingerprint and for download
    prepare(params, files, out)   write items, pairs (and truth) into the folder `out`, and return counts
where `files` are the raw files with their paths in the store. A new dataset is a module here, its name in
`pipeline.params.DATASETS`, and its keys in params.yaml.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.params import Params


@dataclass(frozen=True)
class Found:
    """What a source names at this moment.

    Args:
        source: In words, for people: which data these are.
        paths: Local files, by the names that messages and manifests use.
        remote: What to fetch instead, where the source is not local: repository, revision, file names.
        check: Looks into the local files before any stage runs, and raises `PipelineError` on bad ones.
    """

    source: str
    paths: dict[str, Path] = field(default_factory=dict)
    remote: dict[str, Any] | None = None
    check: Callable[[], None] | None = None


class Source(Protocol):
    """What a dataset's module offers."""

    def find(self, params: Params) -> Found:
        """Say what the source names now."""

    def prepare(self, params: Params, files: dict[str, Path], out: Path) -> dict[str, int]:
        """Write items and pairs into the folder `out`; return what was read, kept and dropped."""


def of(dataset: str) -> Source:
    """The module of a dataset; imported by name here, so that a stage's code fingerprint sees it."""
    if dataset == "simulated":
        from pipeline.datasets import simulated as module
    elif dataset == "persona":
        from pipeline.datasets import persona as module
    else:
        from pipeline.datasets import own as module
    return module
