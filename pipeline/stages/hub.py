"""Files of a dataset from the Hugging Face hub into the store, all of one commit, each held to its hash.

The fetching itself, its patience and its checks, is `pal.fetching`'s, which encoders use for their weights.
"""

from collections.abc import Callable
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from pal.fetching import PATIENCE, FetchError, File, Listing, Patience, fetch, listing
from pipeline import paths, progress
from pipeline.datasets.base import Remote
from pipeline.errors import PipelineError
from pipeline.storage import raw


def from_hub(remote: Remote, dataset: str, patience: Patience | None = None) -> tuple[str, list[raw.RawFile]]:
    """Download files at the commit that a revision stands for, straight into the store.

    What a broken run left under the store's `downloads` is gone on with.

    Args:
        remote: Which files of which repository.
        dataset: For whom, in messages.
        patience: How often and how long to try; None is the usual.

    Returns:
        The commit, and the files.

    Raises:
        PipelineError: If the hub cannot be reached or has no such file, or a file's bytes are not the
            published ones.
    """
    patience = patience or PATIENCE
    try:
        found = listing(remote.repo, "dataset", remote.revision, patience)
        files = [found.files[name] for name in _matching(remote, list(found.files))]
        with progress.bar(sum(max(file.size, 0) for file in files), "download", "B") as bar:
            fetched = [_fetch(remote, found, file, patience, bar.update) for file in files]
    except FetchError as error:
        raise PipelineError(
            f"{error.what} could not be downloaded ({error.why}); {error.mend}, look at "
            f"{dataset}.hub in {paths.PARAMS}, or set {dataset}.source to a folder of the files"
        ) from None
    finally:
        _sweep(remote.repo)
    return found.commit, fetched


def _matching(remote: Remote, there: list[str]) -> list[str]:
    """The repository's files that are wanted, in the order of the wishes, then by name.

    Raises:
        PipelineError: If a wish names none.
    """
    names: dict[str, None] = {}
    for wish in remote.files:
        found = sorted(name for name in there if fnmatch(name, wish))
        if not found:
            raise PipelineError(
                f"{remote.repo} at {remote.revision} has no file {wish}; is it another repository?"
            )
        names |= dict.fromkeys(found)
    return list(names)


def _fetch(
    remote: Remote, found: Listing, file: File, patience: Patience, advance: Callable[[int], object]
) -> raw.RawFile:
    """One file, unless the store has it; from where it was loaded it is moved there, so nothing lies twice.

    Raises:
        PipelineError: If the hub has another file than the published one.
    """
    short = Path(file.path).name
    name = f"{remote.prefix}{short}"
    published = remote.sha256.get(short)
    if published and file.sha256 not in (None, published):  # known before a byte of it is fetched
        raise _unpublished(short, remote, str(file.sha256))
    if (known := published or file.sha256) and (there := raw.find(known, name)):
        advance(max(file.size, 0))
        return there
    path = _downloads(found) / file.key
    sha256 = fetch(found, file, path, patience, advance)
    if published and sha256 != published:
        path.unlink()
        raise _unpublished(short, remote, sha256)
    return raw.move_in(path, name, sha256)


def _unpublished(short: str, remote: Remote, got: str) -> PipelineError:
    return PipelineError(
        f"{short} of {remote.repo} must have the published sha256 {remote.sha256[short]}, got {got}; "
        f"look at its `hub` in {paths.PARAMS}"
    )


def _downloads(found: Listing) -> Path:
    return paths.store() / "downloads" / f"{found.repo.replace('/', '--')}-{found.commit}"


def _sweep(repo: str) -> None:
    """Remove a repository's empty folders of downloads; in the others something waits to be gone on with."""
    downloads = paths.store() / "downloads"
    for folder in (*downloads.glob(f"{repo.replace('/', '--')}-*"), downloads):
        with suppress(OSError):
            folder.rmdir()
