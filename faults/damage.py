"""Truncations and bit flips of shards, tables, store files, models and downloads, through the real readers.

Each must end in one sentence of ours that names what is wrong, or in exactly what was written: never in
another vector or number.
"""

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faults.tally import Tally
from pal.errors import PalError
from pipeline.errors import PipelineError

CASES = 1000
BIG = 12_000  # rows of 32 float32: past the size from which hashes are remembered


@dataclass(frozen=True)
class Subject:
    """Something on disk and its reader.

    Args:
        name: What it is.
        files: Its files, any of which may be damaged.
        read: Reads it, to something that can be compared.
    """

    name: str
    files: list[Path]
    read: Callable[[], Any]


def run(cases: int = CASES, seed: int = 0) -> list[Tally]:
    """So many truncations and so many flips over all subjects in turn."""
    with tempfile.TemporaryDirectory() as folder, _inside(Path(folder)):
        found = subjects()
        return [
            _campaign(how, change, found, cases, seed)
            for how, change in (("truncations", cut), ("bit flips", flip))
        ]


def cut(data: bytes, rng: random.Random) -> bytes:
    """A file that ends early."""
    return data[: rng.randrange(len(data))]


def flip(data: bytes, rng: random.Random) -> bytes:
    """One bit turned."""
    damaged = bytearray(data)
    damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _campaign(
    how: str, change: Callable[[bytes, random.Random], bytes], found: list[Subject], cases: int, seed: int
) -> Tally:
    rng = random.Random(f"{seed} {how}")
    counts = {"refused": 0, "identical": 0}
    failures = []
    for number in range(cases):
        subject = found[number % len(found)]
        path = rng.choice(subject.files)
        whole = path.read_bytes()
        expected = subject.read()
        path.write_bytes(change(whole, rng))
        fault = _outcome(subject, expected, counts)
        path.write_bytes(whole)
        if fault:
            failures.append(f"{how}, seed {seed}, case {number}: {subject.name}, {path.name}: {fault}")
    kinds = ", ".join(subject.name for subject in found)
    return Tally(f"{how} of {kinds}", cases, failures, counts)


def _outcome(subject: Subject, expected: Any, counts: dict[str, int]) -> str:
    try:
        got = subject.read()
    except (PalError, PipelineError) as error:
        counts["refused"] += 1
        return "" if "\n" not in str(error) else f"more than a sentence: {error!r}"
    except Exception as error:
        return f"not an error of ours: {error!r}"
    if got != expected:
        return "read as something else"
    counts["identical"] += 1
    return ""


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """The folder as the current one, with a store of its own."""
    before, named = Path.cwd(), os.environ.get("PAL_STORE")
    os.chdir(folder)
    os.environ["PAL_STORE"] = str(folder / "store")
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.pop("PAL_STORE")
        if named is not None:
            os.environ["PAL_STORE"] = named


def subjects() -> list[Subject]:
    """One of each, small, in the current folder; and a shard that is large enough to be remembered."""
    return [_shards("small", 40), _shards("large", BIG), _tables(), _store(), _model(), _download()]


def _shards(name: str, rows: int) -> Subject:
    from pipeline import paths
    from pipeline.storage import manifest, shards

    folder = paths.embeddings(name) / "vector"
    folder.mkdir(parents=True)
    made_by = shards.Embedder("toy", "w", "f", 32, "float32", "as it is")
    for number in range(2):
        ids = [f"{rows * number + row:032x}" for row in range(rows)]
        shards.write(folder / f"shard-{number:05d}.parquet", ids, _vectors(rows, number), made_by)
    manifest.seal(folder.parent)

    def read() -> Any:
        ids, vectors, embedder = shards.read_folder(folder, f"encode@{name}")
        return ids.tobytes(), vectors.tobytes(), vectors.shape, embedder

    return Subject(f"{name} shards", [*folder.iterdir(), folder.parent / manifest.NAME], read)


def _vectors(rows: int, seed: int) -> Any:
    import numpy as np

    return np.random.default_rng(seed).standard_normal((rows, 32), dtype=np.float32)


def _tables() -> Subject:
    import polars as pl

    from pipeline import paths
    from pipeline.storage import tables
    from pipeline.storage.files import read_json
    from pipeline.storage.manifest import NAME, write

    folder = paths.recoloured("own")
    texts = [f"a text, number {number}" for number in range(30)]
    items = tables.text_items(texts)
    rows = [
        (n, f"user {n % 3}", tables.text_id(texts[n]), tables.text_id(texts[n - 1]), 1.0) for n in range(30)
    ]
    pairs = pl.DataFrame(rows, ["pair_id", "user_id", "chosen", "rejected", "label"], orient="row")
    tables.write_table(folder / tables.ITEMS, items, tables.items_schema())
    tables.write_table(folder / tables.PAIRS, pairs, tables.pairs_schema())
    write(folder, {"read": 30, "kept": 30, "dropped": 0}, folder / tables.PAIRS)

    def read() -> Any:
        found = [tables.read_arrow(folder / name, "recolour@own") for name in (tables.ITEMS, tables.PAIRS)]
        return [table.to_pylist() for table in found], read_json(folder / NAME, "recolour@own")

    return Subject("tables and manifests", list(folder.iterdir()), read)


def _store() -> Subject:
    import numpy as np

    from pipeline.storage import shards
    from pipeline.storage.embedding_store import EmbeddingStore

    store = EmbeddingStore(shards.Embedder("toy", "w", "f", 32, "float16", "x"), "cpu")
    ids = [f"{row:032x}" for row in range(60)]
    for part in range(3):
        store.add(ids[part * 20 : part * 20 + 20], _vectors(20, part))

    def read() -> Any:
        places = store.find(shards.packed(ids))
        if places.missing.any():  # encoded anew, never another vector
            raise PipelineError("not all is in the store")
        return np.concatenate(list(store.gather(places, 25))).tobytes()

    return Subject("store files", list(store.folder.glob("*.parquet")), read)


def _model() -> Subject:
    import torch

    from pal.config import FitConfig, HeadConfig
    from pal.models.heads import make_head
    from pal.serving.saved_model import SavedModel
    from pal.users.adapt import Prior

    torch.manual_seed(0)
    weights = torch.softmax(torch.randn(5, 3), 1)
    head = make_head(HeadConfig(K=3, model="B", latent=4, hidden=5), prompt_dim=3, response_dim=4)
    users = [f"user {n}" for n in range(5)]
    folder = Path("data/models/own/model")
    SavedModel(head, users, weights, Prior.of(weights), FitConfig(), {"responses": {"name": "x"}}, 3, 4).save(
        folder
    )

    def read() -> Any:
        model = SavedModel.load(folder)
        numbers = [(name, tensor.numpy().tobytes()) for name, tensor in sorted(model.tensors().items())]
        about = (model.config, model.fit_config, dict(model.encoder), model.prompt_dim, model.response_dim)
        return numbers, list(model.user_ids), about

    return Subject("saved models", list(folder.iterdir()), read)


def _download() -> Subject:
    from pipeline import paths
    from pipeline.storage import raw

    source = Path("answers.csv")
    source.write_text("user_id,prompt,chosen,rejected\n" + "ann,what,this,that\n" * 50)
    raw.write_manifest("own", raw.Manifest("a file", None, [raw.keep(source)]))
    kept = raw.read_manifest("own").files[0]

    def read() -> Any:
        manifest = raw.read_manifest("own")
        return asdict(manifest), [raw.stored(file, "own").read_bytes() for file in manifest.files]

    return Subject("downloads", [paths.raw("own"), raw.stored(kept, "own")], read)
