"""Hashes are remembered for files that look untouched; the book of them may be lost, locked or damaged."""

import hashlib
import os
import sqlite3

import pytest

from pipeline import paths as layout
from pipeline.storage import hashes

BIG = hashes.REMEMBERED_FROM


@pytest.fixture
def hashed(project, monkeypatch):
    """The paths whose bytes were read."""
    read = []
    real = hashes.sha256_of

    def watched(path):
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(hashes, "sha256_of", watched)
    return read


@pytest.fixture
def big(project):
    (project.root / "big").write_bytes(bytes(BIG))
    os.utime(project.root / "big", ns=(1_000_000_000, 1_000_000_000))
    return project.root / "big"


def test_a_hash_is_remembered(big, hashed):
    expected = hashlib.sha256(bytes(BIG)).hexdigest()
    assert [hashes.sha256(big) for _ in range(3)] == [expected] * 3
    assert hashed == ["big"]


def test_a_file_that_was_just_written_is_not_remembered(big, hashed):
    """It may change again within one tick of the file system's clock, and look the same."""
    os.utime(big)
    hashes.sha256(big)
    hashes.sha256(big)
    assert hashed == ["big", "big"]


def test_small_files_are_always_read(project, hashed):
    """Reading them is as quick as the look into the book."""
    (project.root / "small").write_bytes(bytes(BIG - 1))
    hashes.sha256(project.root / "small")
    hashes.sha256(project.root / "small")
    assert hashed == ["small", "small"]
    assert not (layout.store() / "hashes.sqlite").exists()


def longer(path):
    path.write_bytes(bytes(BIG + 1))
    os.utime(path, ns=(1_000_000_000, 1_000_000_000))


def later(path):
    path.write_bytes(b"1" * BIG)
    os.utime(path, ns=(2_000_000_000, 2_000_000_000))


def replaced(path):
    """Of the same size and time, but another file: as `cp -p` and `mv` leave it."""
    path.with_name("new").write_bytes(b"1" * BIG)
    os.utime(path.with_name("new"), ns=(1_000_000_000, 1_000_000_000))
    path.with_name("new").replace(path)


@pytest.mark.parametrize("change", [longer, later, replaced], ids=lambda change: change.__name__)
def test_a_changed_file_is_read_again(big, change):
    hashes.sha256(big)
    change(big)
    assert hashes.sha256(big) == hashlib.sha256(big.read_bytes()).hexdigest()
    assert hashes.sha256(big) == hashlib.sha256(big.read_bytes()).hexdigest()


def test_a_file_that_changes_while_it_is_read_is_not_remembered(big, monkeypatch):
    """What was read is told, once: neither look knows which bytes belong to it."""

    def grown(path):
        with path.open("ab") as file:
            file.write(b"more")
        return "half of this and half of that"

    with monkeypatch.context() as patch:
        patch.setattr(hashes, "sha256_of", grown)
        hashes.sha256(big)
    assert hashes.sha256(big) == hashlib.sha256(big.read_bytes()).hexdigest()


def test_a_link_is_remembered_as_what_it_leads_to(big, hashed):
    big.with_name("link").symlink_to(big)
    assert hashes.sha256(big.with_name("link")) == hashes.sha256(big)
    assert hashed == ["big"]


def test_a_damaged_book_costs_time_and_not_an_answer(big, hashed):
    hashes.sha256(big)
    (layout.store() / "hashes.sqlite").write_bytes(b"no book at all" * 100)
    assert hashes.sha256(big) == hashlib.sha256(bytes(BIG)).hexdigest()
    assert hashed == ["big", "big"]


def test_a_locked_book_costs_time_and_not_an_answer(big, hashed, monkeypatch):
    hashes.sha256(big)
    monkeypatch.setattr(hashes, "PATIENCE", 0.01)
    book = sqlite3.connect(layout.store() / "hashes.sqlite", isolation_level="EXCLUSIVE")
    try:
        book.execute("BEGIN EXCLUSIVE")
        assert hashes.sha256(big) == hashlib.sha256(bytes(BIG)).hexdigest()
    finally:
        book.close()
    assert hashed == ["big", "big"]
    hashes.sha256(big)
    assert hashed == ["big", "big"]


def test_a_store_that_cannot_be_written_costs_time_and_not_an_answer(big, hashed, monkeypatch):
    (big.parent / "file").write_text("")
    monkeypatch.setenv("PAL_STORE", str(big.parent / "file" / "store"))
    assert hashes.sha256(big) == hashlib.sha256(bytes(BIG)).hexdigest()
