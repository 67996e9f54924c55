"""Where encoders keep what they derive from weights: unpacked archives, exported networks."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def folder() -> Path:
    """The cache folder: PAL_STORE where it is set, else the user's cache folder for `pal`."""
    if named := os.environ.get("PAL_STORE"):
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("pal")


@contextmanager
def once(path: Path) -> Iterator[Path]:
    """A new folder to fill, that takes its name only when it is full.

    Where another process was first, its folder stays: both hold the same.

    Args:
        path: The name that it takes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        yield new
        with suppress(OSError):  # a folder that is there and not empty
            new.rename(path)
        if not path.is_dir():
            raise FileNotFoundError(f"{new} could not be renamed to {path}")
