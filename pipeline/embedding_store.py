"""The store of finished embeddings, outside the repository: hours of encoding survive a killed run.

A store is keyed by all that shapes a vector: the encoder's files, the dtype, the device, the code that
encodes, and the libraries' versions. Its files are named by the sha256 of their own bytes and verified when
they are read, so that a flipped bit is an error and never another vector.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pal import temporaries
from pipeline import code, hashes, layout, shards
from pipeline.errors import PipelineError
from pipeline.files import new_file, write_json
from pipeline.shards import Embedder

if TYPE_CHECKING:
    import numpy as np

ABOUT = "about.json"
LIBRARIES = (
    "torch",
    "torchvision",
    "transformers",
    "sentence-transformers",
    "tokenizers",
    "open_clip_torch",
    "pillow",
)


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
        modules: The modules of ours whose code shapes the vectors, relative to the repository.
        root: The folder of all stores; None takes `layout.store()`.
    """

    def __init__(self, embedder: Embedder, device: str, modules: list[str], root: Path | None = None) -> None:
        self.embedder = embedder
        self._about = _about(embedder, device, modules)
        self.folder = (root or layout.store()) / "embeddings" / _key(self._about)

    def find(self, ids: "np.ndarray") -> Places:
        """Where items lie. One that lies in two files is taken from the first by name.

        Args:
            ids: Item ids as `shards.packed` gives them.

        Raises:
            PipelineError: If a file's bytes are not those that its name promises; it is removed.
        """
        import numpy as np

        files = sorted(self.folder.glob("*.parquet"))
        parts = [self._verified(path)[0] for path in files]
        file = np.full(len(ids), -1, dtype=np.int64)
        row = np.full(len(ids), -1, dtype=np.int64)
        if parts:
            there = np.concatenate(parts)
            sizes = [len(part) for part in parts]
            order = np.argsort(there, kind="stable")
            place = np.minimum(np.searchsorted(there, ids, sorter=order), len(there) - 1)
            found = there[order[place]] == ids
            at = order[place[found]]
            starts = np.cumsum([0, *sizes])
            file[found] = np.searchsorted(starts, at, side="right") - 1
            row[found] = at - starts[file[found]]
        return Places(files, file, row)

    def add(self, ids: "np.ndarray | list[str]", vectors: "np.ndarray") -> None:
        """Keep vectors, under a name that appears when the file is whole."""
        if not (self.folder / ABOUT).exists():
            write_json(self.folder / ABOUT, self._about)
        with new_file(self.folder, name=lambda sha256: f"{sha256}.parquet") as out:
            shards.write_to(out, ids, vectors, self.embedder)

    def gather(self, places: Places, rows: int) -> Iterator["np.ndarray"]:
        """Vectors of found items in their order, in parts of at most so many rows.

        Each of the store's files is read once: its vectors go to the parts' places on disk first, since in
        the items' order nearly every part needs nearly every file.
        """
        import numpy as np

        parts = range(0, len(places.file), rows)
        if len(parts) <= 1:
            yield self._part(places, slice(None))
            return
        with temporaries.scratch(self.folder) as folder:
            spread = [folder / f"{number}" for number in range(len(parts))]
            self._spread(places, rows, spread)
            for number, start in enumerate(parts):
                count = min(rows, len(places.file) - start)
                out = np.empty((count, self.embedder.dim), dtype=self._dtype)
                records = np.fromfile(spread[number], dtype=self._record)
                out[records["to"]] = records["vector"]
                spread[number].unlink()
                yield out

    @property
    def _dtype(self) -> Any:
        import numpy as np

        return np.dtype(self.embedder.dtype).newbyteorder("<")

    @property
    def _record(self) -> Any:
        import numpy as np

        return np.dtype([("to", "<i8"), ("vector", self._dtype, (self.embedder.dim,))])

    def _part(self, places: Places, rows: slice) -> "np.ndarray":
        import numpy as np

        file, row = places.file[rows], places.row[rows]
        out = np.empty((len(file), self.embedder.dim), dtype=self._dtype)
        for number in np.unique(file):
            to = np.flatnonzero(file == number)
            out[to] = self._verified(places.files[number])[1][row[to]]
        return out

    def _spread(self, places: Places, rows: int, spread: list[Path]) -> None:
        import numpy as np

        order = np.argsort(places.file, kind="stable")
        bounds = np.searchsorted(places.file[order], np.arange(len(places.files) + 1))
        for number, path in enumerate(places.files):
            wanted = order[bounds[number] : bounds[number + 1]]
            if not len(wanted):
                continue
            records = np.empty(len(wanted), dtype=self._record)
            records["vector"] = self._verified(path)[1][places.row[wanted]]
            records["to"] = wanted % rows
            part = wanted // rows  # ascending, since `wanted` is
            edges = np.searchsorted(part, np.arange(len(spread) + 1))
            for i, target in enumerate(spread):
                if edges[i] < edges[i + 1]:
                    with target.open("ab") as out:
                        records[edges[i] : edges[i + 1]].tofile(out)

    def _verified(self, path: Path) -> tuple["np.ndarray", "np.ndarray"]:
        if hashes.sha256(path) != path.stem:
            path.unlink()
            raise PipelineError(
                f"{path} was damaged and has been removed; run the stage again, and it is encoded anew"
            )
        ids, vectors, _ = shards.read(path)
        return ids, vectors


def _about(embedder: Embedder, device: str, modules: list[str]) -> dict[str, Any]:
    """All that shapes a vector."""
    root = Path(__file__).parents[1]
    return {
        "embedder": asdict(embedder),
        "device": device,
        "code": [code.fingerprint(root, Path(module)) for module in modules],
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }


def _key(about: dict[str, Any]) -> str:
    """A short hash of all that shapes a vector, after the encoder's name."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    name = "".join(c if c.isalnum() or c in ".-_" else "-" for c in about["embedder"]["encoder"])
    return f"{name[:60]}-{digest[:16]}"
