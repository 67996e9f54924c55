"""The store of finished embeddings, outside the repository: hours of encoding survive a killed run.

A store is keyed by all that shapes a vector: the encoder's files, the dtype, the device, the libraries'
versions, and `encoders.ENCODING_VERSION`, which is raised by hand when code changes vectors. Its files are
named by the sha256 of their own bytes and verified when they are read, so that a flipped bit is an error and
never another vector.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pal.encoders import ENCODING_VERSION
from pal.files import sha256_of, write_bytes, write_json
from pipeline import paths
from pipeline.errors import PipelineError
from pipeline.storage import gathering, shards
from pipeline.storage.shards import Embedder

if TYPE_CHECKING:
    import numpy as np

ABOUT = "about.json"
THREADS = 2  # that look into files at once: more than a disk or a small machine serves better
LIBRARIES = (
    "torch",
    "torchvision",
    "transformers",
    "sentence-transformers",
    "tokenizers",
    "open_clip_torch",
    "pillow",
)
OF_ENGINE = {"onnx": ("onnx", "onnxruntime")}


@dataclass(frozen=True)
class Places:
    """Where items lie in the store.

    Args:
        files: The store's files.
        file: Each item's file, as its place in `files`; -1 where it is not in the store.
        row: Its row in that file.
    """

    files: list[Path]
    file: "np.ndarray"
    row: "np.ndarray"

    @property
    def missing(self) -> "np.ndarray":
        """Which items are not in the store."""
        return self.file < 0


class EmbeddingStore:
    """Finished vectors by item id, for one encoder as it runs here.

    Args:
        embedder: The encoder, and how its vectors are stored.
        device: cpu or cuda: they do not agree to the last bit.
        root: The folder of all stores; None takes `paths.store()`.
    """

    def __init__(self, embedder: Embedder, device: str, root: Path | None = None) -> None:
        import numpy as np

        self.embedder = embedder
        self._about = _about(embedder, device)
        self.folder = (root or paths.store()) / "embeddings" / _key(self._about)
        self._dtype = np.dtype(embedder.dtype).newbyteorder("<")
        self._ids: dict[str, np.ndarray] = {}  # by file name, of those that were looked into
        self._looks: dict[str, tuple[int, int, int]] = {}  # how they looked when they were verified

    def find(self, ids: "np.ndarray") -> Places:
        """Where items lie. One that lies in two files is taken from the first by name.

        Args:
            ids: Item ids as `shards.packed` gives them.

        Raises:
            PipelineError: If a file's bytes are not those that its name promises; it is removed.
        """
        import numpy as np

        names = sorted(self._names())
        with ThreadPoolExecutor(THREADS) as pool:  # hashing leaves Python to the other threads
            parts = list(pool.map(self._ids_of, names))
        file = np.full(len(ids), -1, dtype=np.int32)
        row = np.full(len(ids), -1, dtype=np.int32)
        if parts and len(ids):
            place = _first_places(np.concatenate(parts), ids)
            found = np.flatnonzero(place >= 0)
            starts = np.cumsum([0, *map(len, parts)])
            file[found] = np.searchsorted(starts, place[found], side="right") - 1
            row[found] = place[found] - starts[file[found]]
        return Places([self.folder / name for name in names], file, row)

    def news(self) -> Iterator["np.ndarray"]:
        """Ids of what others have put here since this store was last looked at, file by file."""
        for name in sorted(set(self._names()) - self._ids.keys()):
            yield self._ids_of(name)

    def add(self, ids: "np.ndarray | list[str]", vectors: "np.ndarray") -> None:
        """Keep vectors, under a name that appears when the file is whole.

        Raises:
            PipelineError: If a vector is not finite, or the store cannot be written.
        """
        names = shards.packed(ids)
        if not (self.folder / ABOUT).exists():
            write_json(self.folder / ABOUT, self._about)
        out = io.BytesIO()
        shards.write_to(out, names, vectors, self.embedder)
        name = f"{hashlib.sha256(out.getbuffer()).hexdigest()}.parquet"
        write_bytes(self.folder / name, out.getbuffer())
        self._ids[name] = names

    def gather(self, places: Places, rows: int) -> Iterator["np.ndarray"]:
        """Vectors of found items in their order, in parts of at most so many rows.

        Raises:
            PipelineError: If a file's bytes are not those that its name promises; it is removed.
        """
        shape = (self.embedder.dim, self._dtype)
        return gathering.gather(
            lambda number: self._vectors(places.files[number]),
            places.file, places.row, rows, shape, self.folder,
        )  # fmt: skip

    def _names(self) -> list[str]:
        try:
            with os.scandir(self.folder) as entries:
                names = [entry.name for entry in entries]
        except FileNotFoundError:
            return []
        return [name for name in names if name.endswith(".parquet") and not name.startswith(".")]

    def _ids_of(self, name: str) -> "np.ndarray":
        self._verify(self.folder / name)
        if name not in self._ids:
            self._ids[name] = shards.read_ids(self.folder / name)
        return self._ids[name]

    def _vectors(self, path: Path) -> "np.ndarray":
        self._verify(path)
        return shards.read(path)[1]

    def _verify(self, path: Path) -> None:
        """Hold a file's bytes to its name, once for as long as it looks untouched.

        Raises:
            PipelineError: If they are others, or the file is gone.
        """
        try:
            about = path.stat()
            looks = (about.st_size, about.st_mtime_ns, about.st_ino)
            if self._looks.get(path.name) == looks:
                return
            found = sha256_of(path)  # in truth, not as remembered: bits that rot leave size and time
        except OSError as error:
            raise PipelineError(
                f"{path} could not be read ({error.strerror}); run the stage again, and what is missing is "
                "encoded anew"
            ) from None
        if found != path.stem:
            raise PipelineError(_removed(path))
        self._looks[path.name] = looks


def _removed(path: Path) -> str:
    """Remove a damaged file, and say so."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return f"{path} is damaged and could not be removed ({error.strerror}); remove it, and run again"
    return f"{path} was damaged and has been removed; run the stage again, and it is encoded anew"


def _first_places(there: "np.ndarray", ids: "np.ndarray") -> "np.ndarray":
    """Where each id stands first in an unordered list; -1 where it does not.

    By the first half of an id, as a number, which sorts many times as fast; ids that agree in it alone are
    so rare that then whole ids are compared.
    """
    import numpy as np

    short, wanted = shards.halves(there), shards.halves(ids)
    order = np.argsort(short, kind="stable")
    same = short[order[1:]] == short[order[:-1]]
    if (there[order[1:][same]] != there[order[:-1][same]]).any():
        short, wanted = there, ids
        order = np.argsort(short, kind="stable")
    place = order[np.minimum(np.searchsorted(short[order], wanted), len(there) - 1)]
    place[there[place] != ids] = -1
    return place


def _about(embedder: Embedder, device: str) -> dict[str, Any]:
    """All that shapes a vector."""
    libraries = LIBRARIES + OF_ENGINE.get(embedder.engine, ())
    return {
        "embedder": asdict(embedder),
        "device": device,
        "encoding_version": ENCODING_VERSION,
        "libraries": {name: metadata.version(name) for name in libraries},
    }


def _key(about: dict[str, Any]) -> str:
    """A short hash of all that shapes a vector, after the encoder's name."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    name = "".join(c if c.isalnum() or c in ".-_" else "-" for c in about["embedder"]["encoder"])
    return f"{name[:60]}-{digest[:16]}"
