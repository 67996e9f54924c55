"""A hub that cuts, lies, stalls and moves, in place of the real one; and downloads that are killed.

Every case begins with an empty store. It ends in the bytes of the commit that the revision named at first, or
in one sentence and a store without a raw file; and then, with a hub that behaves, in these bytes.
"""

import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from faults.tally import Tally
from pal.fetching import Patience
from pipeline import paths
from pipeline.datasets.base import Remote
from pipeline.errors import PipelineError
from pipeline.stages import hub as access
from pipeline.storage import raw
from tests.hub_server import (
    Asked,
    Fault,
    Handler,
    Hub,
    as_endpoint,
    cut_at,
    first,
    instead,
    serve,
    stall,
    status,
)  # fmt: skip

SIZES = (1_000, 1_000_000, 20_000_000)
KILLS = 20
REPO, FILE = "org/name", "data/file.bin"
PAGE = b"<html>Please log in to this network</html>"
TIMEOUT = 0.5  # seconds without a byte


@dataclass(frozen=True)
class Case:
    """One way to misbehave.

    Args:
        what: In words.
        fault: Makes it for a file of so many bytes.
        heals: Whether the download is to end in the bytes, and not in a sentence.
        before: What else to do with the hub and the bytes.
    """

    what: str
    fault: Callable[[int], Fault]
    heals: bool
    before: Callable[[Hub, bytes], None] | None = None


def run(
    sizes: tuple[int, ...] = SIZES,
    kills: int = KILLS,
    killed_size: int = SIZES[-1],
    timeout: float = TIMEOUT,
) -> list[Tally]:
    """Every case at every size, and then kills.

    Args:
        sizes: Bytes of the file.
        kills: How many downloads are killed.
        killed_size: Bytes of the file then.
        timeout: Seconds without a byte after which a connection counts as lost.
    """
    failures, waits, cases = [], 0.0, 0
    with serve() as hub, as_endpoint(hub.address), redirect_stderr(io.StringIO()):  # no bars
        for size in sizes:
            data = random.Random(size).randbytes(size)
            for case in CASES:
                said: list[str] = []
                slept: list[float] = []
                patience = Patience(timeout=timeout, sleep=slept.append, say=said.append)
                why = _case(hub, case, data, patience)
                if not why and slept and len(said) < len(slept):
                    why = f"waited {len(slept)} times and said so {len(said)} times"
                cases, waits = cases + 1, waits + sum(slept)
                if why:
                    failures.append(f"{case.what}, {size:,} bytes: {why}")
        tallies = [
            Tally("a hub that cuts, lies, stalls or moves", cases, failures, {"sizes": len(sizes)}),
        ]
        if kills:
            tallies.append(_kills(hub, killed_size, kills))
    return tallies


def _case(hub: Hub, case: Case, data: bytes, patience: Patience) -> str:
    """Why a case did not end as promised; empty where it did."""
    hub.repos.clear()
    hub.forget()
    hub.detour = False
    hub.repo(REPO).commit({FILE: data, "small.txt": b"small"})
    if case.before:
        case.before(hub, data)
    hub.fault = case.fault(len(data))
    remote = Remote(REPO, "main", [FILE, "small.txt"])
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {"PAL_STORE": folder}):
        try:
            files = access.from_hub(remote, "persona", patience)[1]
            if not case.heals:
                return "it ended well, which it cannot"
        except PipelineError as error:
            if case.heals:
                return f"it ended with: {error}"
            if "\n" in str(error) or not str(error):
                return f"it is not one sentence: {error!r}"
            if wrong := [path for path in _stored() if path.read_bytes() not in (data, b"small")]:
                return f"the store has other bytes in {wrong}"
            hub.forget()
            hub.repos.clear()
            hub.repo(REPO).commit({FILE: data, "small.txt": b"small"})
            files = access.from_hub(remote, "persona", patience)[1]
        return _compared(files, data)


def _compared(files: list[raw.RawFile], data: bytes) -> str:
    found = [raw.stored(file, "persona").read_bytes() for file in files]
    if found != [data, b"small"]:
        return "the store has other bytes"
    if left := list(paths.store().rglob("downloads/*")):
        return f"left behind: {left}"
    return "" if len(_stored()) == 2 else "the store has other files too"


def _stored() -> list[Path]:
    return [path for path in (paths.store() / "raw").rglob("*") if path.is_file()]


