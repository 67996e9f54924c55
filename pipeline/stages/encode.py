"""encode: run the frozen encoder over every distinct item once, into Parquet shards.

Vectors go into the store in groups, which are a fixed function of the full list of items, so that a resumed
run gives the same bytes: a killed one loses a group at most, and content that another dataset or experiment
encoded is not encoded again. Processes share the groups by rank, of torchrun or SLURM or as workers of Ray,
and none waits for another: what a rank that never comes leaves out is encoded by the run without ranks that
follows, which writes the shards. Each modality has a folder of shards of its own.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import groupby, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from pal import encoders
from pal.encoders.vector_store import Embedder, EmbeddingStore, packed, write_shard
from pal.errors import PalError, shorten
from pal.files import new_folder, write_text
from pipeline import PipelineError, params, paths
from pipeline.datasets import DATASETS
from pipeline.images import Picture, decoded, in_reading_order, read_pictures
from pipeline.params import Encode, Params
from pipeline.storage import raw_files, tables

DROPPED_COLUMNS = ("item_id", "modality", "file", "row_group", "row", "column", "reason")
LEAST_ROWS = 512
MOST_ROWS = 16_384
GROUPS = 1_000  # in a large job: a kill then loses a thousandth of it, and the store has few files
TEXTS_AT_ONCE = 100_000  # as Python objects
# The variables in which launchers tell a process its number and how many there are.
LAUNCHERS = {"torchrun": ("RANK", "WORLD_SIZE"), "SLURM": ("SLURM_PROCID", "SLURM_NTASKS")}

RAY_CPUS = 0.5  # of a worker without a GPU: with a whole one each, nothing would be left for Ray's own tasks
RAY_RETRIES = 4  # times that the task of a lost worker is started again
PASSED_ON = ("PAL_STORE", "DVC_ROOT", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")
RAY_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# A cluster of one machine: Ray then listens on the loopback address alone. Naming that address to `init` does
# not do it: Ray takes the machine's outer one in its place.
RAY_LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@dataclass(frozen=True)
class Share:
    """One process's part of the work: its number from 0, of how many, and what says so, in words."""

    rank: int = 0
    world: int = 1
    origin: str = "--rank and --world"


@dataclass(frozen=True)
class Job:
    """What is to be encoded, by what, and into what: of one modality, text or image, of one dataset."""

    dataset: str
    modality: str
    items: pl.DataFrame
    encoder: encoders.Described
    store: EmbeddingStore
    ids: np.ndarray  # of the items, in ascending order
    missing: np.ndarray  # which of them were not in the store at the start
    share: Share

    def store_missing(self, rows: np.ndarray, vectors: np.ndarray) -> int:
        """Of a group's rows and vectors, store those whose items were missing; how many these are."""
        missing = self.missing[rows]
        if missing.any():
            self.store.add(self.ids[rows[missing]], vectors[missing])
        return int(missing.sum())


def main(dataset: str, rank: int | None = None, world: int | None = None) -> None:
    """Encode one dataset's items; with `rank` and `world` a share of them, into the store alone."""
    values = params.load()
    share = share_of(rank, world)
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
        encode_with_ray(dataset, values.device("encode"))
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
        tables.write_manifest(folder, counts=counts, reasons=reasons, modalities=modalities)


def _fill(job: Job, values: Params) -> pl.DataFrame:
    """Put a share of what is missing into the store; the items that cannot be encoded, and the `reason`."""
    dataset, count = job.dataset, int(job.missing.sum())
    stored = f"{len(job.ids) - count:,} in the store, {count:,} to encode"
    print(f"encode@{dataset}: {len(job.ids):,} {job.modality} items, {stored}")
    faults: dict[int, str] = {}
    if count:
        device = values.device("encode")
        numbers = (os.environ.get(name, "") for name in ("LOCAL_RANK", "SLURM_LOCALID"))  # on this machine
        if device == "cuda" and (local := next(filter(str.isdigit, numbers), None)):
            import torch

            torch.cuda.set_device(int(local) % torch.cuda.device_count())
        encode = encode_texts if job.modality == "text" else encode_images
        faults = encode(job, encoders.load(job.encoder, device), values.encode)
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
    found, options = {}, values.encode
    for modality, of_modality in items.items():
        name = values[dataset].encoder_of(modality)
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
        store = EmbeddingStore(embedder, values.device("encode"), libraries=described.libraries)
        raw_files.record_use(dataset, modality, store.folder.name)
        ids = packed(of_modality["item_id"].to_list())
        missing = store.find(ids).missing
        found[modality] = Job(dataset, modality, of_modality, described, store, ids, missing, share)
    return found


