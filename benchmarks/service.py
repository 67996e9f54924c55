"""The service under load: against an app that echoes, against one text at a time, and in overload."""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
import uvicorn

from benchmarks.answers import free_port, serving
from benchmarks.studies import random_model
from benchmarks.table import Row, Section
from pal import encoders
from pal.service import requests as typed
from pal.service.answers import Answers
from pal.service.app import create_app
from pal.service.compute import Models
from pal.serving.reward_model import RewardModel

CLIENTS, BATCH, DIM = 64, 16, 384
VECTORS, TEXTS, OVERLOAD = 10.0, 10.0, 60.0  # seconds
WORDS = ("refund order late parcel thank sorry quickly please account email change cancel").split()  # noqa: SIM905


def small_model() -> RewardModel:
    """Model B at random on MiniLM's embeddings, K = 3, of 100 users."""
    about = encoders.describe("all-MiniLM-L6-v2", "package")
    described = {"encoder": about.name, "weights_sha256": about.weights_sha256, "dim": DIM}
    return random_model(DIM, 100, encoder={"prompts": described, "responses": described})


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


async def _call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes) -> int:
    """One call of HTTP/1.1 on a connection that stays open: clients of libraries cost more."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
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
    drawn = torch.randn(64, BATCH, DIM, generator=torch.Generator().manual_seed(1))
    table = [
        [[round(number, 6) for number in row] for row in block]
        for block in torch.nn.functional.normalize(drawn, dim=2).tolist()
    ]
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
    with TemporaryDirectory() as folder:
        small_model().save(Path(folder) / "small")
        port = free_port()
        with serving(port, "benchmarks.service", folder, str(port)) as process:

            def loaded(path: str, body: Callable[[int], bytes], seconds: float) -> Load:
                return asyncio.run(load(port, path, body, CLIENTS, seconds))

            body = vectors()
            loaded("/v1/score", body, 2)
            turns = [  # in turns, as other work comes and goes
                (loaded("/echo", body, VECTORS / 3), loaded("/v1/score", body, VECTORS / 3)) for _ in range(3)
            ]
            each = [scored for _, scored in turns]
            together = loaded("/v1/score", text, TEXTS)
            alone = one_by_one(RewardModel.load(Path(folder) / "small"), 200)
            before, usual = memory(process.pid), together.quantile(0.5)
            new = partial(text, first=1_000_000)
            over = asyncio.run(flood(port, "/v1/score", new, 4 * together.rate, OVERLOAD))
            after = memory(process.pid)
    statuses = Counter({status: len(times) for status, times in over.seconds.items()})
    refused = f"{statuses[200]} served, {statuses[429]} refused"
    others = over.lost + statuses.total() - statuses[200] - statuses[429]
    share = median(scored.rate / echo.rate for echo, scored in turns)
    tail = max(part.quantile(0.99) / part.quantile(0.5) for part in each)
    lost = sum(part.lost + len(part.seconds) - 1 for part in each)
    half, rate, short = 1000 * each[-1].quantile(0.5), each[-1].rate, together.rate

    def row(what: str, got: float, note: str = "", **limit: float) -> Row:
        return Row(what, got, "", note=note, **limit)

    rows = [
        row("vectors: requests served, of those that the same app echoes", share, f"{rate:.0f} requests/s",
            at_least=0.5),
        row("vectors: p99 of p50", tail, f"p50 {half:.0f} ms", at_most=5),
        row("vectors: requests lost or refused", lost, at_most=0),
        row("short texts: requests served, of those encoded one by one", short / alone,
            f"{short:.0f} requests/s", at_least=3),
        row("overload, 4 x as many requests for a minute: neither 200 nor 429", others, refused, at_most=0),
        row("overload: memory, of before", after / before, f"{before:.0f} MB before", at_most=1.2),
        row("overload: p50 of the served, of before", over.quantile(0.5) / usual,
            f"{1000 * usual:.0f} ms before", at_most=2),
    ]  # fmt: skip
    about = {
        "model": "B, K=3, latent 16, all-MiniLM-L6-v2, at random",
        "clients": f"{CLIENTS}, one process, same cores",
        "cores": str(os.cpu_count()),
    }
    return Section("Service: HTTP under load", about, rows)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
