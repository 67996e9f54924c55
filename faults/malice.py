"""Files made to hurt, through every entry that reads what comes from outside: refused, nothing in them run.

Each case writes a file and opens it as a user would. It holds if the end is one sentence of ours, soon and
within bounded memory, and if no code of the file's ran, which would have left a mark.
"""

import io
import json
import os
import pickle
import resource
import signal
import stat
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faults.damage import _inside, _model
from faults.tally import Tally
from pal.errors import PalError
from pipeline.errors import PipelineError

SECONDS = 20  # in which each must end
MEMORY = 1 << 30  # bytes by which the process may grow, over all cases
MARK = "ran"
Case = tuple[str, Callable[[], Any]]


class Trap:
    """Unpickled, it makes a file."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (MARK,)


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
    for name, content in _tensors().items():
        yield f"saved model, {name}", lambda content=content: _saved("model.safetensors", content)
        yield f"vectors, {name}", lambda content=content: _vectors_in("v.safetensors", content)
        yield f"encoder, {name}", lambda content=content: _encoder({"model.safetensors": content})
    for name, content in _arrays().items():
        yield f"vectors, {name}", lambda content=content: _vectors_in("v.npy", content)
    for name, content in _jsons().items():
        for file in ("config.json", "users.json"):
            yield f"saved model, {file}, {name}", lambda c=content, f=file: _saved(f, c)
        yield f"taste, {name}", lambda content=content: _taste(content)
        yield f"encoder, modules.json, {name}", lambda content=content: _encoder({"modules.json": content})
        yield f"own table, {name}", lambda content=content: _table("own.jsonl", content)
        yield f"table of a command, {name}", lambda content=content: _command("t.jsonl", content)
    for name, files in _folders().items():
        yield f"encoder, {name}", lambda files=files: _encoder(files)
    for name, content in _archives().items():
        yield f"package, {name}", lambda content=content: _package(content)
    for name, text in _params().items():
        yield f"params.yaml, {name}", lambda text=text: _load_params(text)
        yield f"dvc.lock, {name}", lambda text=text: _lock(text)
    for name, content in _pictures().items():
        yield f"picture, {name}", lambda content=content: _picture(content)
    for name, (file, content) in _files().items():
        yield f"own table, {name}", lambda f=file, c=content: _table(f, c())
        if "rows" not in name:  # a command reads as many as there are, some at a time
            yield f"table of a command, {name}", lambda f=file, c=content: _command(f, c())


def _safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def _tensors() -> dict[str, bytes]:
    """Tensors' files, none of which holds what it says."""
    import torch

    archive = io.BytesIO()
    torch.save({"embeddings": Trap()}, archive)
    nan = struct.pack("<4f", float("nan"), 1, 1, 1)
    ids = {"__metadata__": {"ids": '["a", "b"]'}}
    two = {"embeddings": _tensor(0, 16, [2, 2]), "other": _tensor(8, 24, [2, 2])}
    return {
        "a pickle": pickle.dumps(Trap()),
        "a pickle in an archive": archive.getvalue(),
        "a pickle behind a brace": b"\x80\x04K\x01.\0\0\0{" + pickle.dumps(Trap()),
        "empty": b"",
        "a header of 2^60 bytes": _safetensors({}, length=1 << 60),
        "a header of 2^64 - 1 bytes": _safetensors({}, length=(1 << 64) - 1),
        "a header of 200 MB that is not there": _safetensors({}, length=200_000_000),
        "overlapping tensors": _safetensors({**ids, **two}, bytes(24)),
        "a tensor past the end": _safetensors(
            {**ids, "embeddings": _tensor(0, 1 << 40, [1 << 38])}, bytes(16)
        ),
        "a tensor that ends before its start": _safetensors(
            {**ids, "embeddings": _tensor(16, 0, [2, 2])}, bytes(16)
        ),
        "a shape that overflows": _safetensors(
            {**ids, "embeddings": _tensor(0, 16, [1 << 33, 1 << 33])}, bytes(16)
        ),
        "bytes that no tensor covers": _safetensors({**ids, "embeddings": _tensor(0, 16, [2, 2])}, bytes(99)),
        "NaN": _safetensors({**ids, "embeddings": _tensor(0, 16, [2, 2])}, nan),
        "100,000 names": _safetensors({f"t{n}": _tensor(0, 0, [0]) for n in range(100_000)}),
        "deep nesting": _safetensors(b'{"a":' + b"[" * 100_000, b""),
        "a name twice": _safetensors(b'{"embeddings":%s,"embeddings":%s}' % ((b"[]",) * 2)),
        "an unknown type": _safetensors({**ids, "embeddings": _tensor(0, 16, [2, 2], "EVIL")}, bytes(16)),
    }


