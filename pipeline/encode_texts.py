"""Texts into the store: batches of like length under a token budget; a kill loses one group of them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline import progress
from pipeline.bad_items import BadItem

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from pal.encoders import TextEncoder
    from pipeline.embedding_store import EmbeddingStore
    from pipeline.knobs import Encode

GROUP_ROWS = 512
SHAPES_VECTORS: list[str] = []  # what is done here changes no vector beyond rounding


def fill(
    store: "EmbeddingStore",
    encoder: "TextEncoder",
    items: "pl.DataFrame",
    missing: "np.ndarray",
    knobs: "Encode",
    dataset: str,
) -> list[BadItem]:
    """Encode the groups that hold a missing text, and keep what was missing.

    Args:
        store: Where vectors go.
        encoder: The encoder.
        items: The dataset's text items, by item_id.
        missing: Which of them are not in the store.
        knobs: Batch size and so on.
        dataset: Its name.

    Returns:
        The missing texts that cannot be encoded.
    """
    import numpy as np

    from pal.encoders import texts as rules

    ids, texts = items["item_id"].to_list(), items["text"].to_list()
    faults = {row: fault for row, text in enumerate(texts) if (fault := rules.complaint(text))}
    good = [row for row in range(len(ids)) if row not in faults]
    lengths = encoder.lengths([texts[row] for row in good])
    with progress.bar(int(missing.sum()), "encode", "text") as bar:
        for group in groups(batches(lengths, [ids[row] for row in good], knobs.tokens_per_batch)):
            rows = [good[place] for batch in group for place in batch]
            wanted = np.flatnonzero(missing[rows])
            if not len(wanted):
                continue
            vectors = [encoder.encode([texts[good[place]] for place in batch]) for batch in group]
            store.add([ids[rows[at]] for at in wanted], np.concatenate(vectors)[wanted])
            bar.update(len(wanted))
    return [
        BadItem(ids[row], "text", fault, text=texts[row]) for row, fault in faults.items() if missing[row]
    ]


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
