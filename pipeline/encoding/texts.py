"""Texts into the store: batches of like length under a token budget (dynamic batching)."""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from tqdm import tqdm

from pipeline.encoding.jobs import Job, group_rows

if TYPE_CHECKING:
    from pal.encoders import TextEncoder
    from pipeline.params import Encode

BLOCK = 100_000  # texts as Python objects at once


def fill(job: Job, encoder: "TextEncoder", options: "Encode") -> dict[int, str]:
    """Encode the groups of this process's share that hold a missing text, and store what was missing.

    Args:
        job: What is missing, of what, and this process's share of it.
        encoder: The encoder.
        options: Batch size and so on.

    Returns:
        The rows of missing texts that cannot be encoded, of all shares, and why.
    """
    texts = job.items["text"].fill_null("")
    lengths, faults = _lengths(encoder, texts)
    edges = batches(np.sort(lengths[lengths >= 0]), options.tokens_per_batch)
    order = np.argsort(lengths, kind="stable")[len(faults) :]  # a bad text has length -1; ids ascend
    starts = group_starts(edges, group_rows(len(order)))
    with tqdm(total=int(job.missing.sum()), desc="encode", unit="text") as bar:
        # Strided: costs rise along the groups, so that each process has some of all lengths.
        for group in job.share.strided(len(starts) - 1):
            batch_edges = edges[starts[group] : starts[group + 1] + 1]
            rows = order[batch_edges[0] : batch_edges[-1]]
            if not job.missing[rows].any():
                continue
            vectors = [
                encoder.encode(texts.gather(order[start:end]).to_list())
                for start, end in pairwise(batch_edges)
            ]
            bar.update(job.store_missing(rows, np.concatenate(vectors)))
    return {row: fault for row, fault in faults.items() if job.missing[row]}


def batches(lengths: np.ndarray, budget: int) -> np.ndarray:
    """Where batches begin, and where the last ends: at most `budget` tokens with padding, or one long text.

    A function of the full list alone: what is already in the store changes no batch.

    Args:
        lengths: Tokens of each text, ascending.
        budget: Most tokens of a batch, each of its texts padded to the longest.
    """
    edges = [0]
    while (start := edges[-1]) < len(lengths):
        most = max(1, budget // max(1, int(lengths[start])))  # texts, were none longer than the first
        padded = lengths[start : start + most] * np.arange(1, min(most, len(lengths) - start) + 1)
        edges.append(start + max(1, int(np.searchsorted(padded, budget, side="right"))))
    return np.array(edges, dtype=np.int64)


def group_starts(edges: np.ndarray, rows: int) -> np.ndarray:
    """Batches in groups of about `rows` items: the batches with which groups begin, and the end.

    Args:
        edges: Where batches begin, and where the last ends.
        rows: A group is closed once it has as many.
    """
    starts = [0]
    while edges[starts[-1]] < edges[-1]:
        end = np.searchsorted(edges, edges[starts[-1]] + rows)
        starts.append(min(int(end), len(edges) - 1))
    return np.array(starts, dtype=np.int64)


def _lengths(encoder: "TextEncoder", texts: pl.Series) -> tuple[np.ndarray, dict[int, str]]:
    """Tokens of every text, -1 where it cannot be encoded; and why not, by row."""
    from pal.encoders import complaint

    lengths = np.full(len(texts), -1, dtype=np.int64)
    faults = {}
    for start in range(0, len(texts), BLOCK):
        block = texts.slice(start, BLOCK).to_list()
        complaints = [complaint(text) for text in block]
        faults.update({start + row: fault for row, fault in enumerate(complaints) if fault})
        good = [row for row, fault in enumerate(complaints) if not fault]
        lengths[start + np.array(good, dtype=np.int64)] = encoder.lengths([block[row] for row in good])
    return lengths, faults
