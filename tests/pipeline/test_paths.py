"""Where things lie: relative to the repository, with the store outside it."""

import pytest

from pal.errors import PalError
from pipeline import paths


def test_store_may_begin_with_the_home_folder_and_is_the_same_from_every_folder(monkeypatch, tmp_path):
    """As in an .env file, which no shell expands."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PAL_STORE", "~/pal-store")
    assert paths.store() == tmp_path / "pal-store"
    for name, message in (
        ("store", "must be an absolute path or begin with ~, got 'store'"),
        ("~nobody-here/x", "home folder"),
    ):
        monkeypatch.setenv("PAL_STORE", name)
        with pytest.raises(PalError, match=message):
            paths.store()