def _kills(hub: Hub, size: int, kills: int) -> Tally:
    """SIGKILL when so many bytes were sent; the second run asks for no more than what is missing."""
    data = random.Random(-size).randbytes(size)
    draw = random.Random(0)
    failures, again = [], 0
    for number in range(kills):
        at = draw.randrange(size)
        with tempfile.TemporaryDirectory() as folder:
            why, sent = _killed(hub, data, at, Path(folder))
        again += sent
        if why:
            failures.append(f"kill {number} at {at:,} of {size:,} bytes: {why}")
    about = {"bytes sent by the second runs": f"{again / (size * kills):.0%}" if kills else "none"}
    return Tally("SIGKILL at a moment of a download", kills, failures, about)


def _killed(hub: Hub, data: bytes, at: int, store: Path) -> tuple[str, int]:
    hub.repos.clear()
    hub.forget()
    hub.repo(REPO).commit({FILE: data, "small.txt": b"small"})
    running: list[subprocess.Popen[bytes]] = []

    def kill(handler: Handler, asked: Asked) -> bool:
        if asked.what != "file" or not asked.path.endswith(FILE):
            return False
        handler.begin(200, {"Content-Length": str(len(data))})
        handler.give(data[:at])
        handler.wfile.flush()
        time.sleep(0.05)
        running[0].send_signal(signal.SIGKILL)
        handler.cut()
        return True

    hub.fault = kill
    running.append(_start(hub, store))
    if running[0].wait(60) != -signal.SIGKILL:
        return "it was not killed", 0
    hub.forget()
    with patch.dict(os.environ, {"PAL_STORE": str(store)}):
        if any(path.read_bytes() not in (data, b"small") for path in _stored()):
            return "a half-done file has a final name", 0
        done = _start(hub, store)
        if done.wait(60):
            return "the second run failed", hub.sent
        found = sorted(path.read_bytes() for path in _stored())
        why = "" if found == sorted([data, b"small"]) else "the store has other bytes"
    return why, hub.sent


def _start(hub: Hub, store: Path) -> "subprocess.Popen[bytes]":
    script = (
        "from pipeline import hub; from pipeline.datasets.base import Remote; "
        f"hub.from_hub(Remote({REPO!r}, 'main', [{FILE!r}, 'small.txt']), 'persona')"
    )
    env = {**os.environ, "HF_ENDPOINT": hub.address, "PAL_STORE": str(store)}
    env["PYTHONPATH"] = str(Path(__file__).parents[1])
    return subprocess.Popen([sys.executable, "-c", script], env=env, stderr=subprocess.DEVNULL)


def _then(one: Fault, other: Fault) -> Fault:
    """One at the first request for the file, the other at the second."""

    def fault(handler: Handler, asked: Asked) -> bool:
        if asked.what != "file" or asked.number > 1:
            return False
        return (other if asked.number else one)(handler, asked)

    return fault


def _always(fault: Fault, what: str = "file") -> Fault:
    return first(1_000_000, fault, what)


def _refused(code: int, error: str, what: str = "file") -> Fault:
    return _always(status(code, X_Error_Code=error), what)


def _page(handler: Handler, asked: Asked) -> bool:
    handler.answer(200, PAGE, Content_Type="text/html")
    return True


def _elsewhere(handler: Handler, asked: Asked) -> bool:
    """A redirect to a page of a network that wants a login first; to itself where that is asked for."""
    handler.answer(302, Location=f"{handler.hub.address}/login")
    return True


def _round(handler: Handler, asked: Asked) -> bool:
    handler.answer(302, Location=f"{handler.hub.address}{handler.path}")
    return True


def _reset(handler: Handler, asked: Asked) -> bool:
    handler.cut()
    return True


def _other_place(handler: Handler, asked: Asked) -> bool:
    """Goes on, but from the beginning."""
    data, _ = handler.content(asked)
    about = {"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}", "Content-Length": str(len(data))}
    handler.begin(206, about)
    handler.give(data)
    return True


def _zipped(handler: Handler, asked: Asked) -> bool:
    import gzip

    data, _ = handler.content(asked)
    handler.answer(200, gzip.compress(data, 0), Content_Encoding="gzip")
    return True


def _moving(handler: Handler, asked: Asked) -> bool:
    """The branch moves to other bytes of the same length before each file is sent."""
    if asked.what == "file":
        data, _ = handler.content(asked)
        handler.hub.repo(REPO).commit({FILE: bytes(len(data)), "small.txt": b"other"})
    return False


def _vanishing(handler: Handler, asked: Asked) -> bool:
    if asked.what == "file":
        handler.answer(404, X_Error_Code="RevisionNotFound")
        return True
    return False