def _arrays() -> dict[str, bytes]:
    import numpy as np

    objects, many = io.BytesIO(), io.BytesIO()
    np.save(objects, np.array([[Trap()]], dtype=object), allow_pickle=True)
    np.savez(many, a=np.zeros((2, 2)))

    def header(text: str) -> bytes:
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()

    return {
        "npy of objects": objects.getvalue(),
        "npz": many.getvalue(),
        "npy of 2^80 rows": header(
            "{'descr':'<f4','fortran_order':False,'shape':(1208925819614629174706176,2)}\n"
        ),
        "npy past its end": header("{'descr':'<f4','fortran_order':False,'shape':(1000000000,2)}\n"),
        "npy with code in its header": header("__import__('os').mkdir('ran')\n"),
        "npy of deep nesting": header("(" * 60_000),
        "npy of negative rows": header("{'descr':'<f4','fortran_order':False,'shape':(-2,2)}\n"),
        "a pickle": pickle.dumps(Trap()),
    }


def _jsons() -> dict[str, bytes]:
    return {
        "deep lists": b"[" * 100_000,
        "deep lists that end": b"[" * 900 + b"]" * 900,
        "deep objects": b'{"a":' * 100_000,
        "a number of a million digits": b"[" + b"9" * 1_000_000 + b"]",
        "a pickle": pickle.dumps(Trap()),
        "NULs": bytes(1000),
        "UTF-16": '{"a": 1}'.encode("utf-16"),
        "infinity": b"[Infinity, NaN]",
    }


def _folders() -> dict[str, dict[str, bytes]]:
    """What encoders' folders name that must not be run or read."""

    def modules(*kinds: str, path: str = "") -> bytes:
        return json.dumps([{"type": kind, "path": path} for kind in kinds]).encode()

    code = b"import os; os.mkdir('ran')\n"
    auto = {"auto_map": {"AutoModel": "evil.Evil"}, "hidden_size": 4, "model_type": "evil"}
    return {
        "weights in a pickle": {"pytorch_model.bin": pickle.dumps(Trap())},
        "a module of its own": {"modules.json": modules("evil.Evil"), "evil.py": code},
        "a module outside": {
            "modules.json": modules("sentence_transformers.models.Transformer", path="../..")
        },
        "a module of the library's that is not run": {
            "modules.json": modules("sentence_transformers.models.CLIPModel")
        },
        "code named in its config": {"config.json": json.dumps(auto).encode(), "evil.py": code},
    }


