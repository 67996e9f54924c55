"""Images into the store: read in the order in which they lie, decoded ahead of the encoder, fixed batches."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline import pixels, progress
from pipeline.bad_items import BadItem

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from torch import Tensor

    from pal.encoders import ImageEncoder
    from pipeline.embedding_store import EmbeddingStore
    from pipeline.knobs import Encode

GROUP_ROWS = 512
SHAPES_VECTORS = ["pal/encoders/pictures.py", "pipeline/colour.py"]


def fill(
    store: "EmbeddingStore",
    encoder: "ImageEncoder",
    items: "pl.DataFrame",
    missing: "np.ndarray",
    knobs: "Encode",
    dataset: str,
) -> list[BadItem]:
    """Encode the groups that hold a missing image, and keep what was missing.

    Args:
        store: Where vectors go.
        encoder: The encoder.
        items: The dataset's image items.
        missing: Which of them are not in the store.
        knobs: Batch size, workers and so on.
        dataset: Its name.

    Returns:
        The missing images that cannot be encoded.
    """
    import polars as pl

    size = max(1, GROUP_ROWS // knobs.images_per_batch) * knobs.images_per_batch
    ordered = pixels.in_order(items.with_columns(missing=pl.Series(missing)))
    ordered = ordered.with_columns(group=pl.int_range(pl.len()) // size)
    wanted = ordered.filter(pl.col("missing").any().over("group"))
    with progress.bar(int(missing.sum()), "encode", "image") as bar:
        bad, finished = _finished(encoder, wanted, knobs, dataset)
        bar.update(len(bad))
        wanted = wanted.filter(~pl.col("group").is_in(finished))
        shrunk = _shrunk(encoder, wanted, knobs, dataset)
        for _, part in wanted.group_by("group", maintain_order=True):
            bad += _fill_group(store, encoder, part, shrunk, knobs.images_per_batch)
            bar.update(int(part["missing"].sum()))
    by_id = {item.item_id: item for item in bad}
    return [by_id[item] for item in ordered["item_id"] if item in by_id]


def _finished(
    encoder: "ImageEncoder", wanted: "pl.DataFrame", knobs: "Encode", dataset: str
) -> tuple[list[BadItem], list[int]]:
    """Groups that an earlier run encoded but for bad images; and these images, which are tried again.

    Without this look a few bad images would have nearly every group encoded anew in each run.
    """
    import polars as pl

    begun = wanted.filter(~pl.col("missing").all().over("group") & pl.col("missing"))
    if begun.is_empty():
        return [], []
    faults = [one if isinstance(one, str) else None for one in _shrunk(encoder, begun, knobs, dataset)]
    tried = begun.with_columns(fault=pl.Series(faults, dtype=pl.String))
    done = tried.filter(pl.col("fault").is_not_null().all().over("group"))
    bad = [_bad(done, row, fault) for row, fault in enumerate(done["fault"])]
    return bad, done["group"].unique().to_list()


def _shrunk(
    encoder: "ImageEncoder", items: "pl.DataFrame", knobs: "Encode", dataset: str
) -> Iterator["Tensor | str"]:
    """Every image as the network takes it, or why it cannot; decoded on threads, in the items' order."""
    from pal.encoders.ahead import ahead
    from pal.errors import PalError

    workers = knobs.workers or default_workers()
    depth = max(2 * knobs.images_per_batch, 4 * workers)
    for done in ahead(
        pixels.read(items, dataset), lambda one: encoder.shrink(pixels.pixels(one)), workers, depth
    ):
        if done.error is None:
            yield done.result
        elif isinstance(done.error, PalError):
            yield str(done.error)
        else:
            raise done.error


def default_workers() -> int:
    """Threads that decode: with few cores one beside the encoder's, else all but two."""
    return max(1, (os.cpu_count() or 1) - 2)


def _fill_group(
    store: "EmbeddingStore",
    encoder: "ImageEncoder",
    part: "pl.DataFrame",
    shrunk: Iterator["Tensor | str"],
    batch: int,
) -> list[BadItem]:
    """Encode one group in its batches; a batch lacks what cannot be decoded, and nothing else changes."""
    import numpy as np
    import torch

    ids, missing = part["item_id"].to_list(), part["missing"].to_list()
    kept, vectors, bad = [], [], []
    for start in range(0, len(part), batch):
        rows = range(start, min(start + batch, len(part)))
        found = [(row, next(shrunk)) for row in rows]
        bad += [_bad(part, row, one) for row, one in found if isinstance(one, str) and missing[row]]
        good = [(row, one) for row, one in found if not isinstance(one, str)]
        if good:
            vectors.append(encoder.encode_images(torch.stack([one for _, one in good])))
            kept += [row for row, _ in good]
    wanted = [place for place, row in enumerate(kept) if missing[row]]
    if wanted:
        store.add([ids[kept[place]] for place in wanted], np.concatenate(vectors)[wanted])
    return bad


def _bad(part: "pl.DataFrame", row: int, reason: str) -> BadItem:
    of = part.row(row, named=True)
    places = {name: of[name] for name in ("file", "row_group", "row", "column")}
    return BadItem(of["item_id"], "image", reason, **places)
