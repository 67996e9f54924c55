"""The service under load: against an app that echoes, against one text at a time, and in overload."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
import uvicorn

from benchmarks.studies import ROOT
from benchmarks.table import Row, Section
from pal import encoders
from pal.config import preset
from pal.models.base import make_model
from pal.service import requests as typed
from pal.service.answers import Answers
from pal.service.app import create_app
from pal.service.compute import Models
from pal.serving.reward_model import RewardModel
from pal.users.points import Points

CLIENTS, BATCH, DIM = 64, 16, 384
VECTORS, TEXTS, OVERLOAD = 10.0, 10.0, 60.0  # seconds
WORDS = ("refund order late parcel thank sorry quickly please account email change cancel").split()  # noqa: SIM905


def small_model() -> RewardModel:
    """Model B at random on MiniLM's embeddings, K = 3, of 100 users."""
    head, config = preset("ours", "B", head={"K": 3, "latent": 16})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = make_model(head, prompt_dim=DIM, response_dim=DIM)
        weights = torch.softmax(2 * torch.randn(100, 3), 1)
    about = encoders.describe("all-MiniLM-L6-v2", "package")
    described = {"encoder": about.name, "weights_sha256": about.weights_sha256, "dim": DIM}
    ids = [str(number) for number in range(len(weights))]
    encoder = {"prompts": described, "responses": described}
    return RewardModel(built, ids, weights, Points.from_states(weights), config, encoder, DIM, DIM)


def serve(folder: str, port: int) -> None:
    """The service, with an echo beside it: the same request is read, and as many numbers are answered."""
    torch.set_num_threads(1)
    models = Models({"small": Path(folder) / "small"}, {"all-MiniLM-L6-v2": "package"})
    models.get("small")
    app = create_app(models, Answers(f"{folder}/answers.db"))

    @app.post("/echo")
    async def echo(request: typed.Score) -> typed.Rewards:
        return typed.Rewards(rewards=[0.0] * len(request.responses), model="", model_version="")

    uvicorn.run(app, port=port, log_level="warning")


@contextmanager
def serving(folder: str, port: int) -> Iterator[subprocess.Popen]:
    """A process of its own that serves."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.service", folder, str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=env)
    try:
        for _ in range(300):
            try:
                if asyncio.run(_once(port, "/healthz", b"", "GET")) == 200:
                    break
            except OSError:
                time.sleep(0.2)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@dataclass
class Load:
    """What came of a load: seconds of each answer by status, and of the whole."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    whole: float = 0.0
    lost: int = 0

    @property
    def rate(self) -> float:
        """Requests served in a second."""
        return len(self.seconds.get(200, [])) / self.whole

    def quantile(self, share: float) -> float:
        """Seconds that this share of those served took at most."""
        served = sorted(self.seconds.get(200, [0.0]))
        return served[min(len(served) - 1, int(share * len(served)))]


async def _once(port: int, path: str, body: bytes, method: str = "POST") -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    status = await _call(reader, writer, path, body, method)
    writer.close()
    return status


async def _call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes, method: str = "POST"
) -> int:
    """One call of HTTP/1.1 on a connection that stays open: clients of libraries cost more."""
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(answer.split(b"content-length: ")[1].split(b"\r\n")[0]))
    return int(answer[9:12])


async def load(port: int, path: str, body: Callable[[int], bytes], clients: int, seconds: float) -> Load:
    """Clients that each send the next request when the last was answered."""
    result, number, stop = Load(), 0, time.perf_counter() + seconds

    async def client() -> None:
        nonlocal number
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < stop:
            number += 1
            data = body(number)
            started = time.perf_counter()
            try:
                status = await _call(reader, writer, path, data)
            except (OSError, asyncio.IncompleteReadError):
                result.lost += 1
                return
            result.seconds.setdefault(status, []).append(time.perf_counter() - started)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    result.whole = time.perf_counter() - started
    return result


async def flood(port: int, path: str, body: Callable[[int], bytes], rate: float, seconds: float) -> Load:
    """Requests at a steady rate, however many wait for their answer; connections are used again."""
    result, idle, started = Load(), [], time.perf_counter()

    async def send(number: int) -> None:
        began = time.perf_counter()
        try:
            connection = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
            try:
                status = await _call(*connection, path, body(number))
            except (OSError, asyncio.IncompleteReadError) as error:
                if getattr(error, "partial", b""):
                    raise
                # The service had closed what was not used for seconds: sent again, as any client does.
                connection = await asyncio.open_connection("127.0.0.1", port)
                status = await _call(*connection, path, body(number))
        except (OSError, asyncio.IncompleteReadError):
            result.lost += 1
            return
        result.seconds.setdefault(status, []).append(time.perf_counter() - began)
        idle.append(connection)

    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            group.create_task(send(number))
    result.whole = time.perf_counter() - started
    for _, writer in idle:
        writer.close()
    return result


