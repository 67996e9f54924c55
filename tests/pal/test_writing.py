"""The one writer: old or new, whole; one sentence for what fails; and what a kill leaves is swept or put back."""

import csv
import errno
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pal import calls, placing, temporaries, writing
from pal.errors import PalError

DEAD = 4_000_000  # beyond the largest process id that Linux gives by default


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def dead(folder, name, end="new", world=None):
    """A temporary name of a process that is no more."""
    return folder / f".{name}.{world or temporaries._world()}-{DEAD}-0badf00d.{end}"


def no_exchange(patch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    patch.setattr(calls, "exchange", refuse)


@pytest.fixture(params=["exchange", "two renames"])
def way(request, monkeypatch):
    """Both ways of replacing: where names can be exchanged, and where they cannot."""
    if request.param == "two renames":
        no_exchange(monkeypatch)
    return request.param


def test_the_hash_of_what_is_written_is_known_while_writing(tmp_path):
    """sha256 of "abc" is ba7816bf…, a published constant."""
    with writing.new_file(tmp_path / "a", hashed=True) as out:
        out.write(b"a")
        out.write(memoryview(np.array([98, 99], np.uint8)))
        assert out.sha256.startswith("ba7816bf8f01cfea")
        assert out.tell() == 3
    assert out.sha256 == hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()


def test_a_hash_that_was_not_asked_for_is_not_made_up(tmp_path):
    with writing.new_file(tmp_path / "a") as out, pytest.raises(ValueError, match="ask for it with hashed"):
        out.sha256  # noqa: B018


def test_a_file_may_be_named_after_what_it_holds(tmp_path):
    with writing.new_file(tmp_path / "store", name=lambda sha256: f"{sha256[:8]}.bin") as out:
        out.write(b"abc")
    assert names(tmp_path / "store") == ["ba7816bf.bin"]


def test_what_writes_elsewhere_writes_here_too(tmp_path):
    """Parquet, npy and csv give the bytes that they give a file of their own."""
    table = pa.table({"a": [1, 2, 3]})
    pq.write_table(table, tmp_path / "path.parquet")
    with writing.new_file(tmp_path / "ours.parquet") as out:
        pq.write_table(table, out)
    assert (tmp_path / "ours.parquet").read_bytes() == (tmp_path / "path.parquet").read_bytes()
    with writing.new_file(tmp_path / "a.npy") as out:
        np.save(out, np.arange(6).reshape(2, 3))
    assert np.load(tmp_path / "a.npy").tolist() == [[0, 1, 2], [3, 4, 5]]
    with writing.new_file(tmp_path / "a.csv") as out:
        text = io.TextIOWrapper(out, encoding="utf-8", newline="")
        csv.writer(text).writerow(["a", "ä"])
        text.flush()
        text.detach()
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "a,ä\n"


def test_the_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o077)
    try:
        writing.write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_short_writes_and_signals_are_survived(tmp_path, monkeypatch):
    real, turns = calls.write, iter(range(10**6))

    def reluctant(handle, view):
        if next(turns) % 2:
            raise InterruptedError(errno.EINTR, "Interrupted system call")
        return real(handle, view[:3])

    monkeypatch.setattr(calls, "write", reluctant)
    with writing.new_file(tmp_path / "a", hashed=True) as out:
        assert out.write(b"0123456789") == 10
    assert (tmp_path / "a").read_bytes() == b"0123456789"
    assert out.sha256 == hashlib.sha256(b"0123456789").hexdigest()


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "No space left on device); free space on that disk and run it again"),
        (errno.EIO, "Input/output error); the disk may be failing, so look at the system's log or "),
        (errno.EMFILE, "Too many open files); allow more open files (ulimit -n) and run it again"),
        (errno.EACCES, "Permission denied); choose another place"),
    ],
)
def test_what_fails_is_one_sentence_with_what_to_do(tmp_path, monkeypatch, code, advice):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(calls, "write", fail)
    with pytest.raises(PalError) as caught:
        writing.write_bytes(tmp_path / "a", b"new")
    assert str(caught.value).startswith(f"{tmp_path / 'a'} cannot be written ({advice}")
    assert names(tmp_path) == []


