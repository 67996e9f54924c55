"""One module per dataset: where its raw files come from, and how they become items and pairs.

Each module has
    find(params) -> Found         what the source names now, for check's fingerprint and for download
    prepare(params, files, out)   write items, pairs (and truth) into the folder `out`, and return counts
where `files` are the raw files by name, with their paths in the store: the last part of such a path is the
file's sha256, by which items refer to it. A new dataset is a module here, its name in
`pipeline.knobs.DATASETS`, and its keys in params.yaml.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipeline.params import Params


@dataclass(frozen=True)
class Remote:
    """Files of a dataset repository on the Hugging Face hub.

    Args:
        repo: Its name.
        revision: A commit, a tag or a branch.
        files: Paths or patterns (`data/*.parquet`) of the files to fetch.
        sha256: Published hashes that files are held to, by their names without folders.
        prefix: Goes before each file's name, where two repositories have files of the same name.
    """

    repo: str
    revision: str
    files: list[str]
    sha256: dict[str, str] = field(default_factory=dict)
    prefix: str = ""


@dataclass(frozen=True)
class Found:
    """What a source names at this moment.

    Args:
        source: In words, for people: which data these are.
        paths: Local files, by the names that messages and manifests use; their bytes are copied to the store.
        links: The same for files too many or too large to copy: they are read where they lie.
        remotes: What to fetch, where the source is not local.
        make: Writes the files of a source that the program makes itself into a folder.
        check: Looks into the local files before any stage runs, and raises `PipelineError` on bad ones.
    """

    source: str
    paths: dict[str, Path] = field(default_factory=dict)
    links: dict[str, Path] = field(default_factory=dict)
    remotes: list[Remote] = field(default_factory=list)
    make: Callable[[Path], None] | None = None
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
    elif dataset == "pickafilter":
        from pipeline.datasets import pickafilter as module
    elif dataset == "pickapic_v1":
        from pipeline.datasets import pickapic_v1 as module
    elif dataset == "pickapic_v2":
        from pipeline.datasets import pickapic_v2 as module
    elif dataset == "summarize":
        from pipeline.datasets import summarize as module
    else:
        from pipeline.datasets import own as module
    return module
