"""download: bring raw files into the store, and leave a manifest of which they are.

What is pinned is the sha256 of every file; the bytes lie outside the repository, once for all datasets.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

from pal import temporaries
from pipeline import params, progress
from pipeline import paths as layout
from pipeline.datasets import DATASETS
from pipeline.errors import PipelineError
from pipeline.stages import hub
from pipeline.storage import raw

T = TypeVar("T")


def main(dataset: str) -> None:
    """Fetch one dataset's raw files."""
    values = params.load()
    found = DATASETS[dataset].find(values)
    files = [raw.keep(path, name) for name, path in with_progress(found.paths.items())]
    files += [raw.link(path, name) for name, path in with_progress(found.links.items())]
    revisions = []
    for remote in found.remotes:
        revision, fetched = hub.from_hub(remote, dataset)
        revisions.append(revision)
        files += fetched
    if found.make is not None:
        files += made(found.make)
    _check_names(files, dataset)
    raw.write_manifest(dataset, raw.Manifest(found.source, ", ".join(revisions) or None, files))
    print(f"download@{dataset}: {len(files):,} files, {sum(f.size for f in files):,} bytes")


def _check_names(files: list[raw.RawFile], dataset: str) -> None:
    """Hold files to different names: prepare knows them by these.

    Raises:
        PipelineError: If two have the same.
    """
    for name, count in Counter(file.name for file in files).items():
        if count > 1:
            raise PipelineError(
                f"{count} raw files of {dataset} are named {name}; give each source its prefix"
            )


def made(make: Callable[[Path], None]) -> list[raw.RawFile]:
    """The files of a source that the program makes itself."""
    with temporaries.scratch(layout.store()) as folder:
        make(folder)
        return [raw.move_in(path, path.name) for path in sorted(folder.iterdir())]


def with_progress(files: Collection[T]) -> Iterator[T]:
    """A progress bar over files."""
    with progress.bar(len(files), "download", "file") as bar:
        for file in files:
            yield file
            bar.update()
