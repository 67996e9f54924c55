"""Atomic writes: the old content or the new, whole; one sentence for what fails; leftovers swept or put back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pal import files
from pal.errors import PalError

LEFT = ".0123456789abcdef"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fill(folder, text):
    with files.new_folder(folder) as new:
        (new / "inner").mkdir()
        (new / "inner" / "a.txt").write_text(text)


def test_json_csv_and_text_are_utf8_and_nan_is_refused(tmp_path):
    files.write_json(tmp_path / "a.json", {"ä": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "ä": 1\n}\n'
    files.write_csv(tmp_path / "a.csv", [{"a": 1, "b": "x,y"}])
    assert (tmp_path / "a.csv").read_text() == 'a,b\n1,"x,y"\n'
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_json(tmp_path / "b.json", float("nan"))
    assert names(tmp_path) == ["a.csv", "a.json"]


def test_copies_moves_and_hashes(tmp_path):
    """sha256 of "abc" is ba7816bf…, a published constant."""
    files.write_bytes(tmp_path / "a", b"abc")
    files.copy_file(tmp_path / "a", tmp_path / "deep" / "b")
    files.move_file(tmp_path / "a", tmp_path / "deep" / "c")
    assert names(tmp_path) == ["deep"]
    assert {files.sha256_of(tmp_path / "deep" / name)[:8] for name in "bc"} == {"ba7816bf"}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_is_made_in_a_group_s_folder_is_the_group_s(tmp_path, umask):
    """Folders as the store itself, files to read and write; in other folders as the umask says."""
    before = os.umask(umask)
    try:
        for mode in (0o2775, 0o755):
            store = tmp_path / f"{mode:o}"
            store.mkdir()
            store.chmod(mode)
            files.write_bytes(store / "raw" / "ab" / "file", b"1")
            fill(store / "deep" / "folder", "text")
            files.move_file(store / "raw" / "ab" / "file", store / "new" / "file")
            of_group = {True: 0o2775, False: 0o664}
            of_umask = {True: 0o777 & ~umask, False: 0o666 & ~umask}
            for path in store.rglob("*"):
                expected = (of_group if mode == 0o2775 else of_umask)[path.is_dir()]
                assert path.stat().st_mode & 0o7777 == expected
    finally:
        os.umask(before)


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path):
    """A real limit on the size of files, in a process of its own."""
    (tmp_path / "a").write_bytes(b"old")
    program = (
        "import resource; from pathlib import Path; from pal.files import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); write_bytes(Path('a'), bytes(100_000))"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environ, capture_output=True)
    assert b"PalError: a cannot be written (File too large); the file system allows no larger" in done.stderr
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_what_cannot_be_replaced_is_one_sentence(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "folder", tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(PalError, match=r"cannot be written \((Is a directory|File exists)\); choose"):
            files.write_bytes(place, b"x")
    with (
        pytest.raises(PalError, match=r"pipe/a cannot be written \(File exists\); choose .*, or set X$"),
        files.new_folder(tmp_path / "pipe" / "a", advice=", or set X"),
    ):
        pass
    assert names(tmp_path) == ["folder", "pipe"]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    files.write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_bytes() == b"precious"
    assert not (tmp_path / "link").is_symlink()


def test_a_folder_takes_the_place_of_the_old_one(tmp_path):
    fill(tmp_path / "out", "old")
    (tmp_path / "out" / "only-old").touch()
    fill(tmp_path / "out", "new")
    assert names(tmp_path / "out") == ["inner"]
    assert (tmp_path / "out" / "inner" / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(tmp_path, monkeypatch, failing):
    """Of the two renames either may fail."""
    fill(tmp_path / "out", "old")
    real, calls = os.rename, []

    def rename(*values):
        calls.append(values)
        if len(calls) == failing:
            raise OSError(5, "Input/output error")
        return real(*values)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(PalError, match="the disk may be failing"):
        fill(tmp_path / "out", "new")
    assert (tmp_path / "out" / "inner" / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_leftovers_are_swept_after_a_week_and_strange_files_are_not(tmp_path):
    for name in (f".a{LEFT}.new", f".b{LEFT}.new", f".c{LEFT}.old", ".d.new"):
        (tmp_path / name).mkdir()
    (tmp_path / "c").touch()
    for name in (f".a{LEFT}.new", ".d.new"):
        os.utime(tmp_path / name, (0, 0))
    files.write_bytes(tmp_path / "e", b"")
    assert names(tmp_path) == [f".b{LEFT}.new", ".d.new", "c", "e"]


KILLED = """
import os, signal, sys
from pathlib import Path
from pal import files
seen = [0]
def counted(real):
    def call(*values, **others):
        seen[0] += 1
        if seen[0] == turn:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*values, **others)
    return call
turn = 0
for name in ("open", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
for turn in range(1, 99):
    child = os.fork()
    seen[0] = 0
    if not child:
        with files.new_folder(Path("out")) as new:
            files.write_bytes(new / "a", b"new")
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    before, turn = turn, 0
    files.sweep(Path())
    found = Path("out/a").read_text()
    assert found in ("old", "new"), before
    print(found)
    Path("out/a").write_text("old")
"""


def test_killed_before_any_call_the_old_folder_or_the_new_stands_there(tmp_path):
    """A real SIGKILL before each call that changes files, and a sweep as at the next start."""
    fill(tmp_path / "out", "")
    (tmp_path / "out" / "a").write_text("old")
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = [sys.executable, "-c", KILLED]
    done = subprocess.run(run, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert not done.stderr
    assert {*done.stdout.split()} == {"old", "new"}
    assert len(done.stdout.split()) > 9
