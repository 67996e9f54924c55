"""The store's table, and what is removed from it: only what nobody refers to, and only when it is said."""

import os
import time

import pytest

from pipeline import paths
from pipeline.storage import raw_files, upkeep


@pytest.fixture
def shared(project):
    """A store with a file that this project refers to, and one that nobody does, both a month old."""
    for name in ("mine", "lost"):
        (project.root / name).write_text(name)
    raw_files.write_manifest("own", raw_files.Manifest("here", None, [raw_files.keep(project.root / "mine")]))
    raw_files.keep(project.root / "lost")
    age(30)
    return project


def age(days):
    then = time.time() - days * upkeep.DAY
    for path in [paths.store(), *paths.store().rglob("*")]:
        os.utime(path, (then, then), follow_symlinks=False)


def kept():
    return sorted(path.read_text() for path in (paths.store() / "raw").glob("*/*"))


def test_only_what_is_old_and_unused_is_removed_and_only_when_asked(shared, capsys):
    upkeep.clean()
    assert "4 B in 1 places could go (nobody refers to it, 7 days old)" in capsys.readouterr().out
    age(3)
    upkeep.clean(remove=True)
    assert kept() == ["lost", "mine"]
    upkeep.clean(remove=True, days=2)
    assert kept() == ["mine"]


def test_another_repository_keeps_its_files(shared, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    upkeep.clean(remove=True)
    assert kept() == ["mine"]
    (shared.root / "params.yaml").unlink()  # it is gone
    upkeep.clean(remove=True)
    assert kept() == []
    assert not any(upkeep.uses().values())


def test_embeddings_of_an_encoder_no_longer_used_can_go(small, monkeypatch, capsys):
    """The project was built elsewhere and copied: here nothing was encoded yet."""
    from pipeline.stages import encode

    encode.main("own")
    upkeep.clean()
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("embeddings"))
    assert line.split()[1:5] == ["hashed-words", "float32", "torch", "cpu"]
    assert line.split()[-1] == "own"
    small.set({"encode.dtype": "float16"})
    encode.main("own")
    age(30)
    for use in (paths.store() / "uses").glob("*/*.json"):
        if str(small.root) not in use.read_text():
            use.unlink()
    folders = {path.name for path in (paths.store() / "embeddings").iterdir()}
    upkeep.clean(remove=True)
    left = {path.name for path in (paths.store() / "embeddings").iterdir()}
    assert (len(folders), len(left)) == (2, 1)
    capsys.readouterr()
    encode.main("own")
    assert "0 to encode" in capsys.readouterr().out


def test_leftovers_and_downloads_can_go_and_a_linked_file_stays(shared, capsys):
    raw_files.link(shared.root / "lost")
    (paths.store() / "downloads/a--b-c").mkdir(parents=True)
    (paths.store() / "downloads/a--b-c/part.incomplete").write_text("12")
    (paths.store() / "raw" / "ab").mkdir(exist_ok=True)
    (paths.store() / "raw/ab/.xyz.tmp").write_text("1")
    age(30)
    upkeep.clean(remove=True)
    assert kept() == ["mine"]
    assert (shared.root / "lost").read_text() == "lost"
    assert not list((paths.store() / "downloads").iterdir())
    assert not list((paths.store() / "raw/ab").glob(".*"))