def share_of(rank: int | None, world: int | None, environ: Mapping[str, str] = os.environ) -> Share:
    """The share of this process: as its flags say, else as torchrun or SLURM do, else everything.

    A stage that DVC runs does everything whatever a launcher says, since DVC expects its output.
    """
    origin = Share.origin
    if rank is not None or world is not None:
        rank = 0 if rank is None and world == 1 else rank
    else:
        rank, world = 0, 1
        for launcher, (number, count) in LAUNCHERS.items():
            if number in environ and count in environ and "DVC_STAGE" not in environ:
                rank, world = int(environ[number]), int(environ[count])
                origin = f"{number} and {count} of {launcher}"
                break
    if rank is None or world is None or not 0 <= rank < world:
        raise PipelineError(
            f"{origin} must be given together, with rank from 0 to world - 1, got rank {rank} of world "
            f"{world}; --world 1 alone does everything"
        )
    return Share(rank, world, origin)


def group_rows(count: int) -> int:
    """Items in a group, of a list of so many: a thousandth of it, within bounds."""
    return max(LEAST_ROWS, min(count // GROUPS, MOST_ROWS))


def encode_texts(job: Job, encoder: encoders.TextEncoder, options: Encode) -> dict[int, str]:
    """Store what is missing of this process's share of texts; the rows that cannot be encoded, and why.

    Batches are of texts of like length under a token budget (dynamic batching).
    """
    texts = job.items["text"].fill_null("")
    lengths, faults = np.full(len(texts), -1, dtype=np.int64), {}  # in tokens; a bad text has length -1
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        block = dict(enumerate(texts.slice(start, TEXTS_AT_ONCE).to_list(), start))
        bad = {row: fault for row, text in block.items() if (fault := encoders.complaint(text))}
        good = [row for row in block if row not in bad]
        lengths[good] = encoder.lengths([block[row] for row in good])
        faults |= bad
    # Of all texts: what is already in the store changes no batch.
    edges = np.array(encoders.batches(np.sort(lengths[lengths >= 0]).tolist(), options.tokens_per_batch))
    order = np.argsort(lengths, kind="stable")[len(faults) :]  # ids ascend
    starts = group_starts(edges, group_rows(len(order)))
    with tqdm(total=int(job.missing.sum()), desc="encode", unit="text") as bar:
        # Strided: costs rise along the groups, so that each process has some of all lengths.
        for group in range(job.share.rank, len(starts) - 1, job.share.world):
            batch_edges = edges[starts[group] : starts[group + 1] + 1]
            rows = order[batch_edges[0] : batch_edges[-1]]
            if not job.missing[rows].any():
                continue
            ends = pairwise(batch_edges)
            vectors = [encoder.encode(texts.gather(order[start:end]).to_list()) for start, end in ends]
            bar.update(job.store_missing(rows, np.concatenate(vectors)))
    return {row: fault for row, fault in faults.items() if job.missing[row]}


def group_starts(edges: np.ndarray, rows: int) -> np.ndarray:
    """Batches, by their `edges`, in groups of at least `rows` items: where these begin, and the last ends."""
    starts = [0]
    while edges[starts[-1]] < edges[-1]:
        end = np.searchsorted(edges, edges[starts[-1]] + rows)
        starts.append(min(int(end), len(edges) - 1))
    return np.array(starts, dtype=np.int64)


def encode_images(job: Job, encoder: encoders.ImageEncoder, options: Encode) -> dict[int, str]:
    """The same of images, whose rows that cannot be encoded come in reading order."""
    import torch

    size = options.images_per_batch
    size *= max(1, group_rows(len(job.ids)) // size)  # whole batches
    frame = job.items.with_columns(missing=pl.Series(job.missing), item=pl.int_range(pl.len()))
    frame = in_reading_order(frame).with_columns(group=pl.int_range(pl.len()) // size)
    # A run of neighbours: each process reads files of its own.
    count, rank, world = -(-len(frame) // size), job.share.rank, job.share.world
    mine = pl.col("group").is_between(count * rank // world, count * (rank + 1) // world, closed="left")
    frame = frame.filter(mine, pl.col("missing").any().over("group"))
    order = {item: row for row, item in enumerate(frame["item"])}
    with tqdm(total=int(job.missing.sum()), desc="encode", unit="image") as bar:
        bad, finished = _finished(encoder, frame, options, job.dataset)
        bar.update(len(bad))
        frame = frame.filter(~pl.col("group").is_in(finished))
        group_of = frame["group"].to_list()
        shrunk = _shrunk(encoder, read_pictures(frame, job.dataset), options)
        for _, pictures in groupby(shrunk, lambda pair: group_of[pair[0]]):
            rows, vectors = [], []
            # A batch lacks what cannot be decoded, and nothing else changes.
            while batch := list(islice(pictures, options.images_per_batch)):
                good = {row: picture for row, picture in batch if not isinstance(picture, str)}
                faults = {row: reason for row, reason in batch if isinstance(reason, str)}
                bad |= {frame["item"][row]: why for row, why in faults.items() if frame["missing"][row]}
                if good:
                    vectors.append(encoder.encode_images(torch.stack(list(good.values()))))
                    rows += good
            if rows:
                bar.update(job.store_missing(frame["item"].gather(rows).to_numpy(), np.concatenate(vectors)))
    return dict(sorted(bad.items(), key=lambda fault: order[fault[0]]))


def _finished(
    encoder: encoders.ImageEncoder, frame: pl.DataFrame, options: Encode, dataset: str
) -> tuple[dict[int, str], list[int]]:
    """Groups that an earlier run stored but for bad images, which are tried again; and why these are bad.

    Without this a few bad images would have nearly every group encoded anew in each run.
    """
    retried = frame.filter(~pl.col("missing").all().over("group") & pl.col("missing"))
    if retried.is_empty():
        return {}, []
    shrunk = _shrunk(encoder, read_pictures(retried, dataset), options)
    faults = [picture if isinstance(picture, str) else None for _, picture in shrunk]
    retried = retried.with_columns(fault=pl.Series(faults, dtype=pl.String))
    done = retried.filter(pl.col("fault").is_not_null().all().over("group"))
    return dict(done.select("item", "fault").iter_rows()), done["group"].unique().to_list()


def _shrunk(
    encoder: encoders.ImageEncoder, pictures: Iterable[Picture], options: Encode
) -> Iterator[tuple[int, Any]]:
    """Each image's row, and itself as the network takes it or why it cannot; decoded on threads, in order."""
    from pal.encoders.images import prefetch

    workers = options.workers or max(1, (os.cpu_count() or 1) - 2)  # cores are left to the encoder
    depth = max(2 * options.images_per_batch, 4 * workers)
    work = prefetch(pictures, lambda picture: encoder.shrink(decoded(picture)), workers, depth)
    for picture, future in work:
        error = future.exception()
        yield picture.row, str(error) if isinstance(error, PalError) else future.result()


def encode_with_ray(dataset: str, device: str) -> None:
    """Encode what is missing on the Ray cluster of RAY_ADDRESS or on this machine, as ranks do.

    Every machine of the cluster must see the store and the working folder. Ray starts the task of a lost
    worker again; what that had finished is in the store, so nothing is encoded twice but the group in work.
    On the device cuda each worker has a GPU of its own.
    """
    stage = __name__

    # Made inside this function, so that Ray sends its code: a worker can import no module of ours before it
    # knows where they lie.
    def encode_share(source: str, folder: str, environ: dict[str, str], rank: int, world: int) -> str:
        sys.path.insert(0, source)
        os.environ.update(environ)
        os.chdir(folder)
        from pal.errors import PalError

        try:
            import_module(stage).main(dataset, rank, world)
        except PalError as error:
            return str(error)
        return ""

    with _ray() as ray:
        resources = ray.cluster_resources()
        count = max(1, int(resources.get("GPU" if device == "cuda" else "CPU", 1)))
        needs = {"num_gpus": 1} if device == "cuda" else {"num_cpus": RAY_CPUS}
        task = ray.remote(max_retries=RAY_RETRIES, **needs)(encode_share)
        environ = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        source = str(Path(__file__).parents[2])
        print(f"encode@{dataset}: {count} workers by Ray")
        results = [task.remote(source, str(Path.cwd()), environ, rank, count) for rank in range(count)]
        try:
            reasons = ray.get(results)
        except ray.exceptions.WorkerCrashedError:
            raise PipelineError(
                f"a worker of encode.engine ray was lost {RAY_RETRIES + 1} times; what it finished is in the "
                "store, so run the stage again, or set encode.engine to torch"
            ) from None
    for reason in filter(None, reasons):
        raise PipelineError(reason)


@contextmanager
def _ray() -> Iterator[Any]:
    """Ray, connected, or started here on the loopback address for as long as the block lasts."""
    elsewhere = os.environ.get("RAY_ADDRESS", "local") != "local"
    for name, value in (RAY_QUIET if elsewhere else RAY_QUIET | RAY_LOCAL).items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise PipelineError(
            "encode.engine ray needs the package ray; run `pip install -e '.[ray]'`, or set it to torch"
        ) from None
    options = {} if elsewhere else {"include_dashboard": False}
    try:
        ray.init("auto" if elsewhere else "local", log_to_driver=False, configure_logging=False, **options)
    except (OSError, RuntimeError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"encode.engine ray could not start Ray ({reason}); set the engine to torch"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()
