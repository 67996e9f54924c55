"""download: bring raw files into the store, and leave a manifest of which they are.

What is pinned is the sha256 of every file; the bytes lie outside the repository, once for all datasets.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pipeline import datasets, params, progress, raw
from pipeline.datasets import Found
from pipeline.errors import PipelineError

T = TypeVar("T")


def main(dataset: str) -> None:
    """Fetch one dataset's raw files."""
    values = params.load()
    found = datasets.of(dataset).find(values)
    if found.remote is not None:
        manifest = from_hub(found, found.remote)
    else:
        files = [raw.keep(path, name) for name, path in with_progress(found.paths.items())]
        manifest = raw.Manifest(found.source, None, files)
    raw.write_manifest(dataset, manifest)
    print(f"download@{dataset}: {len(manifest.files)} files, {sum(f.size for f in manifest.files):,} bytes")


def with_progress(files: Collection[T]) -> Iterator[T]:
    """A progress bar over files."""
    with progress.bar(len(files), "download", "file") as bar:
        for file in files:
            yield file
            bar.update()


def from_hub(found: Found, remote: dict[str, Any]) -> raw.Manifest:
    """Download files of a pinned revision from the Hugging Face hub.

    Raises:
        PipelineError: If the hub cannot be reached or has no such file, or a file's bytes are not the
            published ones.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    # Its bases: OSError, and the error of the HTTP library, which the hub's client has changed before.
    no_answer = HfHubHTTPError.__bases__
    repo = remote["repo"]
    try:
        revision = HfApi().dataset_info(repo, revision=remote["revision"]).sha
        paths = {
            Path(name).name: Path(hf_hub_download(repo, name, repo_type="dataset", revision=revision))
            for name in with_progress(remote["files"])
        }
    except (*no_answer, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"{repo} at {remote['revision']} could not be downloaded ({reason}); check the network, or set "
            "source.persona to a folder of the files or to sample"
        ) from None
    files = [raw.keep(path, name) for name, path in paths.items()]
    for file in files:
        published = remote["sha256"].get(file.name)
        if published and file.sha256 != published:
            raise PipelineError(
                f"{file.name} of {repo} must have the published sha256 {published}, got {file.sha256}"
            )
    return raw.Manifest(found.source, revision, files)