def _archives() -> dict[str, bytes]:
    link = zipfile.ZipInfo("model/config.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    entries: dict[str, list[tuple[Any, bytes]]] = {
        "a member with ..": [("model/model.safetensors", b"w"), ("model/../../../ran/x.json", b"1")],
        "an absolute member": [("model/model.safetensors", b"w"), ("/ran/x.json", b"1")],
        "a member with backslashes": [("model/model.safetensors", b"w"), ("model\\..\\ran.json", b"1")],
        "a link": [("model/model.safetensors", b"w"), (link, b"/etc/passwd")],
        "100,000 members": [(f"model/{n}.json", b"") for n in range(100_000)],
        "other weights": [("model/model.safetensors", b"w")],
        "no weights": [("model/config.json", b"{}")],
    }
    found = {}
    for name, members in entries.items():
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for member, content in members:
                archive.writestr(member, content)
        found[name] = out.getvalue()
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/model.safetensors", b"w")
        archive.writestr("model/vocab.txt", bytes(20_000_000))
    lies = bytearray(bomb.getvalue())
    for place in range(len(lies) - 4):  # it says 100 bytes where 20 MB are
        if lies[place : place + 4] == struct.pack("<I", 20_000_000):
            lies[place : place + 4] = struct.pack("<I", 100)
    huge = bomb.getvalue().replace(struct.pack("<I", 20_000_000), struct.pack("<I", 0xFFFF_FFF0))
    return {
        **found,
        "sizes that lie": bytes(lies),
        "members of 4 GB each": huge,
        "cut off": found["other weights"][:-9],
    }


def _params() -> dict[str, str]:
    laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
    )
    return {
        "a command as a tag": "datasets: !!python/object/apply:os.mkdir [ran]\n",
        "a module as a tag": "datasets: !!python/module:evil\n",
        "a new object as a tag": "!!python/object/new:os.mkdir [ran]\n",
        "a billion laughs": laughs,
        "a billion laughs as a value": laughs + "datasets: *a9\n",
        "a billion laughs as a key": laughs + "stages: *a9\n",
        "a list that holds itself": "datasets: &a [*a]\nstages: &b {outs: *b}\n",
        "deep lists": "datasets: " + "[" * 10_000,
        "deep lists that end": "datasets: " + "[" * 2_000 + "]" * 2_000 + "\n",
        "a merge of itself": "a: &a\n  <<: *a\n",
        "a number of a million digits": f"model: {{K: {'9' * 1_000_000}}}\n",
        "a NUL": "datasets: [\0]\n",
        "a date that is none": "datasets: [2000-99-99]\n",
        "a number in base 60": f"datasets: [{'1:' * 20_000}1]\n",
    }


def _pictures() -> dict[str, bytes]:
    from pal.encoders.picture_files import PNG

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def png(width: int, height: int, rows: bytes) -> bytes:
        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return PNG + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

    return {
        "30,000 x 30,000 pixels": png(30_000, 30_000, bytes(1000)),
        "more rows than it says": png(4, 4, bytes(4 * 13 - 13)),
        "an SVG that names a file": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "a pickle": pickle.dumps(Trap()),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n",
        "HTML": b"<html><script>1</script></html>",
        "a JPEG without end": b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(64),
        "a length past the end": PNG + struct.pack(">I", 0xFFFF_FFFF) + b"IHDR",
    }


def _files() -> dict[str, tuple[str, Callable[[], bytes]]]:
    head = b"user_id,prompt,chosen,rejected\n"
    return {
        "a CSV of NULs": ("own.csv", lambda: head + bytes(10_000)),
        "a CSV with one endless quote": ("own.csv", lambda: head + b'"' + b"x" * 5_000_000),
        "a CSV of 100,000 columns": ("own.csv", lambda: b"user_id," * 100_000 + b"\nx\n"),
        "Parquet of 210 million rows": ("own.parquet", lambda: _parquet(210_000_000)),
        "Parquet of huge cells": ("own.parquet", lambda: _parquet_of_cells(100_000, 1_000_000)),
        "Parquet whose footer is a pickle": (
            "own.parquet",
            lambda: b"PAR1" + pickle.dumps(Trap()) + b"\x20\0\0\0PAR1",
        ),
        "Parquet with a footer of 4 GB": (
            "own.parquet",
            lambda: b"PAR1" + bytes(99) + b"\xff\xff\xff\xffPAR1",
        ),
    }


