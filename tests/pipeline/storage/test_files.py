"""Writing whole or not at all: what was good before stays, whatever happens inside the block."""

import pytest

from pipeline.errors import PipelineError
from pipeline.storage import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fail(block, error, name):
    """Write half of something in the block, and end as a fault or a kill would."""
    with block as out:
        if name:
            (out / name).write_text("half")
        else:
            out.write(b"half")
        raise error


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "a" / "out.txt"
    with files.new_file(path) as out:
        out.write(b"new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert names(path.parent) == ["out.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_block_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(error):
        fail(files.new_file(path), error, "")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_a_folder_takes_the_place_of_the_old_one(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    with files.new_folder(folder) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "new.txt").write_text("new")
    assert names(folder) == ["inner"]
    assert folder.stat().st_mode & 0o777 == 0o755
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_block_leaves_the_old_folder_and_no_other(tmp_path, error):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    with pytest.raises(error):
        fail(files.new_folder(folder), error, "new.txt")
    assert (folder / "old.txt").read_text() == "old"
    assert names(folder) == ["old.txt"]
    assert names(tmp_path) == ["out"]


def test_two_writers_of_one_name_do_not_meet(tmp_path):
    path = tmp_path / "out.txt"
    with files.new_file(path) as first, files.new_file(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_text() == "first"
    with files.new_folder(tmp_path / "a") as first, files.new_folder(tmp_path / "a") as second:
        assert first != second
    assert names(tmp_path) == ["a", "out.txt"]


def test_a_name_of_any_length_can_be_written(tmp_path):
    path = tmp_path / ("n" * 250)
    files.write_text(path, "x")
    assert path.read_text() == "x"


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "out.json"
    files.write_json(path, {"a": "ä"})
    with pytest.raises(ValueError, match=r"Out of range float"):
        files.write_json(path, {"a": float("nan")})
    assert path.read_text(encoding="utf-8") == '{\n  "a": "ä"\n}\n'
    assert files.read_json(path, "prepare@own") == {"a": "ä"}


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff"])
def test_damaged_json_names_the_stage_to_run(tmp_path, content):
    path = tmp_path / "out.json"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=r"out.json is damaged \(.*\); run `dvc repro -f prepare@own`"):
        files.read_json(path, "prepare@own")


def test_missing_json_names_the_stage_to_run(tmp_path):
    with pytest.raises(PipelineError, match=r"out.json is missing; run `dvc repro prepare@own`"):
        files.read_json(tmp_path / "out.json", "prepare@own")


def test_csv_quotes_what_needs_it(tmp_path):
    files.write_csv(tmp_path / "a.csv", [{"a": 1, "b": "x, y"}, {"a": None, "b": 'say "no"'}])
    assert (tmp_path / "a.csv").read_text() == 'a,b\n1,"x, y"\n,"say ""no"""\n'


def test_the_hash_is_that_of_the_bytes(tmp_path):
    """The sha256 of nothing at all is e3b0c442…, a published constant."""
    (tmp_path / "empty").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert files.sha256_of(tmp_path / "empty") == empty
