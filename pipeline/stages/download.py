"""download: bring raw files into the store, and leave a manifest of which they are.

What is pinned is the sha256 of every file; the bytes lie outside the repository, once for all datasets.
"""

import shutil
from fnmatch import fnmatch
from functools import partial
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from pal import files
from pal.files import make_folder, sha256_of
from pal.logs.read import hub_tables
from pipeline import PipelineError, params, paths
from pipeline.datasets import DATASETS
from pipeline.datasets.base import Remote
from pipeline.storage import raw_files
from pipeline.storage.raw_files import RawFile


def main(dataset: str) -> None:
    """Fetch one dataset's raw files."""
    values = params.load()
    source = DATASETS[dataset].find(values)
    progress = partial(tqdm, desc="download", unit="file")
    files = [raw_files.keep(path, name) for name, path in progress(source.paths.items())]
    files += [raw_files.link(path, name) for name, path in progress(source.links.items())]
    commits = []
    for remote in source.remotes:
        commit, fetched = from_hub(remote, dataset)
        commits.append(commit)
        files += fetched
    if source.make is not None:
        make_folder(paths.store())
        with TemporaryDirectory(dir=paths.store()) as folder:
            source.make(Path(folder), {file.name: raw_files.home_of(file.sha256) for file in files})
            files += [raw_files.move_in(path, path.name) for path in sorted(Path(folder).iterdir())]
    raw_files.write_manifest(dataset, raw_files.Manifest(source.source, ", ".join(commits) or None, files))
    print(f"download@{dataset}: {len(files):,} files, {sum(f.size for f in files):,} bytes")


def from_hub(remote: Remote, dataset: str) -> tuple[str, list[RawFile]]:
    """Download files of the hub that the store has not, of one commit; returns the commit and all files."""
    advice = f"look at {dataset}.hub in {paths.PARAMS}, or set {dataset}.source to a folder of the files"
    commit, hashes = files.list_files(remote.repo, remote.revision, advice=advice)
    stored: dict[str, RawFile | None] = {}
    for pattern in remote.files:
        if pattern.endswith("/"):
            matches = hub_tables(hashes, pattern.removesuffix("/"))
        else:
            matches = sorted(name for name in hashes if fnmatch(name, pattern))
        if not matches:
            raise PipelineError(
                f"{remote.repo} at {remote.revision} has no file {pattern}; is it another repository?"
            )
        stored |= dict.fromkeys(matches)
    whole = any(pattern.endswith("/") for pattern in remote.files)  # where names repeat in folders
    name_of = {name: f"{remote.prefix}{name if whole else Path(name).name}" for name in stored}
    for name in stored:
        _refuse_unpublished(name, remote, hashes[name])
        sha256 = remote.sha256.get(Path(name).name) or hashes[name]
        stored[name] = raw_files.find(sha256, name_of[name]) if sha256 else None
    if missing := [name for name, file in stored.items() if file is None]:
        # Kept where a download breaks off: the client goes on with what is there.
        folder = paths.store() / "downloads" / f"{remote.repo.replace('/', '--')}-{commit}"
        files.download(
            remote.repo, commit, [escape(name) for name in missing], repo_type="dataset", folder=folder,
            advice=advice,
        )  # fmt: skip
        for name in missing:
            sha256 = sha256_of(folder / name)
            _refuse_unpublished(name, remote, sha256)
            stored[name] = raw_files.move_in(folder / name, name_of[name], sha256)
        shutil.rmtree(folder)
    return commit, [file for file in stored.values() if file]


def _refuse_unpublished(name: str, remote: Remote, sha256: str | None) -> None:
    published = remote.sha256.get(Path(name).name)
    if published and sha256 not in (None, published):
        raise PipelineError(
            f"{Path(name).name} of {remote.repo} must have the published sha256 {published}, got {sha256}; "
            f"look at its `hub` in {paths.PARAMS}"
        )