def _parquet(rows: int) -> bytes:
    """A file of some KB of so many rows in which nothing stands."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    table = pa.table(dict.fromkeys(("user_id", "prompt", "chosen", "rejected"), pa.nulls(10_000_000)))
    with pq.ParquetWriter(out, table.schema) as writer:
        for _ in range(rows // len(table)):
            writer.write_table(table, row_group_size=len(table))
    return out.getvalue()


def _parquet_of_cells(rows: int, length: int) -> bytes:
    """So many rows of one long text, which is stored once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    same = pa.DictionaryArray.from_arrays(_zeros(rows), pa.array(["x" * length]))
    table = pa.table(dict.fromkeys(("user_id", "prompt", "chosen", "rejected"), same))
    pq.write_table(table, out, compression="zstd", dictionary_pagesize_limit=1 << 30)
    return out.getvalue()


def _zeros(rows: int) -> Any:
    import numpy as np
    import pyarrow as pa

    return pa.array(np.zeros(rows, np.int32))


def _saved(name: str, content: bytes) -> None:
    """A saved model one of whose files is this, its hash as the model gives it."""
    import hashlib

    from pal.saved import SavedModel
    from pal.storage import seal

    folder = _model().files[0].parent
    (folder / name).write_bytes(content)
    if name != "config.json":
        about = json.loads((folder / "config.json").read_bytes())
        about["sha256"][name] = hashlib.sha256(content).hexdigest()
        about["sha256"]["config.json"] = seal(about)
        (folder / "config.json").write_text(json.dumps(about))
    SavedModel.load(folder)


def _taste(content: bytes) -> None:
    from pal.taste import Taste

    Path("x.taste.json").write_bytes(content)
    Taste.load("x.taste.json")


def _vectors_in(name: str, content: bytes) -> None:
    from pipeline.datasets.own import vectors

    Path(name).write_bytes(content)
    Path("v.ids.txt").write_text("a\nb\n")
    vectors.read(vectors.find(str(Path(name).absolute())), {"a", "b"})


def _encoder(files: dict[str, bytes]) -> None:
    """A folder of a sentence-transformers model in which these files are others."""
    from pal import encoders

    folder = Path("encoder")
    folder.mkdir()
    modules = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
    usual = {
        "modules.json": json.dumps(modules).encode(),
        "config.json": json.dumps({"model_type": "bert", "hidden_size": 4, "vocab_size": 9}).encode(),
        **({} if "pytorch_model.bin" in files else {"model.safetensors": _safetensors({}, b"")}),
    }
    for name, content in {**usual, **files}.items():
        (folder / name).write_bytes(content)
    found = encoders.describe("sentence-transformers:evil/evil", str(folder))
    encoders.load(found).encode(["a text"])


def _package(content: bytes) -> None:
    from pal.encoders import package_zip

    Path("part").write_bytes(content)
    Path("out/new").mkdir(parents=True)
    package_zip._unpack("evil", [Path("part")], Path("out/new"), "model.safetensors", "0" * 64)


def _load_params(text: str) -> None:
    from pipeline import params

    Path("params.yaml").write_text(text, encoding="utf-8")
    params.load()


def _lock(text: str) -> None:
    from pipeline import promises

    Path("dvc.lock").write_text(f"{text}\nstages: 3\n", encoding="utf-8")
    list(promises.gather())


def _picture(content: bytes) -> None:
    from pal.encoders import pictures

    pictures.read(content)


def _table(name: str, content: bytes) -> None:
    from pipeline.datasets.own.files import read_rows

    Path(name).write_bytes(content)
    read_rows(name, Path(name))


def _command(name: str, content: bytes) -> None:
    from pal.commands.tables import Table

    name = name.replace("own", "t")
    Path(name).write_bytes(content)
    with Table(name, None, ("user_id", "prompt", "chosen")) as table:
        for number, _ in enumerate(table.batches(10)):
            if number > 2:
                raise PalError("as many rows as there are, some at a time")
