"""A model's files as one folder: from the hub's own cache where that has them, else fetched; checked."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

from pal.errors import PalError
from pal.fetching import cached
from pal.fetching.hashing import holds
from pal.fetching.listing import COMMIT, File, Listing, check, listing
from pal.fetching.patience import PATIENCE, FetchError, Patience, UnreachableError
from pal.fetching.transfer import fetch
from pal.files import copy_file, move_file, write_bytes

LARGEST_SEEN = 64 * 2**20


def fetch_folder(
    repo: str, revision: str | None, wanted: list[str], home: Path, patience: Patience = PATIENCE
) -> Path:
    """A folder with a model's files at one commit, each held to its hash, whichever way it came.

    Without an answer from the hub, what an earlier run or the hub's own client left is taken, as checked.

    Args:
        repo: `ORG/NAME`.
        revision: A commit, a tag or a branch; None is main.
        wanted: Patterns of the files.
        home: Where folders of models are kept.
        patience: How often and how long to try.

    Raises:
        FetchError: If the files cannot be had.
    """
    from huggingface_hub.utils import filter_repo_objects

    place = home / repo.replace("/", "--")
    found = _listing(repo, revision, place, patience)
    files = [found.files[path] for path in sorted(filter_repo_objects(found.files, allow_patterns=wanted))]
    for file in files:
        check(file, repo)
    there, folder = cached.snapshot(found), place / found.commit
    if there and files and all(holds(there / file.path, file) for file in files):
        return there
    _fetch_all(found, [file for file in files if not holds(folder / file.path, file)], there, place, patience)
    _remember(found, place)
    return folder


def _fetch_all(
    found: Listing, missing: list[File], there: Path | None, place: Path, patience: Patience
) -> None:
    from tqdm import tqdm

    total = sum(file.size for file in missing)
    with tqdm(total=total, desc=found.repo, unit="B", unit_scale=True, disable=not total) as bar:
        for file in missing:
            partial = place / "partial" / file.key
            if there and holds(there / file.path, file):
                with _unwritten(f"{file.path} of {found.repo}"):
                    copy_file(there / file.path, partial)
            elif there and (there / file.path).exists():
                patience.say(f"{there / file.path} has not the bytes that the hub lists; fetching it anew")
            fetch(found, file, partial, patience, bar.update)  # which looks at what was copied, too
            with _unwritten(f"{file.path} of {found.repo}"):
                move_file(partial, place / found.commit / file.path)
    with suppress(OSError):  # where another run still needs it
        (place / "partial").rmdir()


def _listing(repo: str, revision: str | None, place: Path, patience: Patience) -> Listing:
    """As remembered for a commit, which cannot change; else as the hub has it; else as it was last seen."""
    known = _remembered(repo, revision, place)
    if known and COMMIT.fullmatch(revision or ""):
        return known
    known = known or cached.listing(repo, revision)
    try:
        return listing(repo, "model", revision, replace(patience, tries=1) if known else patience)
    except UnreachableError as error:
        if known is None:
            raise
        patience.say(f"{error}; using what is here of commit {known.commit[:12]}")
        return known


def _remember(found: Listing, place: Path) -> None:
    """Keep the hub's list of files, by the revision that was asked for and by its commit."""
    for revision in {found.revision, found.commit}:
        path = place / "seen" / f"{revision.replace('/', '--')}.json"
        with suppress(PalError):  # the next run asks again
            write_bytes(path, json.dumps(asdict(found)).encode())


def _remembered(repo: str, revision: str | None, place: Path) -> Listing | None:
    path = place / "seen" / f"{(revision or 'main').replace('/', '--')}.json"
    try:
        if path.stat().st_size > LARGEST_SEEN:
            return None
        values = json.loads(path.read_text(encoding="utf-8"))
        files = {name: File(**file) for name, file in values.pop("files").items()}
        known = Listing(**values, files=files)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None  # not there or damaged: the hub is asked
    good = known.repo == repo and known.kind == "model" and COMMIT.fullmatch(str(known.commit))
    return known if good else None


@contextmanager
def _unwritten(what: str) -> Iterator[None]:
    """Turn the error of a file that cannot be written into one of fetching."""
    try:
        yield
    except PalError as error:
        raise FetchError(what, str(error), "set PAL_STORE to a folder that can hold it") from None
