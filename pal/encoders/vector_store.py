"""Embeddings on disk: Parquet shards of item ids and vectors, and the store of all that was ever encoded.

A shard is one row group of two fixed-size *binary* columns, item_id and embedding, little-endian: Parquet
has no fixed-size list, and its list column is many times slower to write and to read. Other tools see bytes;
`dim` and `dtype` in the schema's metadata say how to read them.

The store lies outside the repository, so that hours of encoding survive a killed run. Its key is all that
shapes a vector, the libraries' versions too. Its files are shards named by the sha256 of their bytes, which
are compared before they are used: a flipped bit is an error and never another vector.
"""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pal.encoders import ENCODING_VERSION, Described
from pal.errors import PalError, reason
from pal.files import new_file, sentence, sha256_of, store, write_bytes, write_json

METADATA = b"pal"
ID_BYTES = 16
BUFFER = 1 << 16  # bytes
BLOCK = 1 << 12  # vectors
ABOUT = "about.json"
THREADS = 2  # that hash files at once: more than a disk or a small machine serves better


@dataclass(frozen=True)
class Embedder:
    """Which encoder made vectors, and how: what stands in every shard's metadata.

    `encoder` is its name, `none` where items were vectors already; `dtype` is float32 or float16, as stored;
    the others are as in `Described`.
    """

    encoder: str
    weights_sha256: str
    files_sha256: str
    dim: int
    dtype: str
    preprocessing: str
    engine: str = "torch"
    precision: str = "float32"

    @classmethod
    def from_described(cls, about: Described, dtype: str = "float32") -> "Embedder":
        """What an encoder's description says of it."""
        shared = {field.name for field in fields(cls)} - {"encoder", "dtype"}
        return cls(encoder=about.name, dtype=dtype, **{name: getattr(about, name) for name in shared})

    @property
    def stored_dtype(self) -> np.dtype:
        """The vectors' type on disk."""
        return np.dtype(self.dtype).newbyteorder("<")


def item_id(modality: str, content: bytes) -> str:
    """The content hash that identifies an item, the same wherever it occurs: 32 hex digits."""
    return hashlib.sha256(modality.encode() + b"\0" + content).hexdigest()[:32]


def text_id(text: str) -> str:
    """The item id of a text."""
    return item_id("text", text.encode())


def image_id(
    file: str,
    row_group: int | None = None,
    row: int | None = None,
    column: str | None = None,
    filter: str | None = None,
) -> str:
    """The item id of an image: where its bytes lie, by content, and the filter that its pixels get.

    A file's sha256 pins its bytes, so what lies at a place in it never changes and need not be read here.
    """
    place = "|".join("" if part is None else str(part) for part in (file, row_group, row, column, filter))
    return item_id("image", place.encode())


def packed(ids: "list[str] | np.ndarray") -> np.ndarray:
    """Item ids as an array of 32 hex digits each, which sorts and searches as the texts do; checked."""
    try:
        array = np.asarray(ids, dtype="S") if len(ids) else np.empty(0, "S32")  # S32 would cut longer ones
        text = array.tobytes().decode("ascii")
        valid = array.dtype.itemsize == 2 * ID_BYTES and bytes.fromhex(text).hex() == text
    except ValueError:
        valid = False
    if not valid:
        raise PalError("item ids must be 32 hex digits; make them with item_id")
    return array


def unpacked(ids: np.ndarray) -> list[str]:
    """Item ids as texts."""
    return ids.astype("U32").tolist()


def write_shard(path: Path, ids: "list[str] | np.ndarray", vectors: np.ndarray, embedder: Embedder) -> None:
    """Write one shard of item ids and their vectors, (len(ids), dim), finite in the embedder's dtype."""
    with new_file(path) as out:
        _write(out, packed(ids), vectors, embedder)


