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
from pathlib import Path

import numpy as np
import pytest
import torch

from pal import encoders
from pal.cli.app import main as pal_command
from pal.errors import PalError
from pal.serving.reward_model import RewardModel
from pipeline import PipelineError
from pipeline.stages import download, prepare

pytestmark = pytest.mark.slow
SECONDS, MEMORY = 20, 1 << 30
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


TABLES = {
    "a CSV of NULs": ("own.csv", HEAD + bytes(10_000)),
    "a CSV with one endless quote": ("own.csv", HEAD + b'"' + b"x" * 5_000_000),
    "Parquet with a footer of 4 GB": ("own.parquet", b"PAR1" + bytes(99) + b"\xff\xff\xff\xffPAR1"),
    **{f"JSONL of {name}": ("own.jsonl", content) for name, content in JSON.items()},
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
def test_tables_of_the_command(name, content, built, refused, monkeypatch, capsys):
    Path(name).write_bytes(content)
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
