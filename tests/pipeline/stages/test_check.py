"""check: every chosen dataset's source is looked into, and its fingerprint changes when the source does."""

import json
from pathlib import Path

import pytest

from pal.errors import PalError
from pipeline import PipelineError
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


BLANK, HUGE = "\u200b ", "x" * 2_000_001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BLANK, r"^chosen in row 2 of own.csv holds nothing but spaces and invisible .* set encode.on_bad_item to skip$"),
        (HUGE, r"^chosen in row 2 of own.csv is longer than 2,000,000 characters"),
    ],
    ids=["invisible", "huge"],
)  # fmt: skip
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


def test_a_folder_in_which_dvcs_queue_fails_is_told(own, tmp_path, monkeypatch, capsys):
    (tmp_path / "\u00e4").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "\u00e4"))
    own.set({"datasets": ["simulated"]})
    check.main()
    assert "warning: DVC's queue fails in a folder" in capsys.readouterr().out
