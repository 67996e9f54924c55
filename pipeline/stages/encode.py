"""encode: run the frozen encoder over every distinct item once, into Parquet shards.

Vectors go into the store group by group, so a killed run loses one group at most, and content that another
dataset or experiment encoded is not encoded again. Batches are a fixed function of the full list of items, so
that a resumed run gives the same bytes. Each modality has a folder of shards of its own.
"""

import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pal import encoders
from pal.encoders.vector_store import Embedder, EmbeddingStore, packed, write_shard
from pal.errors import shorten
from pal.files import new_folder, write_text
from pipeline import PipelineError, params, paths
from pipeline.datasets import DATASETS
from pipeline.datasets.base import EncoderByModality
from pipeline.encoding import images, jobs
from pipeline.encoding.jobs import Job, Share
from pipeline.params import Params
from pipeline.storage import raw_files, tables

DROPPED_COLUMNS = ("item_id", "modality", "file", "row_group", "row", "column", "reason")
ENCODE = {"text": jobs.encode_texts, "image": images.encode_images}


def main(dataset: str, rank: int | None = None, world: int | None = None) -> None:
    """Encode one dataset's items.

    With `rank` and `world` a share of them is encoded into the store, and nothing else: the run without ranks
    that follows writes the shards, and encodes what a rank that never came left out.
    """
    values = params.load()
    share = jobs.share_of(rank, world)
    table = tables.read_table(paths.prepared(dataset) / tables.ITEMS, f"prepare@{dataset}").sort("item_id")
    parts = {name: table.filter(table["modality"].cast(pl.String) == name) for name in tables.MODALITIES}
    items = {name: part for name, part in parts.items() if len(part)}
    if "image" in items:
        raw_files.renew(dataset, lambda: DATASETS[dataset].find(values))
    to_do = _jobs(dataset, items, values, share)
    if share.world > 1:
        for modality, job in to_do.items():
            _fill(job, values)
            count = int((~job.store.find(job.ids).missing).sum())
            print(f"encode@{dataset}: {count:,} of {len(job.ids):,} {modality} items in the store")
        last = f"`python -m pipeline encode {dataset} --world 1` or `dvc repro`"
        done = f"rank {share.rank} of {share.world} ({share.origin}) is done"
        print(f"encode@{dataset}: {done}; once all are, run {last}")
        return
    if values.encode.engine == "ray" and any(job.missing.any() for job in to_do.values()):
        jobs.encode_with_ray(__name__, dataset, _device(values))
        to_do = _jobs(dataset, items, values, share)
    bad = [pl.DataFrame(schema=dict.fromkeys(DROPPED_COLUMNS, pl.String))]
    modalities: dict[str, Any] = {}
    rows = values.encode.shard_rows
    with new_folder(paths.embeddings(dataset)) as folder:
        for modality, of_modality in items.items():
            if job := to_do.get(modality):
                bad.append(_fill(job, values).select(pl.col(DROPPED_COLUMNS).cast(pl.String)))
                places = job.store.find(job.ids)
                ids, embedder = job.ids[~places.missing], job.store.embedder
                parts = job.store.gather(places, rows, folder)
            elif modality == "vector":
                ids, lists = packed(of_modality["item_id"].to_list()), of_modality["vector"]
                print(f"encode@{dataset}: {len(ids):,} items are vectors already")
                table = lists.explode().to_numpy().reshape(len(ids), -1).astype(np.float32)
                parts = (table[start : start + rows] for start in range(0, len(ids), rows))
                embedder = Embedder("none", "", "", table.shape[1], "float32", "as given", "none", "float32")
            else:
                must = f"{dataset}.encoder must name an encoder"
                raise PipelineError(f"{must}: not all items are vectors, got 'none'")
            (folder / modality).mkdir()
            starts = range(0, max(1, len(ids)), rows)
            for number, (start, vectors) in enumerate(zip(starts, parts, strict=True)):
                path = folder / modality / f"shard-{number:05d}.parquet"
                write_shard(path, ids[start : start + len(vectors)], vectors, embedder)
            modalities[modality] = {"in": len(of_modality), "out": len(ids), "encoder": asdict(embedder)}
        dropped = pl.concat(bad)
        write_text(folder / "dropped.csv", dropped.write_csv())
        n_read, n_kept = (sum(about[key] for about in modalities.values()) for key in ("in", "out"))
        counts = {"read": n_read, "kept": n_kept, "dropped": len(dropped)}
        reasons = dict(Counter(dropped["reason"]).most_common())
        tables.write_manifest(folder, counts, reasons=reasons, modalities=modalities)


def _fill(job: Job, values: Params) -> pl.DataFrame:
    """Put a share of what is missing into the store; the items that cannot be encoded, and the `reason`."""
    dataset, count = job.dataset, int(job.missing.sum())
    stored = f"{len(job.ids) - count:,} in the store, {count:,} to encode"
    print(f"encode@{dataset}: {len(job.ids):,} {job.modality} items, {stored}")
    faults: dict[int, str] = {}
    if count:
        device = _device(values)
        numbers = (os.environ.get(name, "") for name in ("LOCAL_RANK", "SLURM_LOCALID"))  # on this machine
        if device == "cuda" and (local := next(filter(str.isdigit, numbers), None)):
            import torch

            torch.cuda.set_device(int(local) % torch.cuda.device_count())
        faults = ENCODE[job.modality](job, encoders.load(job.encoder, device), values.encode)
    rows = pl.Series(list(faults), dtype=pl.UInt32)
    bad = job.items[rows].with_columns(reason=pl.Series(list(faults.values()), dtype=pl.String))
    if faults and values.encode.on_bad_item == "fail":
        first = bad.row(0, named=True)
        item = f"the text {shorten(first['text'] or '')}"
        if job.modality == "image":
            names = {file.sha256: file.name for file in raw_files.read_manifest(dataset).files}
            item = f"the image {names[first['file']]}"
            if first["row"] is not None:
                place = f"{first['column']}, row {first['row']} of row group {first['row_group']}"
                item = f"the image in {place}, of {names[first['file']]}"
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
