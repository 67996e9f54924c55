"""encode: run the frozen encoder over every distinct item once, into Parquet shards.

Vectors go into the store group by group, so a killed run loses one group at most, and content that another
dataset or experiment encoded is not encoded again. Batches are a fixed function of the full list of items, so
that a resumed run gives the same bytes. Each modality has a folder of shards of its own.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pal import encoders
from pal.encoders.vector_store import Embedder, EmbeddingStore, packed, write_shard
from pal.files import new_folder
from pipeline import PipelineError, params, paths
from pipeline.datasets import DATASETS
from pipeline.datasets.base import EncoderByModality
from pipeline.encoding import images, jobs, texts
from pipeline.encoding.jobs import Job, Share
from pipeline.params import Params
from pipeline.storage import raw_files, tables
from pipeline.storage.tables import write_manifest

FILL = {"text": texts.fill, "image": images.fill}


def main(dataset: str, rank: int | None = None, world: int | None = None) -> None:
    """Encode one dataset's items.

    Args:
        dataset: Its name.
        rank: Encode this share of them into the store, and nothing else: the run without ranks that follows
            writes the shards, and encodes what a rank that never came left out.
        world: How many shares there are.
    """
    values = params.load()
    share = jobs.share_of(rank, world)
    items = jobs.read_items(paths.prepared(dataset) / tables.ITEMS, f"prepare@{dataset}")
    if "image" in items:
        raw_files.renew(dataset, lambda: DATASETS[dataset].find(values))
    to_do = _jobs(dataset, items, values, share)
    if share.world > 1:
        encode_share(dataset, to_do, values, share)
        return
    if values.encode.engine == "ray" and any(job.missing.any() for job in to_do.values()):
        jobs.encode_with_ray(__name__, dataset, _device(values))
        to_do = _jobs(dataset, items, values, share)
    bad: list[pl.DataFrame] = []
    modalities: dict[str, Any] = {}
    with new_folder(paths.embeddings(dataset)) as folder:
        for modality, of_modality in items.items():
            if job := to_do.get(modality):
                bad.append(_fill(job, values))
                places = job.store.find(job.ids)
                ids, embedder = job.ids[~places.missing], job.store.embedder
                parts = job.store.gather(places, values.encode.shard_rows, folder)
            else:
                ids = packed(of_modality["item_id"].to_list())
                embedder, parts = _given(of_modality, modality, dataset, values.encode.shard_rows)
            (folder / modality).mkdir()
            starts = range(0, max(1, len(ids)), values.encode.shard_rows)
            for number, (start, vectors) in enumerate(zip(starts, parts, strict=True)):
                path = folder / modality / f"shard-{number:05d}.parquet"
                write_shard(path, ids[start : start + len(vectors)], vectors, embedder)
            modalities[modality] = {"in": len(of_modality), "out": len(ids), "encoder": asdict(embedder)}
        jobs.write_dropped(folder / "dropped.csv", bad)
        counts = {
            "read": sum(about["in"] for about in modalities.values()),
            "kept": sum(about["out"] for about in modalities.values()),
            "dropped": sum(map(len, bad)),
        }
        reasons = dict(Counter(reason for items in bad for reason in items["reason"]).most_common())
        write_manifest(folder, counts, reasons=reasons, modalities=modalities)


def encode_share(dataset: str, to_do: dict[str, Job], values: Params, share: Share) -> None:
    """Encode a share of a dataset's items into the store, and write nothing else."""
    for modality, job in to_do.items():
        _fill(job, values)
        count = int((~job.store.find(job.ids).missing).sum())
        print(f"encode@{dataset}: {count:,} of {len(job.ids):,} {modality} items in the store")
    rank = f"rank {share.rank} of {share.world} ({share.origin})"
    last = f"`python -m pipeline encode {dataset} --world 1` or `dvc repro`"
    print(f"encode@{dataset}: {rank} is done; once all are, run {last}")


