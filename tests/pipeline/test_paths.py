"""Where things lie: relative to the repository, with the store outside it."""

from pathlib import Path

import pytest

from pal.errors import PalError
from pipeline import paths
from pipeline.datasets import DATASETS


def test_store_is_where_pal_store_says(monkeypatch):
    monkeypatch.setenv("PAL_STORE", "/somewhere/else")
    assert paths.store() == Path("/somewhere/else")


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


def test_store_is_the_users_cache_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("PAL_STORE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.store().name == "pal"


def test_project_root_is_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert paths.project_root() == tmp_path


def test_project_root_in_a_temporary_run_is_the_repository_that_dvc_names(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", "/the/repository")
    monkeypatch.chdir(tmp_path)
    assert paths.project_root() == Path("/the/repository")


@pytest.mark.parametrize(
    "place",
    [
        paths.fingerprint,
        paths.raw,
        paths.prepared,
        paths.recoloured,
        paths.splits,
        paths.embeddings,
        paths.models,
        paths.evaluated,
        paths.metrics,
        lambda dataset: paths.plot("training", dataset),
    ],
)
def test_every_dataset_has_a_place_of_its_own_inside_the_repository(place):
    places = {place(dataset) for dataset in DATASETS}
    assert len(places) == len(DATASETS)
    assert not any(each.is_absolute() for each in places)
