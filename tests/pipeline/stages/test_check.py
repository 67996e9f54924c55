"""check: every chosen dataset's source is looked into, and its fingerprint changes when the source does."""

import hashlib
import json
from pathlib import Path

import pytest

from pipeline import PipelineError
from pipeline.datasets import DATASETS
from pipeline.datasets.base import Remote, Source
from pipeline.stages import check

GOOD = "user_id,prompt,chosen,rejected\nann,why?,so,no\nann,who?,me,you\nbob,why?,no,so\nbob,who?,me,you\n"


@pytest.fixture
def own(project):
    """A project whose one dataset is own.csv."""
    project.set({"datasets": ["own"], "own.source": "own.csv", "model.K": 1})
    (project.root / "own.csv").write_text(GOOD)
    return project


def prints():
    return {path.name: json.loads(path.read_text()) for path in Path("data/check").iterdir()}


def test_an_edited_file_changes_its_dataset_alone(own):
    own.set({"datasets": ["own", "simulated"]})
    check.main()
    before = prints()
    (own.root / "own.csv").write_text(GOOD + "bob,when?,now,never\n")
    check.main()
    assert prints()["own.json"] != before["own.json"]
    assert prints()["simulated.json"] == before["simulated.json"]
    own.set({"datasets": ["own"]})
    check.main()
    assert list(prints()) == ["own.json"]


def test_a_source_that_is_not_there_stops_the_pipeline_and_the_old_fingerprint_stays(own):
    check.main()
    before = prints()
    (own.root / "own.csv").unlink()
    with pytest.raises(
        PipelineError, match=r"own\.source .*must be an existing file or folder, got 'own\.csv'"
    ):
        check.main()
    assert prints() == before


def test_a_missing_source_names_the_key_to_set(own):
    own.set({"own.source": None})
    with pytest.raises(
        PipelineError, match=r"own\.source in params\.yaml must name a file .*, got null; set it"
    ):
        check.main()


def test_linked_files_and_repositories_stand_in_the_fingerprint_too(own, monkeypatch, capsys):
    """A changed file outside the repository, a moved revision or other files asked for: all rerun download."""
    (own.root / "big.parquet").write_bytes(b"big")
    looked = []
    found = Source(
        "a folder",
        links={"big.parquet": own.root / "big.parquet"},
        remotes=[Remote("org/name", "v1", ["data/*.parquet"], prefix="v1-")],
        check=lambda: looked.append("looked into") or ["7 and 7.0 differ"],
    )
    monkeypatch.setattr(DATASETS["own"], "find", lambda params: found)
    check.main()
    assert capsys.readouterr().out == "check: own: 7 and 7.0 differ\n"
    fingerprint = prints()["own.json"]
    assert fingerprint["sha256"] == {"big.parquet": hashlib.sha256(b"big").hexdigest()}
    assert fingerprint["remotes"][0]["files"] == ["data/*.parquet"]
    assert looked == ["looked into"]
