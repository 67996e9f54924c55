"""A stand-in for the Hugging Face hub on this machine that can cut, lie, stall, and move its branches.

It speaks what the hub's client asks for in downloads: repositories at a revision, trees, `resolve` with HEAD,
GET and ranges, and the detour over another address for large files. Uploads have a stand-in of their own,
`tests/pal/serving/hub.py`.
"""

import hashlib
import io
import json
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = 4096  # bytes from which a file counts as kept in Git LFS


@dataclass
class Repo:
    """A repository: commits with their files, and branches that name commits."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Make a commit, and have the branch name it; returns it."""
        listed = [f"{name} {hashlib.sha256(data).hexdigest()}" for name, data in sorted(files.items())]
        name = hashlib.sha1(f"{len(self.commits)} {listed}".encode(), usedforsecurity=False).hexdigest()
        self.commits[name] = dict(files)
        self.branches[branch] = name
        return name

    def find(self, revision: str) -> str | None:
        """The commit that a revision names."""
        name = self.branches.get(revision, revision)
        return name if name in self.commits else None


@dataclass
class Asked:
    """One request, as it can be met with something else than an answer."""

    what: str  # info, tree, file or cdn
    method: str
    path: str
    range: str | None
    number: int  # of the requests of its kind, from 0


# How to behave in place of answering: given the handler and the request; False answers as ever.
Fault = Callable[["Handler", Asked], bool]


