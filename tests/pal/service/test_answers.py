"""The log of answers: nothing acknowledged is lost or doubled, whoever writes and whatever is killed."""

import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa

from pal.errors import PalError
from pal.service import RefusedError
from pal.service.answers import Answers

WRITERS, PEOPLE, EACH = 4, 3, 25


def answer(number):
    return {"chosen": f"a {number}", "rejected": f"b {number}"}


def test_writers_at_once_lose_and_double_nothing(database):
    """Each has a connection of its own, writes to everyone, and tries every other answer twice."""
    logs = [Answers(database) for _ in range(WRITERS)]

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
    log = Answers(database)
    found = []
    for person in range(PEOPLE):
        entries = log.read("m", f"person {person}")[2]
        assert [entry.version for entry in entries] == list(range(1, len(entries) + 1))
        found += [entry.answer["chosen"] for entry in entries]
    assert sorted(found) == sorted(
        f"a {(writer, number)}" for writer in range(WRITERS) for number in range(EACH)
    )
    log.close()


def test_what_was_acknowledged_outlives_a_killed_writer(database):
    """A process says each answer's number once it is written, and is killed at its work."""
    program = (
        "import itertools, sys; from pal.service.answers import Answers; log = Answers(sys.argv[1])\n"
        "for n in itertools.count():\n"
        "    log.add('m', 'ann', [{'chosen': f'a {n}', 'rejected': 'b'}], str(n)); print(n, flush=True)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, database], stdout=subprocess.PIPE, text=True)
    for _ in range(20):
        said = int(writer.stdout.readline())
    writer.kill()
    rest = writer.communicate()[0].split()
    acknowledged = int(rest[-1]) if rest else said
    log = Answers(database)
    written = [entry.answer["chosen"] for entry in log.read("m", "ann")[2]]
    assert written[: acknowledged + 1] == [f"a {n}" for n in range(acknowledged + 1)]
    assert len(written) <= acknowledged + 2  # one may be written and not yet acknowledged
    log.close()


def test_deleting_someone_leaves_nothing_of_theirs(database):
    log = Answers(database)
    log.add("m", "ann", [answer(1)])
    log.add("m", "bob", [answer(2)])
    log.delete("m", "ann")
    assert log.read("m", "ann") is None
    assert len(log.read("m", "bob")[2]) == 1
    with pytest.raises(RefusedError, match="one of 'bob' that stands, got 7"):
        log.take_back("m", "bob", 7)
    log.close()


def test_a_postgresql_that_crashes_and_comes_back_has_every_answer(postgres):
    log = Answers(postgres.url("crashing"))
    log.add("m", "ann", [answer(1)])
    postgres.stop()
    with pytest.raises(RefusedError, match=r"cannot be used now .*; try again") as refused:
        log.add("m", "ann", [answer(2)], "key")
    assert refused.value.status == 503
    postgres.start()
    assert log.add("m", "ann", [answer(2)], "key") == (2, False)
    assert [entry.version for entry in log.read("m", "ann")[2]] == [1, 2]
    log.close()


def test_a_full_database_keeps_what_was_acknowledged(tmp_path):
    """Sixteen pages of 4,096 bytes stand for a disk that is full."""
    log = Answers(str(tmp_path / "a.db"))
    sa.event.listen(log.engine, "checkout", lambda to, *_: to.execute("PRAGMA max_page_count = 16"))
    acknowledged = 0
    with pytest.raises(RefusedError, match="is full"):
        while True:
            acknowledged = log.add("m", "ann", [answer("x" * 500)])[0]
    assert len(log.read("m", "ann")[2]) == acknowledged > 0
    log.close()


def test_a_file_that_is_gone_is_not_written_to(tmp_path):
    """SQLite itself would write on, to a file without a name."""
    log = Answers(str(tmp_path / "a.db"))
    log.add("m", "ann", [answer(1)])
    (tmp_path / "a.db").rename(tmp_path / "b.db")
    with pytest.raises(RefusedError, match="moved or deleted"):
        log.add("m", "ann", [answer(2)])
    log.close()


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "answers.db"
    log = Answers(str(path))
    log.add("m", "ann", [answer(0)], None)
    log.close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'answers_9'"))
    engine.dispose()
    before = path.read_bytes()
    with pytest.raises(PalError, match="must be of this pal or an older one; install a newer pal"):
        Answers(str(path))
    assert path.read_bytes() == before
