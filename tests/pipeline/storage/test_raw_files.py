"""Raw files: found by their path, kept by their hash, and checked whenever they are read."""

import hashlib
import os
import sqlite3
from contextlib import closing

import pytest

from pipeline import PipelineError, paths
from pipeline.datasets.base import Source
from pipeline.storage import raw_files

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # printf hello | sha256sum


@pytest.fixture
def hello(project):
    (project.root / "hello.csv").write_text("hello")
    return project.root / "hello.csv"


def home():
    return paths.store() / "raw" / "2c" / HELLO


def test_a_kept_file_lies_under_its_hash(hello):
    file = raw_files.keep(hello)
    assert file == raw_files.RawFile("hello.csv", HELLO, 5)
    assert home().read_text() == "hello"
    assert raw_files.stored(file, "own") == home()


def test_damage_in_the_store_is_noticed_and_removed(hello):
    raw_files.link(hello)
    file = raw_files.keep(hello)  # takes the place of the link
    home().write_text("hellO")
    message = r"hello.csv of own was damaged in the store; run `dvc repro -f -s"
    with pytest.raises(PipelineError, match=message):
        raw_files.stored(file, "own")
    with pytest.raises(PipelineError, match=r"of own is not in the store .*; run `dvc repro -f -s download@"):
        raw_files.stored(file, "own")
    raw_files.keep(hello)
    assert raw_files.stored(file, "own").read_text() == "hello"


def test_a_linked_file_is_read_where_it_lies_until_it_is_changed(hello):
    file = raw_files.link(hello)
    assert (file, home().resolve()) == (raw_files.RawFile("hello.csv", HELLO, 5), hello)
    assert raw_files.stored(file, "own") == home()
    hello.write_text("hellO")
    message = rf"hello.csv of own was changed at {hello}; run `dvc repro -f -s download@own`"
    with pytest.raises(PipelineError, match=message):
        raw_files.stored(file, "own")
    assert hello.read_text() == "hellO"
    assert raw_files.stored(raw_files.link(hello), "own").read_text() == "hellO"


def test_a_file_that_is_gone_is_taken_anew_from_where_the_same_bytes_are(hello, project):
    """Another run linked to its own copy, and removed it; so do others' runs on a store that they share."""
    other = project.root / "other.csv"
    other.write_text("hello")
    file = raw_files.link(other, "hello.csv")
    raw_files.write_manifest("own", raw_files.Manifest("hello.csv", None, [file]))
    other.unlink()
    with pytest.raises(PipelineError, match=rf"hello.csv of own lay at {other}, which is gone; run"):
        raw_files.stored(file, "own")
    raw_files.renew("own", lambda: Source("hello.csv", links={"hello.csv": hello}))
    assert raw_files.stored(file, "own").resolve() == hello


def test_a_file_is_found_by_its_hash(hello):
    assert raw_files.find(HELLO, "h") is None
    raw_files.keep(hello)
    assert raw_files.find(HELLO, "h") == raw_files.RawFile("h", HELLO, 5)
    home().write_text("hellO")
    assert raw_files.find(HELLO, "h") is None


BIG = raw_files.CACHED_FROM


@pytest.fixture
def hashed(project, monkeypatch):
    """The paths whose bytes were read."""
    read = []
    real = raw_files.sha256_of

    def watched(path):
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(raw_files, "sha256_of", watched)
    return read


@pytest.fixture
def big(project):
    (project.root / "big").write_bytes(bytes(BIG))
    os.utime(project.root / "big", ns=(1_000_000_000, 1_000_000_000))
    return project.root / "big"


def test_a_hash_is_cached_and_a_locked_cache_costs_time_and_not_an_answer(big, hashed, monkeypatch):
    expected = hashlib.sha256(bytes(BIG)).hexdigest()
    assert [raw_files.cached_sha256(big) for _ in range(3)] == [expected] * 3
    assert hashed == ["big"]
    monkeypatch.setattr(raw_files, "PATIENCE", 0.01)
    with closing(sqlite3.connect(paths.store() / "hashes.sqlite", isolation_level=None)) as cache:
        cache.execute("BEGIN EXCLUSIVE")
        assert raw_files.cached_sha256(big) == expected
    assert hashed == ["big", "big"]
