"""check: every chosen dataset's source is looked into, and its fingerprint changes when the source does."""

import hashlib
import json
from pathlib import Path

import pytest

from pal.errors import PalError
from pipeline import PipelineError
from pipeline.datasets import DATASETS
from pipeline.datasets.base import Remote, Source
from pipeline.stages import check

GOOD = "user_id,prompt,chosen,rejected\n" + "".join(
    f"{user},why?,so,no\n{user},who?,me,you\n" for user in ("ann", "bob", "eve", "joe", "zoe")
)


@pytest.fixture
def own(project):
    """A project whose one dataset is own.csv."""
    project.set({"datasets": ["own"], "own.source": "own.csv"})
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
    with pytest.raises(PalError, match=r"^own\.csv is not there, and matches no file"):
        check.main()
    assert prints() == before


def test_a_missing_source_names_the_key_to_set(own):
    own.set({"own.source": None})
    with pytest.raises(
        PipelineError, match=r"own\.source in params\.yaml must name a file, .*, got null; set it"
    ):
        check.main()


BLANK, HUGE = "\u200b ", "x" * 2_000_001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            BLANK,
            r"^chosen in row 2 of own.csv holds nothing but spaces and invisible .* set encode.on_bad_item to skip$",
        ),
        (HUGE, r"^chosen in row 2 of own.csv is longer than 2,000,000 characters"),
    ],
    ids=["invisible", "huge"],
)
def test_a_text_that_no_encoder_reads_is_refused_by_row_before_anything_runs(own, text, message):
    (own.root / "own.csv").write_text(GOOD.replace("ann,who?,me", f"ann,who?,{text}"), encoding="utf-8")
    with pytest.raises(PalError, match=message):
        check.main()
    own.set({"encode.on_bad_item": "skip"})
    check.main()


@pytest.mark.parametrize("encoder", ["classical", {"text": "hashed-words", "image": "classical"}])
def test_an_encoder_that_does_not_read_the_items_is_refused(own, encoder):
    own.set({"own.encoder": encoder})
    if encoder != "classical":
        check.main()
        own.set({"own.encoder": {"text": "classical", "image": "classical"}})
    message = r"own\.encoder in params\.yaml must read what prompts are, text \(own\.prepare\.prompts\), got 'classical'"
    with pytest.raises(PipelineError, match=message):
        check.main()


def test_a_folder_that_dvc_s_queue_cannot_work_in_is_told(own, monkeypatch, capsys):
    check.main()
    assert capsys.readouterr().out == ""
    folder = own.root / "mit ä"
    folder.mkdir()
    for name in ("params.yaml", "own.csv"):
        (own.root / name).rename(folder / name)
    monkeypatch.chdir(folder)
    check.main()
    assert capsys.readouterr().out.startswith("warning: DVC's queue fails in a folder")


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
