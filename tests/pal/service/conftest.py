import base64
import io
import threading
import time
from contextlib import contextmanager

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")

import uvicorn
from starlette.testclient import TestClient

from benchmarks.service import ABSENT, Postgres, find_binaries
from pal.service.answers import Answers
from pal.service.app import create_app
from pal.service.compute import Models


@pytest.fixture(scope="session")
def postgres():
    """A server for this run of tests, on a free port of this computer."""
    if find_binaries() is None:
        pytest.skip(ABSENT)
    with Postgres() as server:
        yield server


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def database(request, tmp_path):
    """An empty database of either kind."""
    if request.param == "SQLite":
        return str(tmp_path / "a.db")
    return request.getfixturevalue("postgres").url(tmp_path.name)


@pytest.fixture
def start(tmp_path):
    """Serve models by name, with a database of their own; a client of the service, which ends with the test."""
    clients = []

    def start_service(database="answers.db", worker=None, **models_or_key):
        key = models_or_key.pop("key", None)
        for name, model in models_or_key.items():
            model.save(tmp_path / name)
        models, log = (
            Models({name: tmp_path / name for name in models_or_key}),
            Answers(str(tmp_path / database)),
        )
        app = create_app(models, log, key=key, worker=worker)
        client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)
        return client

    yield start_service
    for client in clients:
        client.__exit__(None, None, None)


def picture(size=(8, 8), colour="red") -> str:
    """Base64 of a PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@contextmanager
def served(app):
    """The app on a free port, as a browser or a socket meets it; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