def _fill(job: Job, values: Params) -> pl.DataFrame:
    """Put a share of what is missing into the store; the items that could not be encoded, and the `reason`.

    Raises:
        PipelineError: If an item cannot be encoded and is not to be skipped.
    """
    dataset, count = job.dataset, int(job.missing.sum())
    stored = f"{len(job.ids) - count:,} in the store, {count:,} to encode"
    print(f"encode@{dataset}: {len(job.ids):,} {job.modality} items, {stored}")
    faults: dict[int, str] = {}
    if count:
        device = _device(values)
        if device == "cuda":
            jobs.use_own_gpu()
        faults = FILL[job.modality](job, encoders.load(job.encoder, device), values.encode)
    rows = pl.Series(list(faults), dtype=pl.UInt32)
    bad = job.items[rows].with_columns(reason=pl.Series(list(faults.values()), dtype=pl.String))
    if faults and values.encode.on_bad_item == "fail":
        first = bad.row(0, named=True)
        files = [] if first["file"] is None else raw_files.read_manifest(dataset).files
        item = jobs.describe_item(first, {file.sha256: file.name for file in files})
        more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        raise PipelineError(
            f"{item} of {dataset}{more} cannot be encoded: {first['reason']}; mend it, or set "
            "encode.on_bad_item to skip"
        )
    for reason, number in Counter(bad["reason"]).most_common(5):
        print(f"encode@{dataset}: {number:,} items skipped: {reason}")
    return bad


def _jobs(dataset: str, items: dict[str, pl.DataFrame], values: Params, share: Share) -> dict[str, Job]:
    """By modality what there is to do; nothing for vectors, or where no encoder is named."""
    found, options, by_modality = {}, values.encode, values[dataset].encoder
    for modality, of_modality in items.items():
        name = by_modality
        if isinstance(by_modality, EncoderByModality):
            name = getattr(by_modality, modality, "none")
        if modality == "vector" or name == "none":
            continue
        weights = options.weights.get(encoders.plain_name(name), "hub")
        if weights not in ("package", "hub"):
            weights = str(paths.project_root() / Path(weights).expanduser())
        engine = "torch" if options.engine == "ray" else options.engine
        described = encoders.describe(name, weights, precision=options.precision, engine=engine)
        if modality not in described.modalities:
            reads = " and ".join(described.modalities)
            raise PipelineError(
                f"{dataset}.encoder in {paths.PARAMS} must read the {modality} items of {dataset}, "
                f"got {name!r}, which reads {reads}; name another, or one per modality"
            )
        embedder = Embedder.from_described(described, options.dtype)
        store = EmbeddingStore(embedder, _device(values), libraries=described.libraries)
        raw_files.record_use(dataset, modality, store.folder.name)
        ids = packed(of_modality["item_id"].to_list())
        missing = store.find(ids).missing
        found[modality] = Job(dataset, modality, of_modality, described, store, ids, missing, share)
    return found


def _device(values: Params) -> str:
    if values.encode.device == "cpu":
        return "cpu"  # without torch, which takes seconds to import: a full store needs none of it
    from pipeline.study import pick_device

    return pick_device(values.encode.device, "encode.device")


def _given(
    items: pl.DataFrame, modality: str, dataset: str, rows: int
) -> tuple[Embedder, Iterator[np.ndarray]]:
    """Items that are vectors already."""
    if modality != "vector":
        raise PipelineError(f"{dataset}.encoder must name an encoder: not all items are vectors, got 'none'")
    lists = items["vector"]
    width = len(lists[0])
    print(f"encode@{dataset}: {len(lists):,} items are vectors already")
    vectors = lists.explode().to_numpy().reshape(len(lists), width).astype(np.float32)
    parts = (vectors[start : start + rows] for start in range(0, len(vectors), rows))
    return Embedder("none", "", "", width, "float32", "as given", "none", "float32"), parts
