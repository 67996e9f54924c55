"""Files made to hurt, through every entry that reads what comes from outside: refused, nothing in them run.

Each case writes a file and opens it as a user would. It holds if the end is one sentence of ours, soon and
within bounded memory, and if no code of the file's ran, which would have left a mark.
"""

import resource
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faults.damage import _inside
from faults.malice import entries, folders, tables, tensors, words
from faults.malice.traps import MARK
from faults.tally import Tally
from pal.errors import PalError
from pipeline.errors import PipelineError

SECONDS = 20  # in which each must end
MEMORY = 1 << 30  # bytes by which the process may grow, over all cases
Case = tuple[str, Callable[[], Any]]


def run() -> list[Tally]:
    """Every case once."""
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        found = list(cases())
        before, slowest = _peak(), 0.0
        for number, (name, attempt) in enumerate(found):
            here = Path(folder) / str(number)
            here.mkdir()
            start = time.process_time()
            with _inside(here):
                fault = outcome(attempt)
            slowest = max(slowest, time.process_time() - start)
            if fault:
                failures.append(f"{name}: {fault}")
    grown = _peak() - before
    if grown > MEMORY:
        failures.append(f"memory grew by {grown / 1e9:.1f} GB")
    about = {"slowest": f"{slowest:.1f} s", "memory": f"{grown / 1e6:,.0f} MB"}
    return [Tally("malicious files refused", len(found), failures, about)]


def outcome(attempt: Callable[[], Any]) -> str:
    """What went wrong with a case in the current folder; empty if it was refused as it should be."""
    try:
        with _limited():
            attempt()
    except (PalError, PipelineError) as error:
        found = "" if "\n" not in str(error) and len(str(error)) < 2000 else f"more than a sentence: {error}"
    except BaseException as error:
        found = f"not an error of ours: {error!r}"[:300]
    else:
        found = "taken for good"
    return f"code of the file ran; {found}" if Path(MARK).exists() else found


@contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)  # of the processor's time, however busy the machine is
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cases() -> Iterator[Case]:
    """Every kind by every entry that it could come in by."""
    for name, content in tensors.tensors().items():
        yield f"saved model, {name}", lambda content=content: entries.saved("model.safetensors", content)
        yield f"vectors, {name}", lambda content=content: entries.vectors_in("v.safetensors", content)
        yield f"encoder, {name}", lambda content=content: entries.encoder({"model.safetensors": content})
    for name, content in tensors.arrays().items():
        yield f"vectors, {name}", lambda content=content: entries.vectors_in("v.npy", content)
    for name, content in words.jsons().items():
        for file in ("config.json", "users.json"):
            yield f"saved model, {file}, {name}", lambda c=content, f=file: entries.saved(f, c)
        yield f"taste, {name}", lambda content=content: entries.taste(content)
        yield (
            f"encoder, modules.json, {name}",
            lambda content=content: entries.encoder({"modules.json": content}),
        )
        yield f"own table, {name}", lambda content=content: entries.table("own.jsonl", content)
        yield f"table of a command, {name}", lambda content=content: entries.command("t.jsonl", content)
    for name, files in folders.folders().items():
        yield f"encoder, {name}", lambda files=files: entries.encoder(files)
    for name, content in folders.archives().items():
        yield f"package, {name}", lambda content=content: entries.package(content)
    for name, text in words.params().items():
        yield f"params.yaml, {name}", lambda text=text: entries.load_params(text)
        yield f"dvc.lock, {name}", lambda text=text: entries.lock(text)
    for name, content in tables.pictures().items():
        yield f"picture, {name}", lambda content=content: entries.picture(content)
    for name, (file, content) in tables.files().items():
        yield f"own table, {name}", lambda f=file, c=content: entries.table(f, c())
        if "rows" not in name:  # a command reads as many as there are, some at a time
            yield f"table of a command, {name}", lambda f=file, c=content: entries.command(f, c())
