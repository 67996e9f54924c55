"""Lists of hashes: whatever is damaged, lost or added in a folder is told, the list itself included."""

import os

import pytest

from pipeline.errors import PipelineError
from pipeline.storage import manifest, sums


@pytest.fixture
def folder(tmp_path):
    """What a stage leaves: two files, one of them deeper."""
    (tmp_path / "out" / "text").mkdir(parents=True)
    (tmp_path / "out" / "a.json").write_text("1")
    (tmp_path / "out" / "text" / "shard-0.bin").write_text("22")
    manifest.seal(tmp_path / "out")
    return tmp_path / "out"


def refused(folder, match):
    for name in ("a.json", "text/shard-0.bin"):
        with pytest.raises(PipelineError, match=match):
            sums.check(folder / name, "encode@own")


def test_what_is_as_it_was_written_passes(folder):
    sums.check(folder / "a.json", "encode@own")
    sums.check_folder(folder / "text", "shard-*.bin", "encode@own")


def test_a_folder_without_a_list_is_not_held_to_anything(tmp_path):
    (tmp_path / "a").write_text("1")
    sums.check(tmp_path / "a", "encode@own")


def test_changed_bytes_name_the_file_and_the_stage(folder):
    (folder / "text" / "shard-0.bin").write_text("23")
    with pytest.raises(PipelineError, match=r"shard-0.bin is damaged .*; run `dvc repro -f encode@own`"):
        sums.check_folder(folder / "text", "shard-*.bin", "encode@own")


def test_a_shard_that_is_gone_is_missing_and_one_too_many_is_refused(folder):
    (folder / "text" / "shard-1.bin").write_text("3")
    with pytest.raises(PipelineError, match=r"shard-1.bin is damaged \(no file of its name"):
        sums.check_folder(folder / "text", "shard-*.bin", "encode@own")
    (folder / "text" / "shard-1.bin").unlink()
    (folder / "text" / "shard-0.bin").unlink()
    with pytest.raises(PipelineError, match=r"shard-0.bin is missing; run `dvc repro encode@own`"):
        sums.check_folder(folder / "text", "shard-*.bin", "encode@own")


@pytest.mark.parametrize("content", [b"", b"\xff", b"[", b"[]", b"{}", b'{"files": {}}', b"[" * 100_000])
def test_a_damaged_list_is_one_sentence(folder, content):
    (folder / sums.NAME).write_bytes(content)
    refused(folder, r"manifest.json.*; run `dvc repro -f encode@own`")


def test_any_flipped_bit_of_the_list_is_told(folder):
    whole = (folder / sums.NAME).read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 4
        (folder / sums.NAME).write_bytes(damaged)
        told = 0
        for name in ("a.json", "text/shard-0.bin"):
            try:
                sums.check(folder / name, "x")
            except PipelineError:
                told += 1
        assert told, at


def test_bits_that_rot_are_noticed_though_size_and_time_stay(folder):
    """A file of two megabytes, whose hash would be remembered by how it looks."""
    path = folder / "large.bin"
    path.write_bytes(bytes(2 << 20))
    manifest.seal(folder)
    sums.check(path, "encode@own")
    looks = path.stat()
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"\1")
    os.utime(path, ns=(looks.st_atime_ns, looks.st_mtime_ns))
    with pytest.raises(PipelineError, match=r"large.bin is damaged \(its hash is not that in"):
        sums.check(path, "encode@own")
