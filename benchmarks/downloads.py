"""Downloads from a hub on this machine: what hashing all that arrives costs, and a whole download with it.

A file of 1 GB (10^9 bytes) as large files are, known by its sha256. It is served by a process of its own,
fetched, hashed while it arrives, and synced. Then the same code is given the whole file, as a run that was
killed after the last byte leaves it: it has nothing to fetch and hashes what is there, which is the hashing
alone. The fastest of three each. A minute.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.table import Row, Section, show

SIZE = 10**9
BLOCK = 10**7
ROUNDS = 3
AT_MOST = 2.0  # seconds per GB
SHARED = 1.15  # times the processor's seconds: more by the clock, and others had it meanwhile
SERVER = """
import json, sys, time
from benchmarks.downloads import BLOCK, SIZE, block, listed
from tests.hub_server import serve

def answer(handler, asked):
    if asked.what == "info":
        handler.answer(200, json.dumps(listed()).encode())
    else:
        handler.begin(200, {"Content-Length": str(SIZE)})
        for _ in range(SIZE // BLOCK):
            handler.wfile.write(block())
    return True

with serve() as hub:
    hub.fault = answer
    print(hub.address, flush=True)
    sys.stdin.read()
"""


def measure() -> Section:
    """The hashing alone, and the download."""
    from huggingface_hub import constants

    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        with patch.object(constants, "ENDPOINT", server.stdout.readline().strip()):
            seconds = [_round() for _ in range(ROUNDS)]
        server.communicate()
    download, hashing, processor, one_pass = (min(each) for each in zip(*seconds, strict=True))
    gb = SIZE / 1e9
    shared = "others had the processor" if hashing > SHARED * processor else ""
    note = f"100 % of files; one pass of hashlib alone {one_pass / gb:.2f}"
    rows = [
        Row("hash of what arrives", processor / gb, "s of processor per GB", at_most=AT_MOST, note=note),
        Row("the same, by the clock", hashing / gb, "s per GB", at_most=AT_MOST, unjudged=shared),
        Row("download, hashed and synced", download / gb, "s per GB", note="over the loopback address"),
    ]
    return Section("Downloads, every byte hashed", {"file": f"{SIZE:,} bytes", "rounds": ROUNDS}, rows)


def _round() -> tuple[float, float, float, float]:
    """Seconds: a download; hashing what is there, by the clock and of the processor; hashlib alone."""
    from pal.fetching import fetch, listing

    found = listing("org/name", "dataset", None)
    file = found.files["big.bin"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file.key
        used = []
        for _ in range(2):
            start, started = time.perf_counter(), time.process_time()
            assert fetch(found, file, path) == file.sha256
            used.append((time.perf_counter() - start, time.process_time() - started))
        started = time.process_time()
        with path.open("rb") as whole:
            hashlib.file_digest(whole, "sha256")
        return used[0][0], *used[1], time.process_time() - started


def block() -> bytes:
    """What the file repeats."""
    return BYTES


def listed() -> dict[str, Any]:
    """The hub's answer to what the repository holds."""
    whole = hashlib.sha256()
    for _ in range(SIZE // BLOCK):
        whole.update(BYTES)
    lfs = {"sha256": whole.hexdigest(), "size": SIZE, "pointerSize": 130}
    one = {"rfilename": "big.bin", "size": SIZE, "blobId": "0" * 40, "lfs": lfs}
    return {"_id": "0", "id": "org/name", "sha": "1" * 40, "siblings": [one], "tags": [], "private": False}


BYTES = os.urandom(BLOCK)

if __name__ == "__main__":
    show(measure())