def _by_detour(hub: Hub, data: bytes) -> None:
    hub.detour = True


def _fails(code: int, **headers: str) -> Callable[[int], Fault]:
    return lambda size: first(2, status(code, **headers))


LATER = "Fri, 31 Dec 2100 23:59:59 GMT"
CASES = (
    Case("none", lambda size: _never, True),
    Case("a detour over another address", lambda size: _never, True, _by_detour),
    Case("cut in the middle", lambda size: first(1, cut_at(size // 2)), True),
    Case("cut in the middle of a detour", lambda size: first(1, cut_at(size // 2), "cdn"), True, _by_detour),
    Case("cut three times after a byte", lambda size: first(3, cut_at(1)), True),
    Case("cut before an answer", lambda size: first(2, _reset), True),
    Case("cut before the list", lambda size: first(2, _reset, "info"), True),
    Case("ended early as if that were all", lambda size: first(2, cut_at(size // 3, whole=True)), True),
    Case("stalled before a byte", lambda size: first(1, stall(9)), True),
    Case("stalled in the middle", lambda size: first(1, stall(9, size // 2)), True),
    Case("429 twice, come back in 7 s", _fails(429, Retry_After="7"), True),
    Case("429 twice, by its limit of rates", _fails(429, RateLimit='"api";r=0;t=55'), True),
    Case("429 for the list", lambda size: first(2, status(429, Retry_After="3"), "info"), True),
    Case("500 twice", _fails(500), True),
    Case(
        "503 twice, come back at a date gone by", _fails(503, Retry_After=LATER.replace("2100", "2001")), True
    ),
    Case("cut, then 416", lambda size: _then(cut_at(size // 2), status(416)), True),
    Case("cut, then all from the beginning", lambda size: _then(cut_at(size // 2), _whole), True),
    Case("cut, then on from another place", lambda size: _then(cut_at(size // 2), _other_place), True),
    Case("right length and wrong bytes, twice", lambda size: first(2, instead(_flipped)), True),
    Case("wrong bytes, cut", lambda size: _then(_wrong_and_cut(size), _never), True),
    Case("shorter than listed, twice", lambda size: first(2, instead(lambda data: data[:-1])), True),
    Case("longer than listed, twice", lambda size: first(2, instead(lambda data: data + b"more")), True),
    Case("a page in place of the file, once", lambda size: first(1, _page), True),
    Case("packed by gzip", lambda size: first(9, _zipped), True),
    Case("a branch that moves in mid-download", lambda size: _moving, True),
    Case("a branch that moves, and cuts", lambda size: _both(_moving, first(1, cut_at(size // 2))), True),
    Case("404 for the file", lambda size: _refused(404, "EntryNotFound"), False),
    Case(
        "404 for the revision",
        lambda size: _always(status(404, X_Error_Code="RevisionNotFound"), "info"),
        False,
    ),
    Case(
        "401, no such repository",
        lambda size: _always(status(401, X_Error_Code="RepoNotFound"), "info"),
        False,
    ),
    Case("403, gated", lambda size: _refused(403, "GatedRepo"), False),
    Case("403", lambda size: _always(status(403)), False),
    Case("a commit that disappears", lambda size: _vanishing, False),
    Case("429 for a century", lambda size: _always(status(429, Retry_After=LATER)), False),
    Case("429 without end", lambda size: _always(status(429, Retry_After="1")), False),
    Case("500 without end", lambda size: _always(status(500)), False),
    Case("416 at the first byte", lambda size: _always(status(416)), False),
    Case("a byte at a time without end", lambda size: _always(cut_at(1)), False),
    Case("wrong bytes without end", lambda size: _always(instead(_flipped)), False),
    Case("a page in place of the file", lambda size: _always(_page), False),
    Case("a redirect to a page that is not there", lambda size: _always(_elsewhere), False),
    Case("a redirect to itself", lambda size: _always(_round), False),
    Case("a page in place of the list", lambda size: _always(_page, "info"), False),
)


def _never(handler: Handler, asked: Asked) -> bool:
    return False


def _whole(handler: Handler, asked: Asked) -> bool:
    handler.answer(200, handler.content(asked)[0])
    return True


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _wrong_and_cut(size: int) -> Fault:
    def fault(handler: Handler, asked: Asked) -> bool:
        handler.begin(200, {"Content-Length": str(len(handler.content(asked)[0]))})
        handler.give(b"\0" * (size // 2))
        handler.cut()
        return True

    return fault


def _both(one: Fault, other: Fault) -> Fault:
    return lambda handler, asked: one(handler, asked) or other(handler, asked)