class Hub:
    """Repositories by kind and name, what was asked of them, and how to misbehave."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.asked: list[Asked] = []
        self.fault: Fault = lambda handler, asked: False
        self.detour = False
        self.address = ""
        self.counts: dict[str, int] = {}
        self.sent = 0
        self.lock = threading.Lock()

    def repo(self, name: str, kind: str = "dataset") -> Repo:
        """The repository of that name, made where missing."""
        return self.repos.setdefault((kind, name), Repo())

    def note(self, what: str, method: str, path: str, span: str | None) -> Asked:
        """Count a request."""
        with self.lock:
            number = self.counts.get(what, 0)
            self.counts[what] = number + 1
            self.asked.append(Asked(what, method, path, span, number))
            return self.asked[-1]

    def forget(self) -> None:
        """Begin to count anew, and behave."""
        self.asked.clear()
        self.counts.clear()
        self.sent = 0
        self.fault = lambda handler, asked: False


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub on the loopback interface."""
    hub = Hub()
    handler = type("Handler", (Handler,), {"hub": hub})
    server = _Server(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def as_endpoint(address: str) -> Iterator[None]:
    """Have the hub's client of this process ask there, as HF_ENDPOINT has that of a new one."""
    from huggingface_hub import constants

    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    new = {"ENDPOINT": address, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False}
    old = {name: getattr(constants, name) for name in new}
    for name, value in new.items():
        setattr(constants, name, value)
    try:
        yield
    finally:
        for name, value in old.items():
            setattr(constants, name, value)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *args: Any) -> None:
        """A client that goes away is no news."""


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer."""
        self.begin(status, {"Content-Length": str(len(body)), **_named(headers)})
        self.give(body)

    def begin(self, status: int, headers: dict[str, str]) -> None:
        """The head of an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def give(self, body: bytes) -> None:
        """Bytes, where they were asked for."""
        if self.command != "HEAD":
            self.wfile.write(body)
            self.hub.sent += len(body)

    def cut(self) -> None:
        """End the connection as a network does that fails: at once, with a reset."""
        self.wfile.flush()
        time.sleep(0.02)  # what was sent arrives, which a reset would prevent
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
        self.wfile = self.rfile = io.BytesIO()

    def do_HEAD(self) -> None:
        """As GET, without a body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Whatever the client asks."""
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/(dataset|model)s/([^/]+/[^/]+?)(?:/(revision|tree)/(.+?))?/?", path):
            kind, name, what, revision = found.groups()
            asked = self.hub.note("tree" if what == "tree" else "info", self.command, path, None)
            if not self.hub.fault(self, asked):
                self._listing(kind, name, revision or "main", tree=what == "tree")
        elif found := re.fullmatch(r"/(cdn/)?(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            cdn, dataset, name, revision, file = found.groups()
            span = self.headers.get("Range")
            asked = self.hub.note("cdn" if cdn else "file", self.command, path, span)
            if not self.hub.fault(self, asked):
                self._file("dataset" if dataset else "model", name, revision, file, cdn=bool(cdn))
        else:
            self.answer(404)

    def _listing(self, kind: str, name: str, revision: str, *, tree: bool) -> None:
        repo = self.hub.repos.get((kind, name))
        if repo is None:
            return self.answer(401, X_Error_Code="RepoNotFound")
        commit = repo.find(revision)
        if commit is None:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        files = [_entry(path, data, tree=tree) for path, data in sorted(repo.commits[commit].items())]
        about = {"_id": "0", "id": name, "sha": commit, "private": False, "tags": [], "siblings": files}
        body = json.dumps(files if tree else about).encode()
        self.answer(200, body, Content_Type="application/json", X_Repo_Commit=commit)
        return None

    def _file(self, kind: str, name: str, revision: str, file: str, *, cdn: bool) -> None:
        repo = self.hub.repos.get((kind, name))
        commit = repo.find(revision) if repo else None
        if repo is None or commit is None:
            code = "RepoNotFound" if repo is None else "RevisionNotFound"
            return self.answer(404, X_Error_Code=code)
        data = repo.commits[commit].get(file)
        if data is None:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        if self.hub.detour and not cdn:
            about = {"X-Linked-Etag": etag(data), "X-Linked-Size": str(len(data)), "X-Repo-Commit": commit}
            self.begin(
                302, {"Location": f"{self.hub.address}/cdn{self.path}", "Content-Length": "0", **about}
            )
            return None
        return self.bytes_of(data, commit)

    def bytes_of(self, data: bytes, commit: str = "") -> None:
        """A file, or the part of it that is asked for."""
        about = {"ETag": etag(data), "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if not span:
            self.begin(200, {"Content-Length": str(len(data)), **about})
            return self.give(data)
        start = int(span[1])
        if start >= len(data):
            return self.answer(416, Content_Range=f"bytes */{len(data)}")
        about["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.begin(206, {"Content-Length": str(len(data) - start), **about})
        return self.give(data[start:])

    def content(self, asked: Asked) -> tuple[bytes, int]:
        """The bytes of the file that is asked for, and from where."""
        dataset, name, revision, file = re.fullmatch(
            r"/(?:cdn/)?(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", asked.path
        ).groups()  # type: ignore[union-attr]
        repo = self.hub.repos[("dataset" if dataset else "model", name)]
        span = re.fullmatch(r"bytes=(\d+)-", asked.range or "")
        return repo.commits[repo.find(revision) or ""][file], int(span[1]) if span else 0


def etag(data: bytes) -> str:
    """As the hub makes it: the sha256 of a large file, git's hash of a small one."""
    return f'"{hashlib.sha256(data).hexdigest() if len(data) >= LARGE else blob_id(data)}"'


def blob_id(data: bytes) -> str:
    """Git's hash of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _entry(path: str, data: bytes, *, tree: bool) -> dict[str, Any]:
    sha256 = hashlib.sha256(data).hexdigest()
    lfs = {"sha256": sha256, "oid": sha256, "size": len(data), "pointerSize": 130}
    large = {"lfs": lfs} if len(data) >= LARGE else {}
    oid = blob_id(b"pointer " + sha256.encode()) if large else blob_id(data)
    if tree:
        return {"type": "file", "path": path, "size": len(data), "oid": oid, **large}
    return {"rfilename": path, "size": len(data), "blobId": oid, **large}


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def bytes_asked(what: str) -> bool:
    """Whether a request is one for a file's bytes."""
    return what in ("file", "cdn")


def first(times: int, fault: Fault, what: str = "file") -> Fault:
    """Misbehave in the first so many requests of a kind."""
    return lambda handler, asked: asked.what == what and asked.number < times and fault(handler, asked)


def status(code: int, **headers: str) -> Fault:
    """Answer with an error."""

    def fault(handler: Handler, asked: Asked) -> bool:
        handler.answer(code, b"", **headers)
        return True

    return fault


def cut_at(count: int, *, whole: bool = False) -> Fault:
    """Send so many bytes of a file and cut; `whole` ends the connection as if that were all."""

    def fault(handler: Handler, asked: Asked) -> bool:
        data, start = handler.content(asked)
        rest = data[start:]
        if len(rest) <= count:
            return False
        about = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        length = {"Connection": "close"} if whole else {"Content-Length": str(len(rest))}
        handler.begin(206 if start else 200, {**about, **length})
        handler.give(rest[:count])
        if whole:
            handler.close_connection = True
        else:
            handler.cut()
        return True

    return fault


def stall(seconds: float, count: int = 0) -> Fault:
    """Send so many bytes, and then nothing for so long, unless the client goes away, and then cut."""

    def fault(handler: Handler, asked: Asked) -> bool:
        data, start = handler.content(asked)
        about = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        handler.begin(206 if start else 200, {"Content-Length": str(len(data) - start), **about})
        handler.give(data[start : start + count])
        handler.wfile.flush()
        select.select([handler.connection], [], [], seconds)  # readable once the client went
        handler.cut()
        return True

    return fault


def instead(change: Callable[[bytes], bytes], *, ranges: bool = True) -> Fault:
    """Send other bytes; without `ranges`, the whole of them whatever part is asked for."""

    def fault(handler: Handler, asked: Asked) -> bool:
        data, _ = handler.content(asked)
        changed = change(data)
        if not ranges:
            handler.answer(200, changed)
        else:
            handler.bytes_of(changed)
        return True

    return fault
