"""Images into the store: read in the order in which they lie, decoded ahead of the encoder, fixed batches."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby, islice
from typing import TYPE_CHECKING

from pipeline import progress
from pipeline.encoding import pixels
from pipeline.encoding.bad_items import BadItem
from pipeline.encoding.turns import Job, Plan, Turns, group_rows

if TYPE_CHECKING:
    import polars as pl
    from torch import Tensor

    from pal.encoders import ImageEncoder
    from pipeline.encoding.listed import Items
    from pipeline.params import Encode

GROUP_ROWS = 512  # at least


def fill(job: Job, encoder: "ImageEncoder", items: "Items", knobs: "Encode") -> list[BadItem]:
    """Encode the groups that hold a missing image, and keep what was missing.

    Args:
        job: What is missing, of what, and this process's share of it.
        encoder: The encoder.
        items: The dataset's image items.
        knobs: Batch size, workers and so on.

    Returns:
        The missing images of this share that cannot be encoded.
    """
    import numpy as np
    import polars as pl

    batch = knobs.images_per_batch
    size = max(1, group_rows(len(job.ids), GROUP_ROWS) // batch) * batch
    frame = items.images().with_columns(missing=pl.Series(job.missing), of=pl.int_range(pl.len()))
    ordered = pixels.in_order(frame).with_columns(group=pl.int_range(pl.len()) // size)
    del frame
    edges = np.append(np.arange(0, len(ordered), size), len(ordered))
    plan = Plan(ordered["of"].to_numpy(), edges)
    with progress.bar(int(job.missing.sum()), "encode", "image") as bar:
        turns = Turns(job.store, job.ids, job.missing, plan, job.share.block(len(plan)), bar)
        wanted = ordered.filter(pl.col("group").is_in(turns.groups))
        bad, finished = _finished(encoder, wanted, knobs, job.dataset)
        bar.update(len(bad))
        wanted = wanted.filter(~pl.col("group").is_in(finished))
        filling = _Filling(turns, encoder, knobs, job.dataset)
        bad += filling.run(wanted, turns.take)
        bad += filling.run(wanted.filter(pl.col("group").is_in(turns.late)), turns.open)
        turns.close()
    by_id = {item.item_id: item for item in bad}
    return [by_id[item] for item in ordered["item_id"] if item in by_id] if bad else []


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
    shrunk = _shrunk(encoder, pixels.read(begun, dataset), knobs)
    faults = [one if isinstance(one, str) else None for _, one in shrunk]
    tried = begun.with_columns(fault=pl.Series(faults, dtype=pl.String))
    done = tried.filter(pl.col("fault").is_not_null().all().over("group"))
    bad = [_bad(done, row, fault) for row, fault in enumerate(done["fault"])]
    return bad, done["group"].unique().to_list()


def _shrunk(
    encoder: "ImageEncoder", found: Iterable[pixels.Picture], knobs: "Encode"
) -> Iterator[tuple[int, "Tensor | str"]]:
    """Each image's row, and itself as the network takes it or why it cannot; decoded on threads, in order."""
    from pal.encoders.ahead import ahead
    from pal.errors import PalError
    from pipeline.errors import PipelineError

    workers = knobs.workers or default_workers()
    depth = max(2 * knobs.images_per_batch, 4 * workers)
    for done in ahead(found, lambda one: encoder.shrink(pixels.pixels(one)), workers, depth):
        if done.error is None:
            yield done.job.at, done.result
        elif isinstance(done.error, PalError) and not isinstance(done.error, PipelineError):
            yield done.job.at, str(done.error)
        else:
            raise done.error


def default_workers() -> int:
    """Threads that decode: with few cores one beside the encoder's, else all but two."""
    return max(1, (os.cpu_count() or 1) - 2)


@dataclass(frozen=True)
class _Filling:
    """Groups of images on their way into the store."""

    turns: Turns
    encoder: "ImageEncoder"
    knobs: "Encode"
    dataset: str

    def run(self, items: "pl.DataFrame", take: Callable[[int], bool]) -> list[BadItem]:
        """Encode groups, asking for each whether to when its first image is read; the images that are bad."""
        ask = cache(take)
        group = items["group"].to_list()
        read = (one for one in pixels.read(items, self.dataset) if ask(group[one.at]))
        bad = []
        for number, found in groupby(_shrunk(self.encoder, read, self.knobs), lambda one: group[one[0]]):
            bad += self._group(number, items, found)
        return bad

    def _group(
        self, group: int, items: "pl.DataFrame", found: Iterator[tuple[int, "Tensor | str"]]
    ) -> list[BadItem]:
        """Encode one in its batches; a batch lacks what cannot be decoded, and nothing else changes."""
        import numpy as np
        import torch

        kept, vectors, bad = [], [], []
        while some := list(islice(found, self.knobs.images_per_batch)):
            bad += [_bad(items, at, one) for at, one in some if isinstance(one, str) and items["missing"][at]]
            good = [(at, one) for at, one in some if not isinstance(one, str)]
            if good:
                vectors.append(self.encoder.encode_images(torch.stack([one for _, one in good])))
                kept += [at for at, _ in good]
        if kept:
            self.turns.keep(group, items["of"].gather(kept).to_numpy(), np.concatenate(vectors))
        else:
            self.turns.leave(group)
        return bad


def _bad(part: "pl.DataFrame", row: int, reason: str) -> BadItem:
    of = part.row(row, named=True)
    places = {name: of[name] for name in ("file", "row_group", "row", "column")}
    return BadItem(of["item_id"], "image", reason, **places)
