"""The store of finished embeddings, outside the repository: hours of encoding survive a killed run.

A store is keyed by all that shapes a vector: the encoder's files, the dtype, the device, the code that
encodes, and the libraries' versions. Its files are named by the sha256 of their own bytes and verified when
they are read, so that a flipped bit is an error and never another vector.
"""

import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import code, layout, shards
from pipeline.errors import PipelineError
from pipeline.files import sha256_of
from pipeline.shards import Embedder

if TYPE_CHECKING:
    import numpy as np

LIBRARIES = ("torch", "transformers", "sentence-transformers", "tokenizers")


class EmbeddingStore:
    """Finished vectors by item id, for one encoder as it runs here.

    Args:
        embedder: The encoder, and how its vectors are stored.
        device: cpu or cuda: they do not agree to the last bit.
        module: The encoder's module in `pal.encoders`, whose code shapes the vectors.
        root: The folder of all stores; None takes `layout.store()`.
    """

    def __init__(self, embedder: Embedder, device: str, module: str, root: Path | None = None) -> None:
        self.embedder = embedder
        self.folder = (root or layout.store()) / "embeddings" / _key(embedder, device, module)

    def find(self, wanted: set[str]) -> dict[str, tuple[Path, int]]:
        """Where wanted items lie: file and row. An item in two files is taken from the first by name.

        Raises:
            PipelineError: If a file's bytes are not those that its name promises; it is removed.
        """
        found: dict[str, tuple[Path, int]] = {}
        for path in sorted(self.folder.glob("*.parquet")):
            for row, item in enumerate(self._verified(path)[0]):
                if item in wanted:
                    found.setdefault(item, (path, row))
        return found

    def add(self, ids: list[str], vectors: "np.ndarray") -> None:
        """Keep vectors, under a name that appears when the file is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        staging = self.folder / f"{hashlib.sha256(''.join(ids).encode()).hexdigest()[:32]}.new"
        shards.write(staging, ids, vectors, self.embedder)
        staging.replace(self.folder / f"{sha256_of(staging)}.parquet")

    def read(self, found: dict[str, tuple[Path, int]], ids: list[str]) -> "np.ndarray":
        """Vectors of items that `find` found, in the order asked for."""
        import numpy as np

        dtype = np.dtype(self.embedder.dtype).newbyteorder("<")
        out = np.empty((len(ids), self.embedder.dim), dtype=dtype)
        by_file: dict[Path, list[tuple[int, int]]] = {}
        for place, item in enumerate(ids):
            path, row = found[item]
            by_file.setdefault(path, []).append((place, row))
        for path, places in by_file.items():
            vectors = self._verified(path)[1]
            to, rows = np.array(places).T
            out[to] = vectors[rows]
        return out

    def _verified(self, path: Path) -> tuple[list[str], "np.ndarray"]:
        if sha256_of(path) != path.stem:
            path.unlink()
            raise PipelineError(
                f"{path} was damaged and has been removed; run the stage again, and it is encoded anew"
            )
        ids, vectors, _ = shards.read(path)
        return ids, vectors


def _key(embedder: Embedder, device: str, module: str) -> str:
    """A short hash of all that shapes a vector."""
    root = Path(__file__).parents[1]
    parts: dict[str, Any] = {
        "embedder": embedder.__dict__,
        "device": device,
        "code": code.fingerprint(root, Path(f"pal/encoders/{module}.py")),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"{embedder.encoder}-{digest[:16]}"
