"""A stand-in for the Hugging Face hub on this machine: as much of it as uploads and downloads ask for."""

import base64
import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlparse

COMMIT = "1" * 40


class Hub:
    """Repositories by name, each a mapping from file names to contents, and what was asked."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.refuses = False
        self.address = ""


@contextmanager
def serve():
    """A hub on the loopback interface."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args) -> None:
        pass

    def answer(self, status: int, body=b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refused(self) -> None:
        self.answer(403, {"error": "not yours"}, X_Error_Message="not yours")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlparse(self.path).path
        self.hub.asked.append(f"POST {path}")
        self.hub.tokens.add(self.headers.get("Authorization"))
        if self.hub.refuses:
            self.refused()
        elif path == "/api/repos/create":
            given = json.loads(body)
            name = "/".join(filter(None, (given.get("organization"), given["name"])))
            self.hub.repos.setdefault(name, {})
            self.hub.private[name] = given.get("private") or given.get("visibility") == "private"
            self.answer(200, {"url": f"{self.hub.address}/{name}"})
        elif "/preupload/" in path:
            files = [one["path"] for one in json.loads(body)["files"]]
            modes = [{"path": one, "uploadMode": "regular", "shouldIgnore": False} for one in files]
            self.answer(200, {"files": modes})
        elif "/commit/" in path:
            name = path.removeprefix("/api/models/").split("/commit/")[0]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.hub.repos[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer(
                200,
                {
                    "success": True,
                    "commitOid": COMMIT,
                    "commitUrl": f"{self.hub.address}/{name}/commit/{COMMIT}",
                },
            )
        else:
            self.answer(200, {})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlparse(self.path).path
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.refuses:
            return self.refused()
        if path.startswith("/api/models/"):
            name = "/".join(path.removeprefix("/api/models/").split("/")[:2])
            return self.listing(name, tree="/tree/" in path)
        name, _, rest = path.lstrip("/").partition("/resolve/")
        file = rest.partition("/")[2]
        content = self.hub.repos.get(name, {}).get(file)
        if content is None:
            code = "EntryNotFound" if name in self.hub.repos else "RepoNotFound"
            return self.answer(404, {}, X_Error_Code=code, X_Repo_Commit=COMMIT)
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self.answer(200, content, ETag=etag, X_Repo_Commit=COMMIT, Accept_Ranges="none")

    def listing(self, name: str, *, tree: bool) -> None:
        if name not in self.hub.repos:
            return self.answer(404, {}, X_Error_Code="RepoNotFound")
        files = self.hub.repos[name]
        if tree:
            entries = [
                {"type": "file", "path": file, "size": len(data), "oid": "0" * 40}
                for file, data in files.items()
            ]
            return self.answer(200, entries)
        siblings = [{"rfilename": file} for file in files]
        return self.answer(
            200, {"id": name, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
        )
