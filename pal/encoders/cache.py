"""Where encoders keep what they derive from weights: unpacked archives, exported networks."""

import os
from contextlib import AbstractContextManager
from pathlib import Path

from pal.files import new_folder


def folder() -> Path:
    """The cache folder: PAL_STORE where it is set, else the user's cache folder for `pal`."""
    if named := os.environ.get("PAL_STORE"):
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("pal")


def once(path: Path) -> AbstractContextManager[Path]:
    """A new folder to fill, that takes its name only when it is full.

    Where another process was first, its folder stays: both hold the same.

    Args:
        path: The name that it takes.
    """
    return new_folder(path, replace=False, advice=", or set PAL_STORE to another folder")