def read_shard(path: Path) -> tuple[np.ndarray, np.ndarray, Embedder]:
    """Read one shard: ids (`packed`), vectors as (rows, dim) in their stored dtype, and what made them.

    Raises:
        PalError: If the file is damaged or no shard.
    """
    with _opened(path) as table:
        embedder = Embedder(**json.loads(table.schema.metadata[METADATA]))
        dtype = embedder.stored_dtype
        vectors = _bytes_of(table["embedding"], embedder.dim * dtype.itemsize).view(dtype)
        return _ids_of(table), vectors.reshape(-1, embedder.dim), embedder


class Places(NamedTuple):
    """Where items lie in the store: its files, and each item's file (-1 where it is in none) and row."""

    files: list[Path]
    file: np.ndarray
    row: np.ndarray

    @property
    def missing(self) -> np.ndarray:
        """Which items are not in the store."""
        return self.file < 0


class EmbeddingStore:
    """Finished vectors by item id, for one encoder as it runs on this machine.

    Devices do not agree to the last bit, nor may versions of the libraries that the encoder names: each has a
    store of its own. `root` is the folder of all stores, by default `store()`.
    """

    def __init__(
        self, embedder: Embedder, device: str, root: Path | None = None, libraries: tuple[str, ...] = ()
    ) -> None:
        self.embedder = embedder
        self._about = {
            "embedder": asdict(embedder),
            "device": device,
            "encoding_version": ENCODING_VERSION,
            "libraries": {name: metadata.version(name) for name in libraries},
        }
        digest = hashlib.sha256(json.dumps(self._about, sort_keys=True).encode()).hexdigest()
        name = "".join(c if c.isalnum() or c in ".-_" else "-" for c in embedder.encoder)
        self.folder = (root or store()) / "embeddings" / f"{name[:60]}-{digest[:16]}"
        self._ids: dict[str, np.ndarray] = {}  # of files that were verified, by name

    def find(self, ids: np.ndarray) -> Places:
        """Where items lie, by ids that are `packed`. One in two files is taken from the first by name.

        A file whose bytes are not those that its name promises is removed, and a PalError.
        """
        files = sorted(self.folder.glob("[!.]*.parquet"))
        with ThreadPoolExecutor(THREADS) as pool:  # hashing releases the interpreter's lock
            ids_of_files = list(pool.map(self._verified_ids, files))
        file = np.full(len(ids), -1, dtype=np.int32)
        row = np.full(len(ids), -1, dtype=np.int32)
        if files and len(ids):
            place = first_places(np.concatenate(ids_of_files), ids)
            known = np.flatnonzero(place >= 0)
            starts = np.cumsum([0, *map(len, ids_of_files)])
            file[known] = np.searchsorted(starts, place[known], side="right") - 1
            row[known] = place[known] - starts[file[known]]
        return Places(files, file, row)

    def add(self, ids: np.ndarray | list[str], vectors: np.ndarray) -> None:
        """Keep vectors, which must be finite, in a new file that is named by its hash."""
        names = packed(ids)
        out = io.BytesIO()
        _write(out, names, vectors, self.embedder)
        if not (self.folder / ABOUT).exists():
            write_json(self.folder / ABOUT, self._about)
        name = f"{hashlib.sha256(out.getbuffer()).hexdigest()}.parquet"
        write_bytes(self.folder / name, out.getbuffer())
        self._ids[name] = names

    def read(self, places: Places, table: np.ndarray) -> None:
        """Put the vectors of items that are all in the store into a table, (items, dim), file by file."""
        for number in np.unique(places.file):
            rows = np.flatnonzero(places.file == number)
            table[rows] = read_shard(places.files[number])[1][places.row[rows]]

    def gather(self, places: Places, rows: int, folder: Path) -> Iterator[np.ndarray]:
        """Vectors of those items that are in the store, in their order, in parts of at most so many rows.

        Nearly every part needs nearly every file. So each file is read once, into a file without a name in
        `folder`, which is gone with the process.
        """
        found = Places(places.files, *(x[~places.missing] for x in (places.file, places.row)))
        shape, dtype = (len(found.file), self.embedder.dim), self.embedder.stored_dtype
        if not shape[0]:
            yield np.empty(shape, dtype)
            return
        try:
            with tempfile.TemporaryFile(dir=folder) as spool:
                for _ in range(0, shape[0], BLOCK):  # room first: a full disk would kill a mapped write
                    spool.write(bytes(min(BLOCK, shape[0]) * shape[1] * dtype.itemsize))
                spool.flush()
                table = np.memmap(spool, dtype, "r+", shape=shape)
                self.read(found, table)
                yield from (table[start : start + rows] for start in range(0, shape[0], rows))
        except OSError as error:
            raise PalError(sentence(error, f"{folder} has no room for the vectors")) from None

    def _verified_ids(self, path: Path) -> np.ndarray:
        """A file's ids, after its bytes were compared with its name."""
        if path.name in self._ids:
            return self._ids[path.name]
        try:
            sha256 = sha256_of(path)
        except OSError as error:
            raise PalError(
                f"{path} could not be read ({error.strerror}); run the stage again, and what is missing is "
                "encoded anew"
            ) from None
        if sha256 != path.stem:
            with suppress(OSError):  # somebody else's
                path.unlink()
            gone = "is still there, so remove it" if path.exists() else "has been removed"
            raise PalError(f"{path} was damaged and {gone}; run the stage again, and it is encoded anew")
        with _opened(path, ["item_id"]) as table:
            self._ids[path.name] = _ids_of(table)
        return self._ids[path.name]


