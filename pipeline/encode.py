"""encode: run the frozen encoder over every distinct item once, into Parquet shards.

Vectors go into the store batch group by batch group, so a killed run loses one group at most, and content
that another dataset or experiment encoded is not encoded again. Batches are a fixed function of the full
list of items, so that a resumed run gives the same bytes.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pal import encoders
from pal.errors import PalError
from pipeline import layout, params, progress, shards, tables
from pipeline.devices import pick
from pipeline.errors import PipelineError
from pipeline.files import new_folder
from pipeline.params import Params
from pipeline.shards import Embedder
from pipeline.store import EmbeddingStore

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

GROUP_ROWS = 512


def main(dataset: str) -> None:
    """Encode one dataset's items."""
    values = params.load()
    path = layout.recoloured(dataset) / tables.ITEMS
    items = tables.read_table(path, f"recolour@{dataset}").sort("item_id")
    name = getattr(values.encoder, dataset)
    if name == "none":
        vectors, embedder = _given(items, dataset)
    else:
        vectors, embedder = _encoded(items, name, values)
    ids = items["item_id"].to_list()
    with new_folder(layout.embeddings(dataset)) as folder:
        for number, start in enumerate(range(0, len(ids), values.encode.shard_rows)):
            rows = slice(start, start + values.encode.shard_rows)
            shards.write(folder / f"shard-{number:05d}.parquet", ids[rows], vectors[rows], embedder)


def _given(items: "pl.DataFrame", dataset: str) -> tuple["np.ndarray", Embedder]:
    """Items that are vectors already."""
    import numpy as np

    if (items["modality"] != "vector").any():
        raise PipelineError(f"encoder.{dataset} must name an encoder: not all items are vectors, got 'none'")
    vectors = np.array(items["vector"].to_list(), dtype=np.float32)
    print(f"encode@{dataset}: {len(items):,} items are vectors already")
    return vectors, Embedder("none", "", "", vectors.shape[1], "float32", "as given")


def _encoded(items: "pl.DataFrame", name: str, values: Params) -> tuple["np.ndarray", Embedder]:
    device = pick(values.encode.device, "encode.device")
    weights = values.encode.weights
    if weights not in ("package", "hub"):
        weights = str(layout.project_root() / weights)
    try:
        described = encoders.describe(name, weights)
    except PalError as error:
        raise PipelineError(str(error)) from None
    embedder = Embedder(
        name, described.weights_sha256, described.files_sha256, described.dim, values.encode.dtype,
        described.preprocessing,
    )  # fmt: skip
    store = EmbeddingStore(embedder, device, described.module)
    ids, texts = items["item_id"].to_list(), items["text"].to_list()
    missing = set(ids) - set(store.find(set(ids)))
    print(f"encode: {len(ids):,} items, {len(ids) - len(missing):,} in the store, {len(missing):,} to encode")
    if missing:
        encoder = encoders.load(described, device)
        _fill(store, encoder, ids, texts, missing, values.encode.tokens_per_batch)
    return store.read(store.find(set(ids)), ids), embedder


def _fill(
    store: EmbeddingStore,
    encoder: encoders.TextEncoder,
    ids: list[str],
    texts: list[str],
    missing: set[str],
    budget: int,
) -> None:
    """Encode the groups that hold a missing item, and keep what was missing."""
    import numpy as np

    with progress.bar(len(missing), "encode", "item") as bar:
        for group in groups(batches(encoder.lengths(texts), ids, budget)):
            wanted = [row for batch in group for row in batch if ids[row] in missing]
            if not wanted:
                continue
            rows = [row for batch in group for row in batch]
            parts = [encoder.encode([texts[row] for row in batch]) for batch in group]
            place = {row: at for at, row in enumerate(rows)}
            vectors = np.concatenate(parts)[[place[row] for row in wanted]]
            store.add([ids[row] for row in wanted], vectors)
            bar.update(len(wanted))


def batches(lengths: list[int], ids: list[str], budget: int) -> Iterator[list[int]]:
    """Rows in batches of like length, at most `budget` tokens with padding (or a single long row).

    A function of the full list alone, ordered by length and then id: what is already in the store changes
    no batch.
    """
    batch: list[int] = []
    for row in sorted(range(len(ids)), key=lambda row: (lengths[row], ids[row])):
        if batch and lengths[row] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def groups(batched: Iterator[list[int]], rows: int = GROUP_ROWS) -> Iterator[list[list[int]]]:
    """Batches in groups of about `rows` items: what one file of the store holds, and a kill can lose."""
    group: list[list[int]] = []
    count = 0
    for batch in batched:
        group.append(batch)
        count += len(batch)
        if count >= rows:
            yield group
            group, count = [], 0
    if group:
        yield group
