"""The service: under load, in overload, and killed while it and others write the log of answers."""

import asyncio
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

import torch
import uvicorn
from starlette.testclient import TestClient

from benchmarks.studies import python, random_model
from benchmarks.table import Row, Section
from pal import encoders
from pal.service import requests as typed
from pal.service.answers import Answers
from pal.service.app import create_app
from pal.service.compute import Models
from pal.serving.inputs import Preferences
from pal.serving.reward_model import RewardModel
from pal.users.taste import Taste

CLIENTS, BATCH, WIDTH = 64, 16, 384
VECTORS, TEXTS, OVERLOAD = 10.0, 10.0, 60.0  # seconds
WORDS = ("refund order late parcel thank sorry quickly please account email change cancel").split()  # noqa: SIM905
ENCODER = "all-MiniLM-L6-v2"
WRITERS, EACH, PEOPLE, DIM = 8, 1000, 50, 4
KILLS, SENDERS = 20, 8
NAME = "small"
DIRECT = build_opener(ProxyHandler({}))  # past any proxy
ABSENT = "no PostgreSQL on this machine; install Debian's package postgresql, and pal's extra dev"


def serve(folder: str, database: str, port: str) -> None:
    """The service, with an echo beside it: the same request is read, and as many numbers are answered."""
    torch.set_num_threads(1)
    models = Models({NAME: Path(folder) / NAME}, {ENCODER: "package"})
    models.get(NAME)
    app = create_app(models, Answers(database))

    @app.post("/echo")
    async def echo(request: typed.Score) -> typed.Rewards:
        return typed.Rewards(rewards=[0.0] * len(request.responses), model="", model_version="")

    uvicorn.run(app, port=int(port), log_level="critical")


