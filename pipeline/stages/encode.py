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
from pal.files import new_folder
from pipeline import params, paths
from pipeline.datasets.base import EncoderByModality
from pipeline.encoding import encode_images, encode_texts, listed, ranks
from pipeline.encoding.bad_items import BadItem, dropped_csv
from pipeline.encoding.ranks import Share
from pipeline.encoding.turns import Job
from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.storage import raw, shards, tables, uses
from pipeline.storage.embedding_store import EmbeddingStore
from pipeline.storage.gathering import one_ahead
from pipeline.storage.manifests import write_manifest
from pipeline.storage.shards import Embedder
from pipeline.study import pick_device

if TYPE_CHECKING:
    import numpy as np

    from pipeline.encoding.listed import Items

FILLED = {"text": encode_texts, "image": encode_images}


def main(dataset: str, rank: int | None = None, world: int | None = None) -> None:
    """Encode one dataset's items.

    Args:
        dataset: Its name.
        rank: Encode this share of them into the store, and nothing else: the run without ranks that follows
            writes the shards, and encodes what a rank that never came left out.
        world: How many shares there are.
    """
    values = params.load()
    share = ranks.share(rank, world)
    items = listed.read(paths.recoloured(dataset) / tables.ITEMS, f"recolour@{dataset}")
    if share.world > 1:
        fill_share(dataset, items, values, share)
        return
    if values.encode.engine == "ray":
        _by_ray(dataset, items, values)
    bad: list[BadItem] = []
    about: dict[str, Any] = {}
    with new_folder(paths.embeddings(dataset)) as folder:
        for modality, part in items.items():
            embedder, ids, vectors, faults = _embed(part, modality, dataset, values)
            bad += faults
            _write(folder / modality, ids, vectors, embedder, values.encode.shard_rows)
            about[modality] = {"in": len(part.ids), "out": len(ids), "encoder": asdict(embedder)}
        dropped_csv(folder / "dropped.csv", bad)
        _write_manifest(folder, sum(len(part.ids) for part in items.values()), about, bad)


def fill_share(dataset: str, items: dict[str, "Items"], values: Params, share: Share) -> None:
    """Encode a share of a dataset's items into the store, and write nothing else."""
    for modality, part in items.items():
        if not _is_given(modality, dataset, values):
            job, bad = _fill(part, modality, dataset, values, share)
            _refuse(bad, dataset, values.encode.on_bad_item)
            count = int((~job.store.find(job.ids).missing).sum())
            print(f"encode@{dataset}: {count:,} of {len(job.ids):,} {modality} items in the store")
    gather = f"`python -m pipeline encode {dataset} --world 1` or `dvc repro`"
    who = f"rank {share.rank} of {share.world} ({share.told_by})"
    print(f"encode@{dataset}: {who} is done; once all are, run {gather}")


def _by_ray(dataset: str, items: dict[str, "Items"], values: Params) -> None:
    """Have a Ray cluster put into the store what is missing there, if anything is."""
    count = 0
    for modality, part in items.items():
        if not _is_given(modality, dataset, values):
            job, _ = _job(part, modality, dataset, values, Share())
            count += int(job.missing.sum())
    if count:
        from pipeline.encoding import encode_ray

        encode_ray.fill(dataset, pick_device(values.encode.device, "encode.device"))


def _is_given(modality: str, dataset: str, values: Params) -> bool:
    """Whether items are vectors already."""
    return modality == "vector" or _encoder_of(dataset, modality, values) == "none"


def _embed(
    items: "Items", modality: str, dataset: str, values: Params
) -> tuple[Embedder, "np.ndarray", Iterator["np.ndarray"], list[BadItem]]:
    """One modality's encoder, the ids that it encoded, their vectors in parts, and what it could not read."""
    if _is_given(modality, dataset, values):
        return _given(items, modality, dataset, values)
    job, bad = _fill(items, modality, dataset, values, Share())
    _refuse(bad, dataset, values.encode.on_bad_item)
    places = job.store.find(items.ids) if job.missing.any() else job.places
    kept = ~places.missing
    places = type(places)(places.files, places.file[kept], places.row[kept])
    return job.store.embedder, items.ids[kept], job.store.gather(places, values.encode.shard_rows), bad


