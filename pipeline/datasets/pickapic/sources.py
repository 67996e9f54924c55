"""Where Pick-a-Pic's files are: a repository on the hub, or a folder, in which they stay."""

from functools import partial
from pathlib import Path

from pipeline import paths
from pipeline.datasets import pickapic
from pipeline.datasets.base import HubFiles, Remote, Source
from pipeline.errors import PipelineError

HUB_FILES = ("train", "validation", "test", "test_unique")


def from_hub(hub: HubFiles, splits: tuple[str, ...] = HUB_FILES, prefix: str = "") -> Remote:
    """The files of these splits in a repository on the hub."""
    return Remote(hub.repo, hub.revision, [f"data/{split}-*.parquet" for split in splits], prefix=prefix)


def from_folder(
    source: str, what: str, splits: tuple[str, ...] = pickapic.SPLITS, prefix: str = ""
) -> dict[str, Path]:
    """The files of these splits in a FOLDER, or in the `data` in it, by name.

    Args:
        source: The path as written, absolute or relative to the repository.
        what: The parameter that holds it, for messages.
        splits: Those wanted.
        prefix: Goes before each name.

    Raises:
        PipelineError: If there is no such folder, no such file, a file that no split claims, or a name twice.
    """
    folder = paths.project_root() / Path(source).expanduser()
    if not folder.is_dir():
        raise PipelineError(
            f"{what} must be an existing folder of Pick-a-Pic's Parquet files, got {source!r}, "
            f"looked for at {folder}"
        )
    found: dict[str, Path] = {}
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]):
        split = pickapic.split_of(path.name)
        if split is None:
            raise PipelineError(
                f"{what} must hold files named {'-*, '.join(pickapic.SPLITS)}-*.parquet, got {path.name!r} "
                f"in {source!r}; rename it or move it away"
            )
        if path.name in found:
            raise PipelineError(f"{what} must hold each file once, got {path.name!r} twice in {source!r}")
        if split in splits:
            found[path.name] = path
    if not found:
        raise PipelineError(
            f"{what} must hold Parquet files named {'-*, '.join(splits)}-*.parquet, got {source!r}, "
            "which has none"
        )
    return {f"{prefix}{name}": found[name] for name in sorted(found, key=pickapic.in_order)}


def find(source: str, what: str, remote: Remote, about: str) -> Source:
    """What a source of Pick-a-Pic names now: `hub`, or a FOLDER whose footers are checked at once."""
    if source == "hub":
        return Source(f"{about} from the hub: {remote.repo} at {remote.revision}", remotes=[remote])
    links = from_folder(source, what)
    return Source(f"{about} from {source}", links=links, check=partial(pickapic.check, links, pixels=True))
