"""Claims: what one process has another does not get, until it gives it back or dies; without locks all is free."""

import subprocess
import sys

import pytest

from pipeline.encoding.claims import Claims

HOLD = (
    "import sys, pathlib; from pipeline.encoding.claims import Claims; c = Claims(pathlib.Path(sys.argv[1]));"
    "print(c.take(1), c.take(2), flush=True); sys.stdin.readline(); c.give_back(2); print('back', flush=True);"
    "sys.stdin.readline()"
)


@pytest.fixture
def other(tmp_path):
    """A process that has claimed 1 and 2."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "claims")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "True True\n"
    yield process
    process.kill()
    process.communicate()


def test_what_another_has_is_not_to_be_had_until_it_gives_it_back_or_dies(tmp_path, other):
    ours = Claims(tmp_path / "claims")
    assert [ours.take(name) for name in (1, 2, 3)] == [False, False, True]
    other.stdin.write("\n")
    other.stdin.flush()
    assert other.stdout.readline() == "back\n"
    assert [ours.take(name) for name in (1, 2)] == [False, True]
    other.kill()
    other.wait()
    assert ours.take(1)
    ours.close()
    assert (tmp_path / "claims").read_bytes() == b""


def test_where_there_are_no_locks_everything_is_free(tmp_path, monkeypatch):
    (tmp_path / "claims").mkdir()
    assert Claims(tmp_path / "claims").take(1)
    ours = Claims(tmp_path / "more")

    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    assert ours.take(1)
    ours.give_back(1)
    ours.close()
    assert ours.take(1)
    ours.give_back(1)