def _fill(
    items: "Items", modality: str, dataset: str, values: Params, share: Share
) -> tuple[Job, list[BadItem]]:
    """Put a share of what is missing into the store; what could not be encoded."""
    job, described = _job(items, modality, dataset, values, share)
    count = int(job.missing.sum())
    stored = f"{len(items.ids) - count:,} in the store, {count:,} to encode"
    print(f"encode@{dataset}: {len(items.ids):,} {modality} items, {stored}")
    if not count:
        return job, []
    device = pick_device(values.encode.device, "encode.device")
    if device == "cuda":
        ranks.use_own_gpu()
    encoder = encoders.load(described, device)
    return job, FILLED[modality].fill(job, encoder, items, values.encode)


def _job(
    items: "Items", modality: str, dataset: str, values: Params, share: Share
) -> tuple[Job, encoders.Described]:
    """What is missing of a modality, and the encoder for it."""
    name = _encoder_of(dataset, modality, values)
    device = pick_device(values.encode.device, "encode.device")
    described = _describe(name, values)
    if modality not in described.modalities:
        reads = " and ".join(described.modalities)
        raise PipelineError(
            f"{dataset}.encoder in {paths.PARAMS} must read the {modality} items of {dataset}, "
            f"got {name!r}, which reads {reads}; name another, or one per modality"
        )
    embedder = Embedder(
        name, described.weights_sha256, described.files_sha256, described.dim, values.encode.dtype,
        described.preprocessing, described.engine, described.precision,
    )  # fmt: skip
    store = EmbeddingStore(embedder, device)
    uses.record(dataset, modality, store.folder.name)
    return Job(store, items.ids, store.find(items.ids), share, dataset), described


def _encoder_of(dataset: str, modality: str, values: Params) -> str:
    named = values[dataset].encoder
    if isinstance(named, EncoderByModality):
        return getattr(named, modality, "none")
    return named


def _describe(name: str, values: Params) -> encoders.Described:
    weights = values.encode.weights.get(name, "hub")
    if weights not in ("package", "hub"):
        weights = str(paths.project_root() / Path(weights).expanduser())
    engine = "torch" if values.encode.engine == "ray" else values.encode.engine
    return encoders.describe(name, weights, precision=values.encode.precision, engine=engine)


def _given(
    items: "Items", modality: str, dataset: str, values: Params
) -> tuple[Embedder, "np.ndarray", Iterator["np.ndarray"], list[BadItem]]:
    """Items that are vectors already."""
    import numpy as np

    if modality != "vector":
        raise PipelineError(f"{dataset}.encoder must name an encoder: not all items are vectors, got 'none'")
    lists = items.vectors()
    widths = lists.list.len().unique().to_list()
    if len(widths) > 1:
        raise PipelineError(f"the vectors of {dataset} must be of one width, got {sorted(widths)}")
    vectors = lists.explode().to_numpy().reshape(len(lists), widths[0]).astype(np.float32)
    print(f"encode@{dataset}: {len(lists):,} items are vectors already")
    embedder = Embedder("none", "", "", widths[0], "float32", "as given", "none", "float32")
    step = values.encode.shard_rows
    parts = (vectors[start : start + step] for start in range(0, len(vectors), step))
    return embedder, items.ids, parts, []


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
    for number, vectors in enumerate(one_ahead(parts)):
        names = ids[start : start + len(vectors)]
        shards.write(folder / f"shard-{number:05d}.parquet", names, vectors, embedder)
        start += len(vectors)


def _write_manifest(folder: Path, n_items: int, about: dict[str, Any], bad: list[BadItem]) -> None:
    """What went in, what came out, what was dropped and why."""
    kept = sum(part["out"] for part in about.values())
    reasons = dict(Counter(item.reason for item in bad).most_common())
    counts = {"read": n_items, "kept": kept, "dropped": len(bad)}
    write_manifest(folder, counts, reasons=reasons, modalities=about)