@contextmanager
def serving(folder: Path, database: str, port: int) -> Iterator[subprocess.Popen]:
    """`serve` in a process of its own, which answers already; killed at the end."""
    with python("-m", "benchmarks.service", "serve", str(folder), database, str(port)) as process:
        try:
            while not is_served(port, "/healthz") and process.poll() is None:
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def is_served(port: int, path: str, body: bytes | None = None, key: str = "") -> bool:
    """Whether a call is answered with 200: a POST where it has a body."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    try:
        with DIRECT.open(Request(f"http://127.0.0.1:{port}{path}", body, headers), timeout=30) as response:
            return response.status == 200
    except (OSError, HTTPException):
        return False


class Load:
    """Requests to one path of the service, by connections that stay open, and what came of them."""

    def __init__(self, port: int, path: str, body: Callable[[int], bytes]) -> None:
        self.port, self.path, self.body = port, path, body
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.seconds: dict[int, list[float]] = {}  # of each answer, by status
        self.number = self.lost = 0
        self.whole = 0.0

    @property
    def rate(self) -> float:
        """Requests served in a second."""
        return len(self.seconds.get(200, [])) / self.whole

    def quantile(self, share: float) -> float:
        """Seconds that this share of those served took at most."""
        served = sorted(self.seconds.get(200, [0.0]))
        return served[min(len(served) - 1, int(share * len(served)))]

    async def send(self, tries: int = 1) -> None:
        """Send the next request; a second try is for a connection that the service closed as not used."""
        self.number += 1
        data, began = self.body(self.number), time.perf_counter()
        for connection in [self.idle.pop() if self.idle else None, None][:tries]:
            try:
                connection = connection or await asyncio.open_connection("127.0.0.1", self.port)
                status = await self._call(*connection, data)
            except (OSError, asyncio.IncompleteReadError) as error:
                if getattr(error, "partial", b""):  # of an answer
                    break
            else:
                self.seconds.setdefault(status, []).append(time.perf_counter() - began)
                self.idle.append(connection)
                return
        self.lost += 1

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> int:
        """One call of HTTP/1.1: clients of libraries cost more."""
        head = f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(answer.split(b"content-length: ")[1].split(b"\r\n")[0]))
        return int(answer[9:12])


async def load(port: int, path: str, body: Callable[[int], bytes], seconds: float, rate: float = 0.0) -> Load:
    """Clients that each send the next request when the last was answered; or requests at a steady rate."""
    result, started = Load(port, path, body), time.perf_counter()

    async def client() -> None:
        while time.perf_counter() < started + seconds:
            await result.send()

    async with asyncio.TaskGroup() as group:
        for _ in range(0 if rate else CLIENTS):
            group.create_task(client())
        for number in range(int(rate * seconds)):  # however many wait for their answer
            await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            group.create_task(result.send(tries=2))
    result.whole = time.perf_counter() - started
    for _, writer in result.idle:
        writer.close()
    return result


def vectors() -> Callable[[int], bytes]:
    """Bodies of 16 responses of 384 numbers, of one user."""
    drawn = torch.randn(64, BATCH, WIDTH, generator=torch.Generator().manual_seed(1))
    table = torch.nn.functional.normalize(drawn, dim=2).double().round(decimals=6).tolist()
    given = ({"prompt": table[0][0], "responses": block, "user_id": None} for block in table)
    bodies = [json.dumps(body).encode() for body in given]
    return lambda number: bodies[number % len(bodies)]


def text(number: int, first: int = 0) -> bytes:
    """A body of one short text that was not seen before, to a prompt that was."""
    number += first
    words = " ".join(WORDS[(number // 12**place) % 12] for place in range(5))
    return json.dumps({"prompt": "What now?", "responses": [f"{words} {number}"]}).encode()


def one_by_one(model: RewardModel, n: int) -> float:
    """Texts in a second where each is encoded and scored alone, without HTTP."""
    bodies = [json.loads(text(number, 10_000_000)) for number in range(n)]
    started = time.perf_counter()
    for body in bodies:
        model.score(body["prompt"], body["responses"])
    return n / (time.perf_counter() - started)


def memory(pid: int) -> float:
    """Megabytes that a process has in memory now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def service() -> Section:
    """A service of one model on this computer, and its clients beside it on the same cores; three minutes."""
    torch.set_num_threads(1)
    about = encoders.describe(ENCODER, "package")
    encoder = {"encoder": about.name, "weights_sha256": about.weights_sha256, "dim": WIDTH}
    model = random_model(WIDTH, 100, encoder={"prompts": encoder, "responses": encoder})
    with tempfile.TemporaryDirectory() as name:
        folder, port, body = Path(name), free_port(), vectors()
        model.save(folder / NAME)
        with serving(folder, f"{folder}/answers.db", port) as process:

            def loaded(*given: Any, **rate: float) -> Load:
                return asyncio.run(load(port, *given, **rate))

            loaded("/v1/score", body, 2)
            part = VECTORS / 3  # in turns, as other work comes and goes
            turns = [(loaded("/echo", body, part), loaded("/v1/score", body, part)) for _ in range(3)]
            together = loaded("/v1/score", text, TEXTS)
            alone = one_by_one(RewardModel.load(folder / NAME), 200)
            before, usual = memory(process.pid), together.quantile(0.5)
            new = partial(text, first=1_000_000)
            over = loaded("/v1/score", new, OVERLOAD, rate=4 * together.rate)
            after = memory(process.pid)
    each = [scored for _, scored in turns]
    statuses = Counter({status: len(times) for status, times in over.seconds.items()})
    refused = f"{statuses[200]} served, {statuses[429]} refused"
    others = over.lost + statuses.total() - statuses[200] - statuses[429]
    share = median(scored.rate / echo.rate for echo, scored in turns)
    tail = max(part.quantile(0.99) / part.quantile(0.5) for part in each)
    lost = sum(part.lost + len(part.seconds) - 1 for part in each)
    half, rate, short = 1000 * each[-1].quantile(0.5), each[-1].rate, together.rate
    rows = [
        Row("vectors: requests served, of those that the same app echoes", share, "", at_least=0.5,
            note=f"{rate:.0f} requests/s"),
        Row("vectors: p99 of p50", tail, "", at_most=5, note=f"p50 {half:.0f} ms"),
        Row("vectors: requests lost or refused", lost, "", at_most=0),
        Row("short texts: requests served, of those encoded one by one", short / alone, "", at_least=3,
            note=f"{short:.0f} requests/s"),
        Row("overload, 4 x as many requests for a minute: neither 200 nor 429", others, "", at_most=0,
            note=refused),
        Row("overload: memory, of before", after / before, "", at_most=1.2, note=f"{before:.0f} MB before"),
        Row("overload: p50 of the served, of before", over.quantile(0.5) / usual, "", at_most=2,
            note=f"{1000 * usual:.0f} ms before"),
    ]  # fmt: skip
    about = {
        "model": f"B, K=3, latent 16, {ENCODER}, at random",
        "clients": f"{CLIENTS}, one process, same cores",
    }
    return Section("Service: HTTP under load", about, rows)


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


def write(database: str, writer: str, start: str, stop: str) -> None:
    """Write a writer's answers, and say each number once it is on disk."""
    log = Answers(database)
    for number in range(int(start), int(stop)):
        name = f"{writer} {number}"
        log.add(NAME, person_of(name), [answer(name)], name)
        print(number, flush=True)


def wrong(log: Answers, names: set[str]) -> tuple[int, int]:
    """How many of the answers that must be there once are lost or doubled, and how many are there."""
    people = log.people(NAME)
    there = Counter((who, *entry.answer["chosen"]) for who in people for entry in log.entries(NAME, who))
    lost = sum((person_of(name), *answer(name)["chosen"]) not in there for name in names)
    return lost + there.total() - len(there), there.total()


