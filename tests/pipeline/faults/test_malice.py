"""Malicious files, through every entry that reads what comes from outside: refused, and nothing in them runs.

Each case writes a file and opens it as a user would. It holds if the end is one sentence of ours, within
seconds and bounded memory, and if no code of the file's ran, which would have made a folder `ran`.
"""

import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import struct
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pal import encoders
from pal.cli.app import main as pal_command
from pal.encoders.images import read as read_picture
from pal.errors import PalError
from pal.serving.reward_model import RewardModel
from pal.users.taste import Taste
from pipeline import PipelineError, params
from pipeline.stages import download, prepare

pytestmark = pytest.mark.slow
SECONDS, MEMORY = 20, 1 << 30
PNG = b"\x89PNG\r\n\x1a\n"
HEAD = b"user_id,prompt,chosen,rejected\n"


class Trap:
    """Unpickled, it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


PICKLE = pickle.dumps(Trap())


def safetensors(header, data: bytes = b"", length: int | None = None) -> bytes:
    """A file of a header and data; its length may be said otherwise."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def embeddings(start: int, end: int, shape: list[int]) -> dict:
    return {
        "__metadata__": {"ids": '["a", "b"]'},
        "embeddings": {"dtype": "F32", "shape": shape, "data_offsets": [start, end]},
    }


def tensor_files() -> dict[str, bytes]:
    archive = io.BytesIO()
    torch.save({"embeddings": Trap()}, archive)
    return {
        "a pickle": PICKLE,
        "a pickle in an archive": archive.getvalue(),
        "a header of 2^64 - 1 bytes": safetensors({}, length=(1 << 64) - 1),
        "a tensor past the end": safetensors(embeddings(0, 1 << 40, [1 << 38]), bytes(16)),
        "a shape that overflows": safetensors(embeddings(0, 16, [1 << 33, 1 << 33]), bytes(16)),
        "NaN": safetensors(embeddings(0, 16, [2, 2]), struct.pack("<4f", float("nan"), 1, 1, 1)),
        "deep nesting": safetensors(b'{"a":' + b"[" * 100_000),
    }


def array_files() -> dict[str, bytes]:
    objects = io.BytesIO()
    np.save(objects, np.array([[Trap()]], dtype=object), allow_pickle=True)

    def header(text: str) -> bytes:
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()

    return {
        "npy of objects": objects.getvalue(),
        "npy past its end": header("{'descr':'<f4','fortran_order':False,'shape':(1000000000,2)}\n"),
        "npy with code in its header": header("__import__('os').mkdir('ran')\n"),
    }


JSON = {
    "deep lists": b"[" * 100_000,
    "a number of a million digits": b"[" + b"9" * 1_000_000 + b"]",
    "a pickle": PICKLE,
    "infinity": b"[Infinity, NaN]",
}
PARAMS = {
    "a command as a tag": "datasets: !!python/object/apply:os.mkdir [ran]\n",
    "a list that holds itself": "datasets: &a [*a]\n",
}


def parquet(rows: int) -> bytes:
    """A file of some KB of so many rows in which nothing stands."""
    out = io.BytesIO()
    table = pa.table(dict.fromkeys(("user_id", "prompt", "chosen", "rejected"), pa.nulls(10_000_000)))
    with pq.ParquetWriter(out, table.schema) as writer:
        for _ in range(rows // len(table)):
            writer.write_table(table, row_group_size=len(table))
    return out.getvalue()


TABLES = {
    "a CSV of NULs": ("own.csv", lambda: HEAD + bytes(10_000)),
    "a CSV with one endless quote": ("own.csv", lambda: HEAD + b'"' + b"x" * 5_000_000),
    "Parquet of 210 million rows": ("own.parquet", lambda: parquet(210_000_000)),
    "Parquet with a footer of 4 GB": ("own.parquet", lambda: b"PAR1" + bytes(99) + b"\xff\xff\xff\xffPAR1"),
    **{f"JSONL of {name}": ("own.jsonl", lambda content=content: content) for name, content in JSON.items()},
}


def pictures() -> dict[str, bytes]:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    huge = PNG + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return {
        "30,000 x 30,000 pixels": huge,
        "an SVG that names a file": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
        "a pickle": PICKLE,
        "a JPEG without end": b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(64),
    }


def encoder_folders() -> dict[str, dict[str, bytes]]:
    """Folders of sentence-transformers models that name what must not be run or read."""

    def modules(kind: str, path: str = "") -> bytes:
        return json.dumps([{"type": kind, "path": path}]).encode()

    code = b"import os; os.mkdir('ran')\n"
    transformer = "sentence_transformers.models.Transformer"
    return {
        "weights in a pickle": {"pytorch_model.bin": PICKLE},
        "a module of its own": {"modules.json": modules("evil.Evil"), "evil.py": code},
        "a module outside": {"modules.json": modules(transformer, "../..")},
        **{f"weights: {name}": {"model.safetensors": data} for name, data in tensor_files().items()},
        **{f"modules.json: {name}": {"modules.json": data} for name, data in JSON.items()},
    }


@pytest.fixture
def refused(project):
    """The function that runs an attempt and holds it to its end: one sentence, soon, in bounded memory."""

    def check(attempt, *arguments) -> None:
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        with pytest.raises((PalError, PipelineError)) as error:
            attempt(*arguments)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 2000
        assert not Path("ran").exists()
        assert time.process_time() - started < SECONDS
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY

    check.project = project
    return check


def load_model(folder: Path, name: str, content: bytes) -> None:
    """Load a model one of whose files is this, and its recorded sha256 that of the new content."""
    before = hashlib.sha256((folder / name).read_bytes()).hexdigest().encode()
    (folder / name).write_bytes(content)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(before, hashlib.sha256(content).hexdigest().encode()))
    RewardModel.load(folder)


