"""The log of answers: written by many at once, one of whom is killed, and by a service that is killed."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
import uvicorn
from starlette.testclient import TestClient

from benchmarks.studies import python, random_model
from benchmarks.table import Row, Section
from pal.service.answers import Answers
from pal.service.app import create_app
from pal.service.compute import Models
from pal.serving.inputs import Preferences
from pal.users.taste import Taste

WRITERS, EACH, PEOPLE = 8, 1000, 50
KILLS, CLIENTS = 20, 8
NAME, DIM = "small", 4
ABSENT = "no PostgreSQL on this machine; install Debian's package postgresql, and pal's extra dev"


def find_binaries() -> Path | None:
    """The folder of initdb and pg_ctl; None where PostgreSQL or its driver is not installed."""
    on_path = shutil.which("initdb")
    known = [Path(on_path)] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return known[-1].parent if known and find_spec("psycopg") else None


def free_port() -> int:
    """A port of this computer that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Postgres:
    """A server that runs from `with` to its end, and can be stopped and started meanwhile.

    What it wrote outlives its own crash, and not the computer's: it does not wait for the disk.

    Raises:
        RuntimeError: If PostgreSQL is not installed, or a step of it fails, with what it said.
    """

    def __enter__(self) -> "Postgres":
        binaries = find_binaries()
        if binaries is None:
            raise RuntimeError(ABSENT)
        self._binaries, self._folder = binaries, Path(tempfile.mkdtemp(prefix="pal-postgres-"))
        self._user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root; Debian has a user
        if self._user:
            shutil.chown(self._folder, self._user)
        self._port = free_port()
        self._run("initdb", "--auth=trust", "--username=pal", "--encoding=UTF8", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if (self._folder / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy's address of a database, which is created where it is not there."""
        import psycopg

        address = f"pal@127.0.0.1:{self._port}"
        with psycopg.connect(f"postgresql://{address}/postgres", autocommit=True) as connection:
            known = "SELECT FROM pg_database WHERE datname = %s"
            if not connection.execute(known, [database]).fetchone():
                connection.execute(f'CREATE DATABASE "{database}"')  # type: ignore[arg-type]
        return f"postgresql+psycopg://{address}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
        options = " ".join([f"-p {self._port}", *(f"-c {setting}" for setting in settings)])
        self._run("pg_ctl", "start", "--wait", "--options", options)

    def stop(self) -> None:
        """Stop it as a crash would: it ends at once, and recovers when it is started again."""
        self._run("pg_ctl", "stop", "--wait", "--mode", "immediate")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), "--pgdata", str(self._folder / "data"), *arguments]
        with (self._folder / "log").open("w+") as log:  # a file: the server that pg_ctl starts keeps it open
            env = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            code = subprocess.call(command, cwd="/", env=env, user=self._user, **streams)
            if code:
                log.seek(0)
                raise RuntimeError(f"{program} failed: {log.read()}")


def answer(name: str) -> dict[str, Any]:
    """The answer of a name; no two names share one."""
    draw = random.Random(name)
    return {side: [draw.random() for _ in range(DIM)] for side in ("chosen", "rejected")}


def person_of(name: str) -> str:
    """Whose answer it is: the same for all writers, so that they meet."""
    return f"person {int(name.split()[1]) % PEOPLE}"


def write(database: str, writer: str, start: int, stop: int) -> None:
    """Write a writer's answers, and say each number once it is on disk."""
    log = Answers(database)
    for number in range(start, stop):
        name = f"{writer} {number}"
        log.add(NAME, person_of(name), [answer(name)], name)
        print(number, flush=True)


def writer(database: str, name: int, start: int, stop: int) -> subprocess.Popen:
    """`write` in a process of its own."""
    arguments = ("write", database, str(name), str(start), str(stop))
    return python("-m", "benchmarks.answers", *arguments, stdout=subprocess.PIPE)


@dataclass
class Outcome:
    """What came of it: answers lost and doubled, tastes that are not those of the log, and seconds."""

    lost: int = 0
    doubled: int = 0
    tastes: int = 0
    seconds: float = 0.0
    written: int = 0

    def count(self, log: Answers, names: set[str]) -> None:
        """Compare the log with the answers that must be there, each once."""
        people = log.people(NAME)
        found = Counter((who, *entry.answer["chosen"]) for who in people for entry in log.entries(NAME, who))
        self.written = found.total()
        self.lost += sum((person_of(name), *answer(name)["chosen"]) not in found for name in names)
        self.doubled += sum(count - 1 for count in found.values())


