"""encode: run the frozen encoder over every distinct item once, into Parquet shards.

Vectors go into the store batch group by batch group, so a killed run loses one group at most, and content
that another dataset or experiment encoded is not encoded again. Batches are a fixed function of the full
list of items, so that a resumed run gives the same bytes. Each modality has a folder of shards of its own.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pal import encoders
from pipeline import encode_images, encode_texts, layout, params, raw, shards, tables, uses
from pipeline.bad_items import BadItem, dropped_csv
from pipeline.devices import pick
from pipeline.embedding_store import EmbeddingStore
from pipeline.errors import PipelineError
from pipeline.files import new_folder
from pipeline.knobs import ByModality
from pipeline.manifest import write as write_manifest
from pipeline.params import Params
from pipeline.shards import Embedder

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

FILLED = {"text": encode_texts, "image": encode_images}


def main(dataset: str) -> None:
    """Encode one dataset's items."""
    values = params.load()
    path = layout.recoloured(dataset) / tables.ITEMS
    items = tables.read_table(path, f"recolour@{dataset}").sort("item_id")
    bad: list[BadItem] = []
    about: dict[str, Any] = {}
    with new_folder(layout.embeddings(dataset)) as folder:
        for modality in tables.MODALITIES:
            part = items.filter(items["modality"] == modality)
            if part.is_empty():
                continue
            embedder, ids, vectors, faults = _embed(part, modality, dataset, values)
            bad += faults
            _write(folder / modality, ids, vectors, embedder, values.encode.shard_rows)
            about[modality] = {"in": len(part), "out": len(ids), "encoder": asdict(embedder)}
        dropped_csv(folder / "dropped.csv", bad)
        _write_manifest(folder, len(items), about, bad)


def _embed(
    items: "pl.DataFrame", modality: str, dataset: str, values: Params
) -> tuple[Embedder, "np.ndarray", Iterator["np.ndarray"], list[BadItem]]:
    """One modality's encoder, the ids that it encoded, their vectors in parts, and what it could not read."""
    name = _encoder_of(dataset, modality, values)
    if modality == "vector" or name == "none":
        return _given(items, name, dataset, values)
    device = pick(values.encode.device, "encode.device")
    described = _describe(name, values)
    if modality not in described.modalities:
        reads = " and ".join(described.modalities)
        raise PipelineError(
            f"encoder.{dataset} in {layout.PARAMS} must read the {modality} items of {dataset}, "
            f"got {name!r}, which reads {reads}; name another, or one per modality"
        )
    embedder = Embedder(
        name, described.weights_sha256, described.files_sha256, described.dim, values.encode.dtype,
        described.preprocessing, described.engine, described.precision,
    )  # fmt: skip
    filled = FILLED[modality]
    store = EmbeddingStore(embedder, device, [f"pal/encoders/{described.module}.py", *filled.SHAPES_VECTORS])
    ids = shards.packed(items["item_id"].to_list())
    missing = store.find(ids).missing
    count = int(missing.sum())
    stored = f"{len(ids) - count:,} in the store, {count:,} to encode"
    print(f"encode@{dataset}: {len(ids):,} {modality} items, {stored}")
    uses.record(dataset, modality, store.folder.name)
    bad: list[BadItem] = []
    if count:
        encoder = encoders.load(described, device)
        bad = filled.fill(store, encoder, items, missing, values.encode, dataset)
        _refuse(bad, dataset, values.encode.on_bad_item)
    places = store.find(ids)
    kept = ~places.missing
    places = type(places)(places.files, places.file[kept], places.row[kept])
    return embedder, ids[kept], store.gather(places, values.encode.shard_rows), bad


def _encoder_of(dataset: str, modality: str, values: Params) -> str:
    named = getattr(values.encoder, dataset)
    if isinstance(named, ByModality):
        return getattr(named, modality, "none")
    return named


def _describe(name: str, values: Params) -> encoders.Described:
    weights = values.encode.weights.get(name, "hub")
    if weights not in ("package", "hub"):
        weights = str(layout.project_root() / Path(weights).expanduser())
    return encoders.describe(name, weights, precision=values.encode.precision, engine=values.encode.engine)


def _given(
    items: "pl.DataFrame", name: str, dataset: str, values: Params
) -> tuple[Embedder, "np.ndarray", Iterator["np.ndarray"], list[BadItem]]:
    """Items that are vectors already."""
    import numpy as np

    if (items["modality"] != "vector").any():
        raise PipelineError(f"encoder.{dataset} must name an encoder: not all items are vectors, got 'none'")
    widths = items["vector"].list.len().unique().to_list()
    if len(widths) > 1:
        raise PipelineError(f"the vectors of {dataset} must be of one width, got {sorted(widths)}")
    vectors = items["vector"].explode().to_numpy().reshape(len(items), widths[0]).astype(np.float32)
    print(f"encode@{dataset}: {len(items):,} items are vectors already")
    embedder = Embedder("none", "", "", widths[0], "float32", "as given", "none", "float32")
    step = values.encode.shard_rows
    parts = (vectors[start : start + step] for start in range(0, len(vectors), step))
    return embedder, shards.packed(items["item_id"].to_list()), parts, []


def _refuse(bad: list[BadItem], dataset: str, on_bad_item: str) -> None:
    """Stop at items that cannot be encoded, unless they are to be skipped.

    Raises:
        PipelineError: Naming the first, and how many there are.
    """
    if not bad:
        return
    first = bad[0]
    more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
    if on_bad_item == "fail":
        files = [] if first.file is None else raw.read_manifest(dataset).files
        names = {file.sha256: file.name for file in files}
        raise PipelineError(
            f"{first.told(names)} of {dataset}{more} cannot be encoded: {first.reason}; mend it, or set "
            "encode.on_bad_item to skip"
        )
    for reason, count in Counter(item.reason for item in bad).most_common(5):
        print(f"encode@{dataset}: {count:,} items skipped: {reason}")


def _write(
    folder: Path, ids: "np.ndarray", parts: Iterator["np.ndarray"], embedder: Embedder, rows: int
) -> None:
    folder.mkdir()
    start = 0
    for number, vectors in enumerate(parts):
        names = ids[start : start + len(vectors)]
        shards.write(folder / f"shard-{number:05d}.parquet", names, vectors, embedder)
        start += len(vectors)


def _write_manifest(folder: Path, n_items: int, about: dict[str, Any], bad: list[BadItem]) -> None:
    """What went in, what came out, what was dropped and why."""
    kept = sum(part["out"] for part in about.values())
    reasons = dict(Counter(item.reason for item in bad).most_common())
    counts = {"read": n_items, "kept": kept, "dropped": len(bad)}
    write_manifest(folder, counts, reasons=reasons, modalities=about)
