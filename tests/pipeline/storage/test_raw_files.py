"""Raw files: found by their path, kept by their hash, and checked whenever they are read."""

import hashlib
import os
import sqlite3
from contextlib import closing

import pytest

from pipeline import PipelineError, paths
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
    with pytest.raises(
        PipelineError, match=r"hello.csv of own was damaged in the store; run `dvc repro -f -s"
    ):
        raw_files.stored(file, "own")
    with pytest.raises(PipelineError, match=r"of own is not in the store .*; run `dvc repro -f -s download@"):
        raw_files.stored(file, "own")
    raw_files.keep(hello)
    assert raw_files.stored(file, "own").read_text() == "hello"


def test_a_manifest_comes_back_as_it_was(project):
    with pytest.raises(PipelineError, match=r"data/raw/own.json is missing; run `dvc repro download@own`"):
        raw_files.read_manifest("own")
    manifest = raw_files.Manifest("hub: a/b at main", "c0ffee", [raw_files.RawFile("a.jsonl", HELLO, 5)])
    raw_files.write_manifest("own", manifest)
    assert raw_files.read_manifest("own") == manifest
    for content in ("[]", '{"source": "x", "revision": null, "files": [{"name": "a"}]}', "{"):
        paths.raw("own").write_text(content)
        with pytest.raises(PipelineError, match=r"own.json is damaged .*; run `dvc repro -f download@own`"):
            raw_files.read_manifest("own")


def test_a_linked_file_is_read_where_it_lies_until_it_is_changed(hello):
    file = raw_files.link(hello)
    assert (file, home().resolve()) == (raw_files.RawFile("hello.csv", HELLO, 5), hello)
    assert raw_files.stored(file, "own") == home()
    hello.write_text("hellO")
    with pytest.raises(
        PipelineError, match=rf"hello.csv of own was changed at {hello}; run `dvc repro -f -s download@own`"
    ):
        raw_files.stored(file, "own")
    assert hello.read_text() == "hellO"
    assert raw_files.stored(raw_files.link(hello), "own").read_text() == "hellO"


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("hullo")])
def test_a_link_that_leads_nowhere_or_to_other_bytes_is_laid_anew(hello, change):
    """As after the folder was moved: the same bytes lie elsewhere now."""
    raw_files.link(hello)
    moved = hello.with_name("moved.csv")
    moved.write_text("hello")
    change(hello)
    assert raw_files.stored(raw_files.link(moved), "own").resolve() == moved


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


def longer(path):
    path.write_bytes(bytes(BIG + 1))
    os.utime(path, ns=(1_000_000_000, 1_000_000_000))


def replaced(path):
    """Of the same size and time, but another file: as `cp -p` and `mv` leave it."""
    path.with_name("new").write_bytes(b"1" * BIG)
    os.utime(path.with_name("new"), ns=(1_000_000_000, 1_000_000_000))
    path.with_name("new").replace(path)


@pytest.mark.parametrize("change", [longer, replaced], ids=lambda change: change.__name__)
def test_a_changed_file_is_read_again(big, change):
    raw_files.cached_sha256(big)
    change(big)
    assert raw_files.cached_sha256(big) == hashlib.sha256(big.read_bytes()).hexdigest()
    assert raw_files.cached_sha256(big) == hashlib.sha256(big.read_bytes()).hexdigest()