SAVED = [
    *(("model.safetensors", kind, data) for kind, data in tensor_files().items() if kind != "NaN"),
    *((name, kind, data) for name in ("config.json", "users.json") for kind, data in JSON.items()),
]


@pytest.mark.parametrize(("name", "kind", "content"), SAVED, ids=[f"{n}, {k}" for n, k, _ in SAVED])
def test_saved_models(name, kind, content, built, refused):
    shutil.copytree(built / "data/models/own/model", "model")
    refused(load_model, Path("model"), name, content)


@pytest.mark.parametrize("content", JSON.values(), ids=JSON)
def test_tastes(content, refused):
    Path("x.taste.json").write_bytes(content)
    refused(Taste.load, "x.taste.json")


VECTORS = [
    *(("v.safetensors", *each) for each in tensor_files().items()),
    *(("v.npy", *each) for each in array_files().items()),
]


@pytest.mark.parametrize(("name", "kind", "content"), VECTORS, ids=[kind for _, kind, _ in VECTORS])
def test_embeddings_of_ones_own(name, kind, content, refused):
    refused.project.set({"datasets": ["own"], "own.source": "own.csv", "own.vectors": name})
    refused.project.set({"own.prepare.responses": "vector", "own.encoder": "none"})
    Path("own.csv").write_bytes(HEAD + b"ann,,a,b\nbob,,b,a\n")
    Path("v.ids.txt").write_text("a\nb\n")
    Path(name).write_bytes(content)
    refused(lambda: (download.main("own"), prepare.main("own")))


@pytest.mark.parametrize(("name", "content"), TABLES.values(), ids=TABLES)
def test_tables_of_ones_own(name, content, refused):
    refused.project.set({"datasets": ["own"], "own.source": name})
    Path(name).write_bytes(content())
    refused(lambda: (download.main("own"), prepare.main("own")))


@pytest.mark.parametrize(("name", "content"), [table for kind, table in TABLES.items() if "rows" not in kind])
def test_tables_of_the_command(name, content, built, refused, monkeypatch, capsys):
    Path(name).write_bytes(content())
    model = built / "data/models/own/model"
    monkeypatch.setattr(sys, "argv", ["pal", "score", str(model), name, "--user", "user 1"])

    def score() -> None:
        with pytest.raises(SystemExit) as end:
            pal_command()
        said = capsys.readouterr().err.strip().rsplit("\n", 1)[-1]
        raise PalError(said.removeprefix("error: ")) if end.value.code == 1 else end.value

    refused(score)


@pytest.mark.parametrize("files", encoder_folders().values(), ids=encoder_folders())
def test_encoders(files, refused):
    folder = Path("encoder")
    folder.mkdir()
    modules = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
    usual = {
        "modules.json": json.dumps(modules).encode(),
        "config.json": json.dumps({"model_type": "bert", "hidden_size": 4, "vocab_size": 9}).encode(),
        **({} if "pytorch_model.bin" in files else {"model.safetensors": safetensors({})}),
    }
    for name, content in {**usual, **files}.items():
        (folder / name).write_bytes(content)
    refused(
        lambda: encoders.load(encoders.describe("sentence-transformers:evil/evil", "encoder")).encode(["a"])
    )


@pytest.mark.parametrize("text", PARAMS.values(), ids=PARAMS)
def test_parameters(text, refused):
    refused.project.text(text)
    refused(params.load)


@pytest.mark.parametrize("content", pictures().values(), ids=pictures())
def test_pictures(content, refused):
    refused(read_picture, content)