def first_places(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The first index of each id in an unordered list; -1 where it does not occur."""
    return pc.index_in(pa.array(ids), value_set=pa.array(known)).fill_null(-1).to_numpy()


def _write(out: io.BufferedIOBase, ids: np.ndarray, vectors: np.ndarray, embedder: Embedder) -> None:
    with np.errstate(over="ignore"):  # what overflows float16 is refused below
        stored = np.ascontiguousarray(vectors, dtype=embedder.stored_dtype)
    if not (finite := np.isfinite(stored).all(axis=1)).all():
        row = int(finite.argmin())
        raise PalError(
            f"the embedding of item {ids[row].decode()} must be finite in {embedder.dtype}, "
            "got NaN or infinity"
        )
    columns = {
        "item_id": (bytes.fromhex(ids.tobytes().decode("ascii")), ID_BYTES),
        "embedding": (stored.reshape(-1).view(np.uint8), embedder.dim * stored.dtype.itemsize),
    }
    schema = pa.schema(
        [pa.field(name, pa.binary(width), nullable=False) for name, (_, width) in columns.items()],
        metadata={METADATA: json.dumps(asdict(embedder), sort_keys=True).encode()},
    )
    arrays = [
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(ids), [None, pa.py_buffer(data)])
        for data, width in columns.values()
    ]
    pq.write_table(
        pa.Table.from_arrays(arrays, schema=schema), out, compression="none",
        use_dictionary=False, write_statistics=False, row_group_size=max(1, len(ids)),
    )  # fmt: skip


@contextmanager
def _opened(path: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """A shard's table; what is wrong with it, here or in the block, is one sentence."""
    try:
        # Through a small buffer: a column read whole is copied twice over memory that no cache holds.
        with (
            pa.OSFile(os.fspath(path)) as source,
            pq.ParquetFile(source, buffer_size=BUFFER, pre_buffer=False) as file,
        ):
            table = file.read(columns, use_threads=False)
        table.validate(full=True)
        yield table
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise PalError(f"{path} is not a whole shard of embeddings ({reason(error)})") from None


def _bytes_of(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """A fixed-size binary column's bytes; not copied where it is one chunk."""
    if column.type.byte_width != width:
        raise ValueError(f"entries of {column.type.byte_width} bytes in place of {width}")
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return np.frombuffer(whole.buffers()[1] or b"", np.uint8, len(whole) * width, whole.offset * width)


def _ids_of(table: pa.Table) -> np.ndarray:
    return np.frombuffer(_bytes_of(table["item_id"], ID_BYTES).tobytes().hex().encode("ascii"), "S32")
