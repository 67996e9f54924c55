"""The service and its pages: `pal serve`, `pal demo` and `pal answers`."""

import ipaddress
import json
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from pal.cli.loading import places_of
from pal.errors import PalError
from pal.files import write_text

KEY = "PAL_API_KEY"


def serve(models: Sequence[str], **options: Any) -> None:
    """Serve models until the process is asked to end.

    Args:
        models: Folders, or NAME=FOLDER.
        options: Those of `_run`.
    """
    _check_address(options["host"])
    from pal.service.pages import add_pages

    served = _load(models, options)
    if len(models) == 1:
        served.get(served.name(None))
    _run(served, add_pages, **options)


def demo(
    model: str,
    *,
    log: str | None,
    questions: Path | None,
    collect: Path | None,
    consent: Path | None,
    random_share: float,
    repeat_every: int,
    number: int | None,
    **options: Any,
) -> None:
    """Serve a model with pages on which it is tried, or with a study that collects answers.

    Args:
        model: Its folder, or NAME=FOLDER.
        log: Answers to show, and to take questions from; by default those that it was fitted to.
        questions: A table of pairs: prompt, response_a, response_b.
        collect: Where a study keeps its answers; None shows the demo.
        consent: A text that participants agree to.
        random_share: Of a study's questions drawn at random.
        repeat_every: Answers after which a study repeats a question; 0: never.
        number: Answers after which a participant is done.
        options: Those of `serve`.
    """
    _check_address(options["host"])
    from pal.service.demo import Demo, read_questions, read_table
    from pal.service.pages import add_pages
    from pal.service.study import Study

    served = _load([model], options)
    name = served.name(None)
    loaded = served.get(name)
    people: dict[str, Any] = {}
    pairs: Sequence[Any] = []
    try:
        loaded.input_encoder.describe("responses")
        log = log or _fitted_to(served.folders[name])
    except PalError:
        log = None  # without an encoder its cells are ids, of vectors that are not at hand
    if log is not None and collect is None:
        from pal.logs.shapes import read_log

        read = read_log(log)
        pairs, people = read_questions(read.pairs, read.table.folder)
    if questions is not None:
        pairs = read_table(str(questions), needs_prompts=loaded.reads_prompts)
    if not pairs:
        needed = "" if collect else ", or --log the answers that the model was fitted to"
        raise PalError(f"--questions must name a table of prompt, response_a, response_b{needed}, got none")
    shown = Demo(loaded, pairs, people)
    if collect is None:
        _run(served, partial(add_pages, name=name, demo=shown), **options)
        return
    try:
        text = consent.read_text(encoding="utf-8") if consent else ""
    except (OSError, UnicodeError) as error:
        raise PalError(f"{consent} cannot be read as text ({error}); name a file of text") from None
    study = Study(shown, text, random_share, repeat_every, number)
    _run(served, partial(add_pages, name=name, study=study), **{**options, "database": str(collect)})


def export(database: str, out: Path) -> None:
    """Write all answers that stand as a log that `pal fit` reads: JSONL, pictures in a folder beside it.

    Of a study it also says how often people answered a repeated question as before.
    """
    from pal.service.answers import Answers
    from pal.service.study import consistency

    if "://" not in database and not Path(database).is_file():
        raise PalError(f"{database} must be a database of answers, got no file; name that of pal serve")
    rows = Answers(database).export(out.with_name(f"{out.stem}-pictures"))
    write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    people: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        people.setdefault(row["user_id"], []).append(row)
    print(f"{len(rows):,} answers of {len(people):,} people in {out}")
    same = [share for answers in people.values() if (share := consistency(answers)) is not None]
    if same:
        print(f"  repeated questions: answered as before in {fmean(same):.0%}, mean of {len(same):,} people")
    print(f"  pal fit {out}")


def _run(models: Any, add_pages: Callable[..., Any], *, host: str, port: int, database: str) -> None:
    """Listen until the process is asked to end.

    Args:
        models: What is served.
        add_pages: Adds pages to the app.
        host: Where to listen; without a key a loopback address alone.
        port: 0 takes a free one.
        database: Of answers: a SQLite file, or a URL of SQLAlchemy.
    """
    import uvicorn

    from pal.service.answers import Answers
    from pal.service.app import create_app

    key = os.environ.get(KEY)
    app = add_pages(create_app(models, Answers(database), key=key))
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise PalError(
            f"--port must be free on {host}, got {port} ({error.strerror}); name another"
        ) from None
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    print(f"{', '.join(models.folders)} at {address} (calls to try: {address}/docs)", flush=True)
    if not key:
        print(f"{KEY} is not set: only this computer can call, and needs no key", flush=True)
    uvicorn.run(app, fd=listening.fileno(), log_level="warning", timeout_graceful_shutdown=30)


def _check_address(host: str) -> None:
    """Refuse to listen to others without a key."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not os.environ.get(KEY) and not loopback:
        raise PalError(
            f"--host must be a loopback address where {KEY} is not set, got {host}; set it to a secret"
        )
    try:
        import fastapi  # noqa: F401
    except ImportError:
        raise PalError(
            "the service must have its extra; pip install 'pal-pluralistic-alignment[serve]'"
        ) from None


def _load(models: Sequence[str], options: dict[str, Any]) -> Any:
    """The models that are named, with encoders where `options` say; one core is left to HTTP."""
    import torch

    from pal.service.compute import Models

    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    return Models(_named(models), places_of(options.pop("weights")), options.pop("device"))


def _fitted_to(folder: Path) -> str | None:
    """The log that a model was fitted to, where `pal fit` noted it and it is still there."""
    for metrics in (folder / "metrics.json", folder / ".." / "metrics.json"):
        if metrics.is_file():
            source = json.loads(metrics.read_text(encoding="utf-8")).get("source")
            return source if isinstance(source, str) and Path(source).exists() else None
    return None


def _named(models: Sequence[str]) -> dict[str, Path]:
    """Folders by the names of their models; that of a folder by default."""
    named: dict[str, Path] = {}
    for given in models:
        name, _, folder = given.rpartition("=") if not Path(given).exists() else ("", "", given)
        path = Path(folder).expanduser()
        whole = path.resolve()
        name = name or (whole.name == "model" and whole.parent.name) or whole.name
        if name in named:
            raise PalError(f"two models must not have one name, got {name!r} twice; give NAME=FOLDER")
        named[name] = path
    return named
