"""Tables and pictures."""

import io
import pickle
import struct
import zlib
from collections.abc import Callable
from typing import Any

from faults.malice.traps import Trap


def pictures() -> dict[str, bytes]:
    """Pictures of too many pixels, or that are something else."""
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


def files() -> dict[str, tuple[str, Callable[[], bytes]]]:
    """Tables by their names, each made when it is asked for."""
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