def vectors() -> Callable[[int], bytes]:
    """Bodies of 16 responses of 384 numbers, of one user."""
    table = torch.nn.functional.normalize(
        torch.randn(64, BATCH, DIM, generator=torch.Generator().manual_seed(1)), dim=2
    )
    prompt = [round(number, 6) for number in table[0, 0].tolist()]
    bodies = [
        json.dumps({
            "prompt": prompt,
            "responses": [[round(number, 6) for number in row] for row in block.tolist()],
            "user_id": None,
        }).encode()
        for block in table
    ]  # fmt: skip
    return lambda number: bodies[number % len(bodies)]


def text(number: int) -> bytes:
    """A body of one short text that was not seen before, to a prompt that was."""
    words = " ".join(WORDS[(number // 12**place) % 12] for place in range(5))
    return json.dumps({"prompt": "What now?", "responses": [f"{words} {number}"]}).encode()


def one_by_one(model: RewardModel, n: int) -> float:
    """Texts in a second where each is encoded and scored alone, without HTTP."""
    bodies = [json.loads(text(number)) for number in range(10_000_000, 10_000_000 + n)]
    started = time.perf_counter()
    for body in bodies:
        model.score(body["prompt"], body["responses"])
    return n / (time.perf_counter() - started)


def memory(process: subprocess.Popen) -> float:
    """Megabytes that a process has in memory now."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def service() -> Section:
    """A service of one model on this computer, and its clients beside it on the same cores; three minutes."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        model = small_model()
        model.save(Path(folder) / "small")
        port = 18_431
        with serving(folder, port) as process:
            body, rows = vectors(), []

            def add(what: str, got: float, **options: Any) -> None:
                rows.append(Row(what, got, "", **options))

            asyncio.run(load(port, "/v1/score", body, CLIENTS, 2))
            shares, each = [], []
            for _ in range(3):  # in turns, as other work comes and goes
                echo = asyncio.run(load(port, "/echo", body, CLIENTS, VECTORS / 3))
                scored = asyncio.run(load(port, "/v1/score", body, CLIENTS, VECTORS / 3))
                shares.append(scored.rate / echo.rate)
                each.append(scored)
            tail = max(part.quantile(0.99) / part.quantile(0.5) for part in each)
            lost = sum(part.lost + len(part.seconds) - 1 for part in each)
            add(
                "vectors: requests served, of those that the same app echoes",
                median(shares),
                at_least=0.5,
                note=f"{each[-1].rate:.0f} requests/s",
            )
            add("vectors: p99 of p50", tail, at_most=5, note=f"p50 {1000 * each[-1].quantile(0.5):.0f} ms")
            add("vectors: requests lost or refused", lost, at_most=0)
            together = asyncio.run(load(port, "/v1/score", text, CLIENTS, TEXTS))
            alone = one_by_one(RewardModel.load(Path(folder) / "small"), 200)
            add(
                "short texts: requests served, of those encoded one by one",
                together.rate / alone,
                at_least=3,
                note=f"{together.rate:.0f} requests/s",
            )
            before, usual = memory(process), together.quantile(0.5)
            shift = lambda number: text(1_000_000 + number)  # noqa: E731
            over = asyncio.run(flood(port, "/v1/score", shift, 4 * together.rate, OVERLOAD))
            statuses = Counter({status: len(times) for status, times in over.seconds.items()})
            others = over.lost + sum(statuses.values()) - statuses[200] - statuses[429]
            add(
                "overload, 4 x as many requests for a minute: neither 200 nor 429",
                others,
                at_most=0,
                note=f"{statuses[200]} served, {statuses[429]} refused",
            )
            add(
                "overload: memory, of before",
                memory(process) / before,
                at_most=1.2,
                note=f"{before:.0f} MB before",
            )
            add(
                "overload: p50 of the served, of before",
                over.quantile(0.5) / usual,
                at_most=2,
                note=f"{1000 * usual:.0f} ms before",
            )
    about = {
        "model": "B, K=3, latent 16, all-MiniLM-L6-v2, at random",
        "clients": f"{CLIENTS}, one process, same cores",
        "cores": str(os.cpu_count()),
    }
    return Section("Service: HTTP under load", about, rows)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
