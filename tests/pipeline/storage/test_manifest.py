"""Manifests: none that does not add up is ever written."""

import json

import polars as pl
import pytest

from pipeline.errors import PipelineError
from pipeline.storage import manifest
from pipeline.storage.files import new_folder, sha256_of, write_text


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "pairs.parquet"
    pl.DataFrame({"pair_id": [0, 1, 2]}).write_parquet(path)
    return path


def test_a_manifest_tells_the_counts_and_whatever_else_there_is(tmp_path, table):
    manifest.write(tmp_path, {"read": 5, "kept": 3, "dropped": 2, "ties": 2}, table, source="a log")
    found = json.loads((tmp_path / "manifest.json").read_text())
    assert len(found.pop("seal")) == 64
    assert found == {
        "counts": {"read": 5, "kept": 3, "dropped": 2, "ties": 2},
        "source": "a log",
        "files": {"pairs.parquet": {"sha256": sha256_of(table), "size": table.stat().st_size}},
    }


def test_what_went_in_must_have_come_out_or_been_dropped(tmp_path):
    with pytest.raises(
        PipelineError, match=r"read must be kept \+ dropped, got .*'read': 5, 'kept': 3, 'dropped': 1"
    ):
        manifest.write(tmp_path, {"read": 5, "kept": 3, "dropped": 1})
    assert list(tmp_path.iterdir()) == []


def test_what_is_said_to_be_kept_must_be_in_the_table(tmp_path, table):
    with pytest.raises(PipelineError, match=r"does not add up: pairs\.parquet has 3 rows, got .*'kept': 4"):
        manifest.write(tmp_path, {"read": 4, "kept": 4, "dropped": 0}, table)


def test_what_the_writer_wrote_is_not_read_again_to_be_listed(tmp_path, monkeypatch):
    """sha256 of "abc" is ba7816bf…, a published constant; what others wrote into the folder is read."""
    read = []
    monkeypatch.setattr(manifest, "sha256_of", lambda path: read.append(path.name) or "0" * 64)
    with new_folder(tmp_path / "out") as folder:
        write_text(folder / "ours" / "abc.txt", "abc")
        (folder / "theirs.txt").write_text("xy")
        manifest.seal(folder)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["files"] == {
        "ours/abc.txt": {
            "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "size": 3,
        },
        "theirs.txt": {"sha256": "0" * 64, "size": 2},
    }
    assert read == ["theirs.txt"]


def test_a_model_saved_into_a_stages_folder_is_listed_with_it(tmp_path):
    with new_folder(tmp_path / "models") as outer:
        with new_folder(outer / "model") as inner:
            write_text(inner / "config.json", "abc")
        manifest.seal(outer)
    listed = json.loads((tmp_path / "models" / "manifest.json").read_text())["files"]
    assert list(listed) == ["model/config.json"]
    assert listed["model/config.json"]["sha256"].startswith("ba7816bf")