def test_a_failure_that_a_library_swallows_is_told_all_the_same(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(calls, "write", fail)
    with pytest.raises(PalError, match="No space left"), writing.new_file(tmp_path / "a") as out:
        try:
            out.write(b"half")
        except PalError:
            monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_folder_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "folder", tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(PalError, match=r"cannot be written \((Is a directory|File exists)\)"):
            writing.write_bytes(place, b"x")
    assert names(tmp_path) == ["folder", "pipe"]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    writing.write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_bytes() == b"precious"
    assert (tmp_path / "link").read_bytes() == b"new"
    assert not (tmp_path / "link").is_symlink()


def fill(folder, text):
    with writing.new_folder(folder) as new:
        (new / "inner").mkdir()
        (new / "inner" / "a.txt").write_text(text)


def test_a_folder_changes_places_with_the_old_one(tmp_path, way):
    fill(tmp_path / "out", "old")
    (tmp_path / "out" / "only-old").touch()
    fill(tmp_path / "out", "new")
    assert names(tmp_path / "out") == ["inner"]
    assert (tmp_path / "out" / "inner" / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_a_folder_that_another_made_first_may_stay(tmp_path):
    with writing.new_folder(tmp_path / "out", replace=False) as new:
        (new / "a").write_text("second")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "a").write_text("first")
    assert (tmp_path / "out" / "a").read_text() == "first"
    assert names(tmp_path) == ["out"]


def test_temporaries_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path):
    gone, other, strange = dead(tmp_path, "a"), dead(tmp_path, "b", world="00000000"), tmp_path / ".a.new"
    living = Path(str(gone).replace(str(DEAD), str(os.getppid())))
    gone.mkdir()
    (gone / "half").write_text("half")
    for path in (other, strange, living):
        path.write_text("x")
    with writing.new_file(tmp_path / "c") as out:
        own = [name for name in names(tmp_path) if name.startswith(".c.")]
        temporaries.sweep(tmp_path, again=True)
        out.write(b"c")
    assert len(own) == 1
    assert names(tmp_path) == sorted([other.name, strange.name, living.name, "c"])


def test_what_another_machine_left_is_swept_after_a_week(tmp_path):
    old, young = dead(tmp_path, "a", world="00000000"), dead(tmp_path, "b", world="00000000")
    old.touch()
    young.touch()
    os.utime(old, (0, 0))
    writing.write_bytes(tmp_path / "c", b"")
    assert names(tmp_path) == [young.name, "c"]


def test_a_kill_between_two_renames_is_mended_by_the_next_sweep(tmp_path):
    holder, new = dead(tmp_path, "out", "old"), dead(tmp_path, "out")
    (holder / "out").mkdir(parents=True)
    (holder / "out" / "a").write_text("old")
    new.mkdir()
    temporaries.sweep(tmp_path)
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "old"


def test_what_was_replaced_is_not_put_back(tmp_path):
    holder = dead(tmp_path, "out", "old")
    (holder / "out").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("new")
    temporaries.sweep(tmp_path)
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "new"


def test_an_old_folder_that_cannot_be_put_back_is_not_removed(tmp_path, monkeypatch):
    holder = dead(tmp_path, "out", "old")
    (holder / "out").mkdir(parents=True)

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(calls, "rename", fail)
    temporaries.sweep(tmp_path)
    assert (holder / "out").is_dir()


KILLED = """
import os, signal, sys
from pathlib import Path
from pal import calls, writing
turn, renames = int(sys.argv[1]), sys.argv[2] == "two renames"
if renames:
    def refuse(*_): raise OSError(38, "no")
    calls.exchange = refuse
seen = [0]
for name in calls.CHANGING:
    def call(*values, real=getattr(calls, name)):
        seen[0] += 1
        if seen[0] == turn:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*values)
    setattr(calls, name, call)
with writing.new_folder(Path("out")) as new:
    writing.write_bytes(new / "a", b"new")
print(seen[0])
"""


