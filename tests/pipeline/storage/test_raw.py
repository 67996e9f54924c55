"""Raw files: found by their path, kept by their hash, and checked whenever they are read."""

import pytest

from pipeline import paths
from pipeline.errors import PipelineError
from pipeline.storage import raw

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # printf hello | sha256sum


@pytest.fixture
def hello(project):
    (project.root / "hello.csv").write_text("hello")
    return project.root / "hello.csv"


def home():
    return paths.store() / "raw" / "2c" / HELLO


def test_a_file_is_found_relative_to_the_repository(hello):
    assert raw.find_files("hello.csv", "own.source", (".csv",)) == [hello]
    assert raw.find_files(str(hello), "own.source", (".csv",)) == [hello]


def test_a_folder_gives_its_files_in_the_order_of_their_names(project):
    folder = project.root / "mine"
    folder.mkdir()
    for name in ("b.csv", "a.jsonl", "notes.md", "c.csv"):
        (folder / name).write_text("x")
    (folder / "folder.csv").mkdir()
    found = raw.find_files("mine", "own.source", (".csv", ".jsonl"))
    assert [path.name for path in found] == ["a.jsonl", "b.csv", "c.csv"]


def test_a_path_to_nothing_says_where_it_looked(project):
    with pytest.raises(
        PipelineError, match=rf"own.source must be an existing .* got 'no', .* {project.root}/no"
    ):
        raw.find_files("no", "own.source", (".csv",))


def test_a_file_of_another_kind_is_refused(hello):
    with pytest.raises(PipelineError, match=r"own.source must be a .jsonl, .parquet file, got 'hello.csv'"):
        raw.find_files("hello.csv", "own.source", (".jsonl", ".parquet"))


def test_a_folder_without_such_files_is_refused(project):
    (project.root / "mine").mkdir()
    with pytest.raises(PipelineError, match=r"own.source must hold .csv files, got 'mine', which has none"):
        raw.find_files("mine", "own.source", (".csv",))


def test_a_kept_file_lies_under_its_hash(hello):
    file = raw.keep(hello)
    assert file == raw.RawFile("hello.csv", HELLO, 5)
    assert home().read_text() == "hello"
    assert raw.stored(file, "own") == home()


def test_a_file_is_kept_once_under_any_name(hello):
    raw.keep(hello)
    before = home().stat().st_mtime_ns
    assert raw.keep(hello, "other").name == "other"
    assert home().stat().st_mtime_ns == before
    assert [path for path in paths.store().rglob("*") if path.is_file()] == [home()]


def test_a_file_that_changes_while_it_is_copied_is_refused(hello, monkeypatch):
    monkeypatch.setattr(raw, "sha256_of", lambda path: home().name)
    hello.write_bytes(b"hullo")
    with pytest.raises(
        PipelineError, match=r"hello.csv changed while it was being copied; run the stage again"
    ):
        raw.keep(hello)
    assert not home().exists()


def test_a_file_that_left_the_store_names_the_stage_to_run(hello):
    file = raw.keep(hello)
    home().unlink()
    with pytest.raises(
        PipelineError, match=r"hello.csv of own is not in the store .*; run `dvc repro -f -s download@own`"
    ):
        raw.stored(file, "own")


def test_damage_in_the_store_is_noticed_and_removed(hello):
    file = raw.keep(hello)
    home().write_text("hellO")
    with pytest.raises(
        PipelineError, match=r"hello.csv of own was damaged in the store; run `dvc repro -f -s"
    ):
        raw.stored(file, "own")
    assert not home().exists()
    raw.keep(hello)
    assert raw.stored(file, "own").read_text() == "hello"


def test_a_manifest_comes_back_as_it_was(project):
    manifest = raw.Manifest("hub: a/b at main", "c0ffee", [raw.RawFile("a.jsonl", HELLO, 5)])
    raw.write_manifest("own", manifest)
    assert raw.read_manifest("own") == manifest


def test_a_missing_manifest_names_the_stage_to_run(project):
    with pytest.raises(PipelineError, match=r"data/raw/own.json is missing; run `dvc repro download@own`"):
        raw.read_manifest("own")


def test_a_linked_file_is_read_where_it_lies(hello):
    """The store points to it: not a byte is copied."""
    file = raw.link(hello)
    assert file == raw.RawFile("hello.csv", HELLO, 5)
    assert home().is_symlink()
    assert raw.stored(file, "own") == home()
    assert home().resolve() == hello
    assert raw.link(hello, "other").name == "other"


def test_a_linked_file_that_was_changed_is_one_sentence(hello):
    file = raw.link(hello)
    hello.write_text("hellO")
    with pytest.raises(
        PipelineError, match=r"hello.csv of own was changed where it lies; run `dvc repro -f -s download@own`"
    ):
        raw.stored(file, "own")
    assert hello.read_text() == "hellO"
    assert raw.stored(raw.link(hello), "own").read_text() == "hellO"


def test_a_linked_file_that_is_gone_is_one_sentence(hello):
    file = raw.link(hello)
    hello.unlink()
    with pytest.raises(
        PipelineError, match=r"hello.csv of own is not in the store .*; run `dvc repro -f -s download@own`"
    ):
        raw.stored(file, "own")


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("hullo")])
def test_a_link_that_leads_nowhere_or_to_other_bytes_is_laid_anew(hello, change):
    """As after the folder was moved: the same bytes lie elsewhere now."""
    raw.link(hello)
    moved = hello.with_name("moved.csv")
    moved.write_text("hello")
    change(hello)
    assert raw.stored(raw.link(moved), "own").resolve() == moved


def test_a_copy_takes_the_place_of_a_link(hello):
    """What a link leads to is another's, and may be changed."""
    raw.link(hello)
    file = raw.keep(hello)
    hello.unlink()
    assert raw.stored(file, "own").read_text() == "hello"


def test_a_link_leaves_a_copy_that_is_there(hello):
    raw.keep(hello)
    raw.link(hello)
    assert not home().is_symlink()


def test_a_file_is_found_by_its_hash(hello):
    assert raw.find(HELLO, "h") is None
    raw.keep(hello)
    assert raw.find(HELLO, "h") == raw.RawFile("h", HELLO, 5)
    home().write_text("hellO")
    assert raw.find(HELLO, "h") is None


def test_a_file_that_nobody_else_needs_is_moved(hello):
    assert raw.move_in(hello, "h") == raw.RawFile("h", HELLO, 5)
    assert not hello.exists()
    assert home().read_text() == "hello"