def in_threads(call: Callable[[int], None], count: int) -> list[threading.Thread]:
    """Threads, started, that each call with their number."""
    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def many_writers(database: str, folder: Path) -> tuple[int, int, int, float]:
    """Writers at once, to everyone; the first is killed half-way, and another does its work again.

    Meanwhile a service reads tastes; those that it gives at the end must be the library's, of the log. Gives
    how many answers are lost or doubled, are there, and how many tastes differ; and seconds.
    """
    model = random_model(DIM, 20, "A", latent=2)
    model.save(folder / NAME)
    log = Answers(database)
    app = create_app(Models({NAME: folder / NAME}), Answers(database))
    began, said = time.perf_counter(), [0] * WRITERS

    def writer(number: int, start: int) -> subprocess.Popen:
        command = ("-m", "benchmarks.service", "write", database, str(number), str(start), str(EACH))
        return python(*command, stdout=subprocess.PIPE)

    def run(number: int) -> None:
        with writer(number, 0) as process:
            for line in process.stdout or ():
                said[number] = int(line) + 1
                if number == 0 and said[0] == EACH // 2:
                    process.kill()
        if number == 0:  # whoever comes after it knows what was acknowledged, and sends the rest again
            with writer(number, max(0, said[0] - 20)) as process:
                process.communicate()

    with TestClient(app, base_url="http://127.0.0.1") as client:
        threads = in_threads(run, WRITERS)
        while any(thread.is_alive() for thread in threads):
            client.get(f"/v1/people/person {random.randrange(PEOPLE)}")
        seconds, differ = time.perf_counter() - began, 0
        for user_id in log.people(NAME):
            given = [entry.answer for entry in log.entries(NAME, user_id)]
            sides = (torch.tensor([each[side] for each in given]) for side in ("chosen", "rejected"))
            expected = model.adapt(Preferences(None, *sides))
            taste = client.get(f"/v1/people/{user_id}").json()["taste"]
            differ += Taste.from_json(json.dumps(taste), model) != expected
        names = {f"{number} {at}" for number in range(WRITERS) for at in range(EACH)}
        return *wrong(log, names), differ, seconds


def killed_service(database: str, folder: Path) -> tuple[int, int]:
    """Clients write, and send again what was not acknowledged; the service is killed meanwhile.

    Gives how many acknowledged answers are lost or doubled, and how many answers are there.
    """
    random_model(DIM, 20, "A", latent=2).save(folder / NAME)
    over, names, port, draw = threading.Event(), set(), free_port(), random.Random(0)

    def client(number: int) -> None:
        at = 0
        while not over.is_set():
            name = f"{number} {at}"
            path = f"/v1/people/{quote(person_of(name))}/answers"
            if is_served(port, path, json.dumps({"answers": [answer(name)]}).encode(), name):
                names.add(name)
                at += 1
            else:
                over.wait(0.02)

    threads = in_threads(client, SENDERS)
    for _ in range(KILLS):
        with serving(folder, database, port):
            time.sleep(draw.uniform(0.2, 1.0))
    over.set()
    for thread in threads:
        thread.join()
    return wrong(Answers(database), names)


def answers() -> Section:
    """The figures of either database; most of the ten minutes go by while the service starts again."""
    rows = []
    kinds = {"SQLite": nullcontext(), "PostgreSQL": Postgres()}
    if find_binaries() is None:
        print(f"  PostgreSQL is left out: {ABSENT}")
        del kinds["PostgreSQL"]
    for kind, started in kinds.items():
        with tempfile.TemporaryDirectory() as folder, started as server:
            home = Path(folder)
            databases = [server.url(name) if server else str(home / name) for name in ("written", "killed")]
            lost, written, differ, seconds = many_writers(databases[0], home)
            killed, acknowledged = killed_service(databases[1], home)
        rows += [
            Row(f"{kind}: {WRITERS} x {EACH:,} answers to {PEOPLE} tastes, a writer killed: lost, doubled",
                lost, "", at_most=0, note=f"{written:,} written, {written / seconds:.0f} a second"),
            Row(f"{kind}: tastes other than adapting from the log", differ, "", at_most=0),
            Row(f"{kind}: acknowledged answers lost or doubled, service killed {KILLS} times", killed, "",
                at_most=0, note=f"{acknowledged:,} written"),
        ]  # fmt: skip
    about = {
        "writers": f"{WRITERS} processes; the killed one's answers are sent again with their keys",
        "clients": f"{SENDERS} of the service that is killed; each sends again what was not acknowledged",
    }
    return Section("Answers: writers at once, and killed", about, rows)


if __name__ == "__main__":
    {"write": write, "serve": serve}[sys.argv[1]](*sys.argv[2:])
