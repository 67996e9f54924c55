"""The shards of embeddings that the stage encode wrote, and what reads and writes them (`pal.encoders`)."""

from pathlib import Path

import numpy as np

from pal.encoders.vector_store import (
    Embedder,
    EmbeddingStore,
    Places,
    first_places,
    packed,
    read_shard,
    unpacked,
    write_shard,
)
from pal.errors import PalError
from pipeline import PipelineError
from pipeline.storage import manifests

__all__ = [
    "Embedder",
    "EmbeddingStore",
    "Places",
    "first_places",
    "packed",
    "read_shard",
    "read_shards",
    "unpacked",
    "write_shard",
]
PATTERN = "shard-*.parquet"


def read_shards(folder: Path, made_by: str) -> tuple[np.ndarray, np.ndarray, Embedder]:
    """Read all shards of a folder, in the order of their names, checked against the manifest above it.

    Raises:
        PipelineError: If there are none, or one is damaged; `made_by` names the stage to run again.
    """
    manifests.check_folder(folder, PATTERN, made_by)
    paths = sorted(folder.glob(PATTERN))
    if not paths:
        raise PipelineError(f"{folder} holds no embeddings; run `dvc repro {made_by}`")
    try:
        shards = [read_shard(path) for path in paths]
    except PalError as error:
        raise PipelineError(f"{error}; run `dvc repro -f {made_by}`") from None
    if len(shards) == 1:
        return shards[0]
    ids, vectors, embedders = zip(*shards, strict=True)
    return np.concatenate(ids), np.concatenate(vectors), embedders[0]
