"""The log of answers: nothing acknowledged is lost or doubled, whoever writes and whatever is killed."""

import subprocess
import sys
import threading

import pytest

from pal.service.answers import Answers
from pal.service.errors import RefusedError

WRITERS, PEOPLE, EACH = 4, 3, 25


def answer(number):
    return {"chosen": f"a {number}", "rejected": f"b {number}"}


def test_writers_at_once_lose_and_double_nothing(tmp_path):
    """Each has a connection of its own, writes to everyone, and tries every other answer twice."""
    logs = [Answers(str(tmp_path / "a.db")) for _ in range(WRITERS)]

    def write(writer):
        log = logs[writer]
        for number in range(EACH):
            for _ in range(1 + number % 2):
                log.add("m", f"person {number % PEOPLE}", [answer((writer, number))], f"{writer} {number}")
        log.close()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = Answers(str(tmp_path / "a.db"))
    found = []
    for person in range(PEOPLE):
        entries = log.read("m", f"person {person}")[2]
        assert [entry.version for entry in entries] == list(range(1, len(entries) + 1))
        found += [entry.answer["chosen"] for entry in entries]
    assert sorted(found) == sorted(
        f"a {(writer, number)}" for writer in range(WRITERS) for number in range(EACH)
    )
    log.close()


def test_what_was_acknowledged_outlives_a_killed_writer(tmp_path):
    """A process says each answer's number once it is written, and is killed at its work."""
    program = (
        "import itertools, sys; from pal.service.answers import Answers; log = Answers(sys.argv[1])\n"
        "for n in itertools.count():\n"
        "    log.add('m', 'ann', [{'chosen': f'a {n}', 'rejected': 'b'}], str(n)); print(n, flush=True)\n"
    )
    path = str(tmp_path / "a.db")
    writer = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True)
    for _ in range(20):
        said = int(writer.stdout.readline())
    writer.kill()
    rest = writer.communicate()[0].split()
    acknowledged = int(rest[-1]) if rest else said
    log = Answers(path)
    written = [entry.answer["chosen"] for entry in log.read("m", "ann")[2]]
    assert written[: acknowledged + 1] == [f"a {n}" for n in range(acknowledged + 1)]
    assert len(written) <= acknowledged + 2  # one may be written and not yet acknowledged
    log.close()


def test_deleting_someone_leaves_nothing_of_theirs(tmp_path):
    log = Answers(str(tmp_path / "a.db"))
    log.add("m", "ann", [answer(1)])
    log.add("m", "bob", [answer(2)])
    log.delete("m", "ann")
    assert log.read("m", "ann") is None
    assert len(log.read("m", "bob")[2]) == 1
    with pytest.raises(RefusedError, match="one of 'bob' that stands, got 7"):
        log.take_back("m", "bob", 7)
    log.close()
