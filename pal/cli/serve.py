"""The service and its page: `pal serve` and `pal demo`."""

import ipaddress
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from pal.errors import PalError

KEY = "PAL_API_KEY"


def serve(
    models: Sequence[str], *, host: str, port: int, database: str, weights: Sequence[str] | None, device: str
) -> None:
    """Serve models until the process is asked to end.

    Args:
        models: Folders, or NAME=FOLDER.
        host: Where to listen; without a key a loopback address alone.
        port: 0 takes a free one.
        database: Of answers: a SQLite file, or a URL of SQLAlchemy.
        weights: Where encoders' weights come from, each NAME=PLACE.
        device: Where encoders compute.
    """
    key = os.environ.get(KEY)
    if not key and not _is_loopback(host):
        raise PalError(
            f"--host must be a loopback address where {KEY} is not set, got {host}; set it to a secret"
        )
    import torch
    import uvicorn

    from pal.service.answers import Answers
    from pal.service.app import create_app
    from pal.service.compute import Models

    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))  # one core is left to HTTP
    places = dict(each.split("=", 1) for each in weights or () if "=" in each)
    folders = _named(models)
    served = Models(folders, places, device)
    if len(folders) == 1:
        served.get(next(iter(folders)))
    app = create_app(served, Answers(database), key=key)
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise PalError(
            f"--port must be free on {host}, got {port} ({error.strerror}); name another"
        ) from None
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    print(f"{', '.join(folders)} at {address} (calls to try: {address}/docs), answers in {database}")
    if not key:
        print(f"{KEY} is not set: only this computer can call, and needs no key")
    uvicorn.run(app, fd=listening.fileno(), log_level="warning", timeout_graceful_shutdown=30)


def _named(models: Sequence[str]) -> dict[str, Path]:
    """Folders by the names of their models; that of a folder by default."""
    named: dict[str, Path] = {}
    for given in models:
        name, _, folder = given.rpartition("=") if not Path(given).exists() else ("", "", given)
        path = Path(folder).expanduser()
        name = name or (path.resolve().parent.name if path.resolve().name == "model" else path.resolve().name)
        if name in named:
            raise PalError(f"two models must not have one name, got {name!r} twice; give NAME=FOLDER")
        named[name] = path
    return named


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
