"""Manifests: counts, every file by its hash, and readers who check that."""

import json

import pytest

from pal.files import new_folder, write_bytes
from pipeline import PipelineError
from pipeline.storage import manifests


@pytest.fixture
def folder(tmp_path):
    """A stage's output: a file of JSON, and two below it."""
    with new_folder(tmp_path / "out") as new:
        write_bytes(new / "a.json", b'{"x": 1}\n')
        for name in ("shard-0.bin", "shard-1.bin"):
            write_bytes(new / "text" / name, name.encode())
        manifests.write_manifest(new, {"read": 5, "kept": 3, "dropped": 2, "ties": 2}, source="a log")
    return tmp_path / "out"


def test_a_manifest_holds_counts_and_every_files_hash_and_size(folder):
    """sha256 of `{"x": 1}` and a line break, by sha256sum."""
    read = json.loads((folder / manifests.NAME).read_text())
    assert list(read) == ["counts", "source", "files"]
    assert read["counts"] == {"read": 5, "kept": 3, "dropped": 2, "ties": 2}
    assert list(read["files"]) == ["a.json", "text/shard-0.bin", "text/shard-1.bin"]
    wanted = "936353965b4ba9180e3acb781d81aa634390ac95fd2874a9cbc4c4846b49fbd4"
    assert read["files"]["a.json"] == {"sha256": wanted, "size": 9}
    assert manifests.read_json(folder / "a.json", "x") == {"x": 1}
    manifests.check_folder(folder / "text", "shard-*.bin", "x")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", b'{"x": 2}\n', "is damaged (its hash is not that in"),
        ("a.json", None, "is missing; run `dvc repro encode@own`"),
        ("text/shard-0.bin", b"shard-1", "is damaged (its hash is not that in"),
        ("text/shard-1.bin", None, "is missing; run"),
        ("text/shard-2.bin", b"new", "has no file of its name); run `dvc repro -f encode@own`"),
        (manifests.NAME, b"[]", "is damaged ("),
        (manifests.NAME, b'{"files": {"a.json": 3}}', "is damaged ("),
        (manifests.NAME, b"{" * 100_000, "is damaged ("),
        (manifests.NAME, b"\xff", "is damaged ("),
    ],
)
def test_what_is_not_as_it_was_written_is_one_sentence(folder, name, content, reason):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(PipelineError) as caught:
        manifests.read_json(folder / "a.json", "encode@own")
        manifests.check_folder(folder / "text", "shard-*.bin", "encode@own")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
