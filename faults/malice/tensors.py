"""Files of tensors and arrays, none of which holds what it says."""

import io
import json
import pickle
import struct
from typing import Any

from faults.malice.traps import Trap


def tensors() -> dict[str, bytes]:
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
        "a header of 2^60 bytes": safetensors({}, length=1 << 60),
        "a header of 2^64 - 1 bytes": safetensors({}, length=(1 << 64) - 1),
        "a header of 200 MB that is not there": safetensors({}, length=200_000_000),
        "overlapping tensors": safetensors({**ids, **two}, bytes(24)),
        "a tensor past the end": safetensors(
            {**ids, "embeddings": _tensor(0, 1 << 40, [1 << 38])}, bytes(16)
        ),
        "a tensor that ends before its start": safetensors(
            {**ids, "embeddings": _tensor(16, 0, [2, 2])}, bytes(16)
        ),
        "a shape that overflows": safetensors(
            {**ids, "embeddings": _tensor(0, 16, [1 << 33, 1 << 33])}, bytes(16)
        ),
        "bytes that no tensor covers": safetensors({**ids, "embeddings": _tensor(0, 16, [2, 2])}, bytes(99)),
        "NaN": safetensors({**ids, "embeddings": _tensor(0, 16, [2, 2])}, nan),
        "100,000 names": safetensors({f"t{n}": _tensor(0, 0, [0]) for n in range(100_000)}),
        "deep nesting": safetensors(b'{"a":' + b"[" * 100_000, b""),
        "a name twice": safetensors(b'{"embeddings":%s,"embeddings":%s}' % ((b"[]",) * 2)),
        "an unknown type": safetensors({**ids, "embeddings": _tensor(0, 16, [2, 2], "EVIL")}, bytes(16)),
    }


def arrays() -> dict[str, bytes]:
    """Arrays of numpy's, with objects, code, or sizes that are not there."""
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


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file of a header and data; its length may be said otherwise."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
