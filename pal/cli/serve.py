"""The service and its pages: `pal serve`, `pal demo` and `pal answers`."""

import ipaddress
import json
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pal.cli.tables import notes_of_fit, places_of
from pal.errors import PalError
from pal.files import write_text

if TYPE_CHECKING:
    from pal.cli.app import ServeOptions, StudyOptions

KEY = "PAL_API_KEY"


def serve(models: Sequence[str], options: "ServeOptions") -> None:
    """Serve models, each a folder or NAME=FOLDER, until the process is asked to end."""
    _check_address(options.host)
    from pal.service.pages import add_pages

    served = _load(models, options)
    if len(models) == 1:
        served.get(served.name(None))
    _run(served, add_pages, options)


def demo(
    model: str, log: str | None, questions: Path | None, study: "StudyOptions", options: "ServeOptions"
) -> None:
    """Serve a model with pages on which it is tried, or with a study that collects answers.

    Args:
        model: Its folder, or NAME=FOLDER.
        log: Answers to show, and to take questions from; by default those that it was fitted to.
        questions: A table of pairs: prompt, response_a, response_b.
        study: Where a study keeps its answers, None for the demo; and how it asks.
        options: Where to listen, and where encoders come from and compute.
    """
    _check_address(options.host)
    from pal.service.demo import Demo, read_questions, read_table
    from pal.service.pages import add_pages
    from pal.service.study import Study

    served = _load([model], options)
    name = served.name(None)
    loaded = served.get(name)
    people: dict[str, Any] = {}
    pairs: Sequence[Any] = []
    notes = notes_of_fit(served.folders[name])
    source, read_as = str(notes.get("source", "")), {} if log else notes.get("read_as", {})
    log = log or (source if source and Path(source).exists() else "")
    # Without an encoder cells are ids, of vectors that are not at hand.
    has_log = study.collect is None and loaded.input_encoder.name("responses")
    if log and has_log:
        from pal.logs.shapes import read_log

        read = read_log(log, **read_as)
        pairs, people = read_questions(read.pairs, read.table.folder)
    if questions is not None:
        pairs = read_table(str(questions), needs_prompts=loaded.reads_prompts)
    if not pairs:
        needed = f", or --log the answers that the model was fitted to ({source})" if has_log else ""
        raise PalError(f"--questions must name a table of prompt, response_a, response_b{needed}, got none")
    shown = Demo(loaded, pairs, people)
    if study.collect is None:
        _run(served, partial(add_pages, name=name, demo=shown), options)
        return
    try:
        text = study.consent.read_text(encoding="utf-8") if study.consent else ""
    except (OSError, UnicodeError) as error:
        raise PalError(f"{study.consent} cannot be read as text ({error}); name a file of text") from None
    asked = Study(shown, text, study.random_share, study.repeat_every, study.number)
    options = replace(options, database=str(study.collect))
    _run(served, partial(add_pages, name=name, study=asked), options)


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


def _run(models: Any, add_pages: Callable[..., Any], options: "ServeOptions") -> None:
    """Listen until the process is asked to end; without a key at a loopback address alone."""
    import uvicorn

    from pal.service.answers import Answers
    from pal.service.app import create_app

    key, host, port = os.environ.get(KEY), options.host, options.port
    app = add_pages(create_app(models, Answers(options.database), key=key))
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


def _load(models: Sequence[str], options: "ServeOptions") -> Any:
    """The models that are named, with encoders where `options` say; one core is left to HTTP."""
    import torch

    from pal.service.compute import Models

    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    return Models(_named(models), places_of(options.weights), options.device)


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
