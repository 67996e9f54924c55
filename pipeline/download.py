"""download: bring raw files into the store, and leave a manifest of which they are.

What is pinned is the sha256 of every file; the bytes lie outside the repository, once for all datasets.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

from pal import temporaries
from pipeline import datasets, layout, params, progress, raw
from pipeline.datasets import Remote
from pipeline.errors import PipelineError
from pipeline.files import sha256_of

T = TypeVar("T")


def main(dataset: str) -> None:
    """Fetch one dataset's raw files."""
    values = params.load()
    found = datasets.of(dataset).find(values)
    files = [raw.keep(path, name) for name, path in with_progress(found.paths.items())]
    files += [raw.link(path, name) for name, path in with_progress(found.links.items())]
    revisions = []
    for remote in found.remotes:
        revision, fetched = from_hub(remote, dataset)
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


def from_hub(remote: Remote, dataset: str) -> tuple[str, list[raw.RawFile]]:
    """Download files of a pinned revision from the Hugging Face hub, straight into the store.

    Returns:
        The commit that the revision stands for, and the files.

    Raises:
        PipelineError: If the hub cannot be reached or has no such file, or a file's bytes are not the
            published ones.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    # Its bases: OSError, and the error of the HTTP library, which the hub's client has changed before.
    no_answer = HfHubHTTPError.__bases__
    try:
        about = HfApi().dataset_info(remote.repo, revision=remote.revision, files_metadata=True)
        there = {file.rfilename: file.lfs and file.lfs.sha256 for file in about.siblings or []}
        names = _matching(remote, list(there))
        files = [_fetch(remote, about.sha, name, there[name]) for name in with_progress(names)]
    except (*no_answer, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"{remote.repo} at {remote.revision} could not be downloaded ({reason}); check the network and "
            f"{layout.PARAMS} under hub, or set source.{dataset} to a folder of the files"
        ) from None
    return about.sha, files


def _matching(remote: Remote, there: list[str]) -> list[str]:
    """The repository's files that are wanted, in the order of the wishes, then by name.

    Raises:
        PipelineError: If a wish names none.
    """
    names = []
    for wish in remote.files:
        found = sorted(name for name in there if fnmatch(name, wish))
        if not found:
            raise PipelineError(
                f"{remote.repo} at {remote.revision} has no file {wish}; is it another repository?"
            )
        names += [name for name in found if name not in names]
    return names


def _fetch(remote: Remote, commit: str, name: str, listed: str | None) -> raw.RawFile:
    """One file, unless the store has it; from where it was loaded it is moved there, so nothing lies twice.

    Args:
        remote: What is fetched.
        commit: The commit to take it from.
        name: The file's path in the repository.
        listed: The sha256 that the hub lists, which it does for large files alone.
    """
    from huggingface_hub import hf_hub_download

    short = Path(name).name
    published = remote.sha256.get(short) or listed
    if published and (there := raw.find(published, f"{remote.prefix}{short}")):
        return there
    folder = layout.store() / "downloads" / f"{remote.repo.replace('/', '--')}-{commit}"
    path = Path(hf_hub_download(remote.repo, name, repo_type="dataset", revision=commit, local_dir=folder))
    got = sha256_of(path)
    if published and got != published:
        path.unlink()
        raise PipelineError(f"{short} of {remote.repo} must have the published sha256 {published}, got {got}")
    return raw.move_in(path, f"{remote.prefix}{short}", got)