def killed(place, turn, way):
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(turn), way],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("how", ["exchange", "two renames"])
def test_killed_before_any_call_the_old_folder_or_the_new_stands_there(tmp_path, how):
    """A real SIGKILL before the last calls in turn, those that swap names among them, and a sweep as at the next start."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("old")
    total = int(killed(tmp_path, 0, how).stdout)
    for turn in range(total - 9, total + 1):
        (tmp_path / "out" / "a").write_text("old")
        assert killed(tmp_path, turn, how).returncode == -9
        if how == "exchange":
            assert names(tmp_path / "out") == ["a"]
        temporaries.sweep(tmp_path, again=True)
        assert (tmp_path / "out" / "a").read_text() in ("old", "new")
        assert names(tmp_path) == ["out"]


def test_a_scratch_folder_goes_when_its_block_ends(tmp_path):
    with temporaries.scratch(tmp_path / "store") as folder:
        (folder / "a").touch()
    assert names(tmp_path / "store") == []


def test_a_moved_file_is_on_the_disk_or_where_it_was(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    real = calls.sync
    syncs = iter((True, False))
    monkeypatch.setattr(calls, "sync", lambda handle: real(handle) if next(syncs) else os.fsync(10**6))
    with pytest.raises(PalError, match="Bad file descriptor"):
        writing.move_file(tmp_path / "a", tmp_path / "b")
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"new", b"old")
    monkeypatch.undo()
    writing.move_file(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == ["b"]
    assert (tmp_path / "b").read_bytes() == b"new"


class Disk:
    """What a power cut may leave: synced bytes and names for sure, of the others any.

    Files and folders are followed by inode, since names change places. A name that was not synced since it
    changed may be as it was before or as it is now; a file that was not synced since it was written may hold
    any part of what it holds.
    """

    def __init__(self, root):
        self.root = root
        self.bytes: dict[int, bytes] = {}  # what is on the disk for sure, by inode
        self.seen: list[set[bytes | None]] = []
        self.names: dict[str, int | None] = {}

    def look(self, final):
        """What may stand under the final name after a cut now."""
        durable = self.names.get(final)
        now = (self.root / final).stat().st_ino if (self.root / final).exists() else None
        states = set()
        for inode in {durable, now}:
            states.add(None if inode is None else self.bytes.get(inode, b"?"))
        self.seen.append(states)

    def synced(self, handle):
        about = os.fstat(handle)
        if Path(f"/proc/self/fd/{handle}").is_dir():
            for path in Path(f"/proc/self/fd/{handle}").resolve().iterdir():
                if path.is_file():
                    self.names[str(path.relative_to(self.root))] = path.stat().st_ino
        else:
            self.bytes[about.st_ino] = Path(f"/proc/self/fd/{handle}").read_bytes()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to know which file a handle is")
@pytest.mark.parametrize("before", [None, b"the old shard"])
def test_a_power_cut_at_any_moment_leaves_the_old_shard_or_the_whole_new_one(tmp_path, monkeypatch, before):
    """The calls of one commit are replayed: after each, unsynced writes dropped and names either way."""
    disk = Disk(tmp_path)
    if before is not None:
        (tmp_path / "a").write_bytes(before)
        disk.names["a"] = (tmp_path / "a").stat().st_ino
        disk.bytes[disk.names["a"]] = before
    for name, real in [(name, getattr(calls, name)) for name in calls.CHANGING]:

        def call(*values, name=name, real=real):
            done = real(*values)
            if name == "sync":
                disk.synced(values[0])
            disk.look("a")
            return done

        monkeypatch.setattr(calls, name, call)
    with writing.new_file(tmp_path / "a") as out:
        out.write(b"the new ")
        out.write(b"shard, whole")
    assert set().union(*disk.seen) == {before, b"the new shard, whole"}
    assert disk.seen[-1] == {b"the new shard, whole"}


def test_without_the_sync_of_the_file_the_replay_would_notice(tmp_path, monkeypatch):
    monkeypatch.setattr(placing, "sync", lambda path: None)
    monkeypatch.setattr(calls, "sync", lambda handle: None)
    with pytest.raises(AssertionError):
        test_a_power_cut_at_any_moment_leaves_the_old_shard_or_the_whole_new_one(tmp_path, monkeypatch, None)