def many_writers(database: str, folder: Path, writers: int = WRITERS, each: int = EACH) -> Outcome:
    """Writers at once, to everyone; the first is killed half-way, and another does its work again.

    Meanwhile a service reads tastes; those that it gives at the end must be the library's, of the log.
    """
    outcome, model = Outcome(), random_model(DIM, 20, "A", latent=2)
    model.save(folder / NAME)
    log = Answers(database)
    app = create_app(Models({NAME: folder / NAME}), Answers(database))
    began, said = time.perf_counter(), [0] * writers

    def run(number: int) -> None:
        with writer(database, number, 0, each) as process:
            for line in process.stdout or ():
                said[number] = int(line) + 1
                if number == 0 and said[0] == each // 2:
                    process.kill()
        if number == 0:  # whoever comes after it knows what was acknowledged, and sends the rest again
            with writer(database, number, max(0, said[0] - 20), each) as process:
                process.wait()

    with TestClient(app, base_url="http://127.0.0.1") as client:
        threads = [threading.Thread(target=run, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            client.get(f"/v1/people/person {random.randrange(PEOPLE)}")
        outcome.seconds = time.perf_counter() - began
        outcome.count(log, {f"{number} {at}" for number in range(writers) for at in range(each)})
        for user_id in log.people(NAME):
            given = [entry.answer for entry in log.entries(NAME, user_id)]
            sides = (torch.tensor([each[side] for each in given]) for side in ("chosen", "rejected"))
            expected = model.adapt(Preferences(None, *sides))
            given = client.get(f"/v1/people/{user_id}").json()["taste"]
            outcome.tastes += Taste.from_json(json.dumps(given), model) != expected
    log.close()
    return outcome


@contextmanager
def serving(port: int, *command: str) -> Iterator[subprocess.Popen]:
    """A module that serves, in a process of its own, which answers already; killed at the end."""
    with python("-m", *command) as process:
        try:
            while call(port, "GET", "/healthz") != 200 and process.poll() is None:
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def call(port: int, method: str, path: str, body: Any = None, key: str = "") -> int | None:
    """Status of a call; None where nobody answered."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def killed_service(database: str, folder: Path, kills: int = KILLS) -> Outcome:
    """Clients write, and send again what was not acknowledged; the service is killed meanwhile."""
    random_model(DIM, 20, "A", latent=2).save(folder / NAME)
    outcome, over, names, port = Outcome(), threading.Event(), set(), free_port()

    def client(number: int) -> None:
        at = 0
        while not over.is_set():
            name = f"{number} {at}"
            path = f"/v1/people/{quote(person_of(name))}/answers"
            if call(port, "POST", path, {"answers": [answer(name)]}, name) == 200:
                names.add(name)
                at += 1
            else:
                over.wait(0.02)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    draw, began = random.Random(0), time.perf_counter()
    for _ in range(kills):
        with serving(port, "benchmarks.answers", "serve", str(folder), database, str(port)):
            time.sleep(draw.uniform(0.2, 1.0))
    over.set()
    for thread in threads:
        thread.join()
    outcome.seconds = time.perf_counter() - began
    log = Answers(database)
    outcome.count(log, names)
    log.close()
    return outcome


def serve(folder: str, database: str, port: str) -> None:
    """The service, until it is killed."""
    models = Models({NAME: Path(folder) / NAME})
    models.get(NAME)
    uvicorn.run(create_app(models, Answers(database)), port=int(port), log_level="critical")


def answers() -> Section:
    """The figures of either database; most of the ten minutes go by while the service starts again."""
    rows = []
    for kind in ("SQLite", "PostgreSQL"):
        if kind == "PostgreSQL" and find_binaries() is None:
            print(f"  PostgreSQL is left out: {ABSENT}")
            continue
        started = Postgres() if kind == "PostgreSQL" else nullcontext()
        with tempfile.TemporaryDirectory() as folder, started as server:
            home = Path(folder)
            databases = [server.url(name) if server else str(home / name) for name in ("written", "killed")]
            many = many_writers(databases[0], home)
            killed = killed_service(databases[1], home)
        rows += [
            Row(f"{kind}: {WRITERS} x {EACH:,} answers to {PEOPLE} tastes, a writer killed: lost, doubled",
                many.lost + many.doubled, "", at_most=0,
                note=f"{many.written:,} written, {many.written / many.seconds:.0f} a second"),
            Row(f"{kind}: tastes other than adapting from the log", many.tastes, "", at_most=0),
            Row(f"{kind}: acknowledged answers lost or doubled, service killed {KILLS} times",
                killed.lost + killed.doubled, "", at_most=0, note=f"{killed.written:,} written"),
        ]  # fmt: skip
    about = {
        "writers": f"{WRITERS} processes; the killed one's answers are sent again with their keys",
        "clients": f"{CLIENTS} of the service that is killed; each sends again what was not acknowledged",
    }
    return Section("Answers: writers at once, and killed", about, rows)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        serve(*sys.argv[2:])
