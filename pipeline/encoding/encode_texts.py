"""Texts into the store: batches of like length under a token budget; a kill loses one group of them."""

from itertools import pairwise
from typing import TYPE_CHECKING

from pipeline import progress
from pipeline.encoding.bad_items import BadItem
from pipeline.encoding.turns import Job, Plan, Turns, group_rows

if TYPE_CHECKING:
    import numpy as np

    from pal.encoders import TextEncoder
    from pipeline.encoding.listed import Items, Texts
    from pipeline.params import Encode

GROUP_ROWS = 512  # at least
AT_ONCE = 100_000  # texts as Python objects
SHOWN = 200  # characters of a bad text that are kept to be told


def fill(job: Job, encoder: "TextEncoder", items: "Items", knobs: "Encode") -> list[BadItem]:
    """Encode the groups that hold a missing text, and keep what was missing.

    Args:
        job: What is missing, of what, and this process's share of it.
        encoder: The encoder.
        items: The dataset's text items.
        knobs: Batch size and so on.

    Returns:
        The missing texts that cannot be encoded, whoever's share they are.
    """
    import numpy as np

    texts = items.texts()
    lengths, faults = _lengths(encoder, texts)
    edges = batches(np.sort(lengths[lengths >= 0]), knobs.tokens_per_batch)
    order = np.argsort(lengths, kind="stable")[len(faults) :]  # a bad text has length -1; ids ascend
    starts = groups(edges, group_rows(len(order), GROUP_ROWS))
    plan = Plan(order, edges[starts])
    with progress.bar(int(job.missing.sum()), "encode", "text") as bar:
        turns = Turns(job.store, job.ids, job.missing, plan, job.share.strided(len(plan)), bar)
        for group in turns:
            own = edges[starts[group] : starts[group + 1] + 1]
            found = [encoder.encode(texts.of(order[a:b])) for a, b in pairwise(own)]
            turns.keep(group, plan.rows(group), np.concatenate(found))
        turns.close()
    names = job.ids.astype("U32")[list(faults)] if faults else []
    return [
        BadItem(str(name), "text", fault, text=texts.of(slice(row, row + 1))[0][:SHOWN])
        for name, (row, fault) in zip(names, faults.items(), strict=True)
        if job.missing[row]
    ]


def batches(lengths: "np.ndarray", budget: int) -> "np.ndarray":
    """Where batches begin, and where the last ends: at most `budget` tokens with padding, or one long text.

    A function of the full list alone: what is already in the store changes no batch.

    Args:
        lengths: Tokens of each text, ascending.
        budget: Most tokens of a batch, as its longest text has them all.
    """
    import numpy as np

    edges = [0]
    while (start := edges[-1]) < len(lengths):
        most = max(1, budget // max(1, int(lengths[start])))  # texts, were none longer than the first
        padded = lengths[start : start + most] * np.arange(1, min(most, len(lengths) - start) + 1)
        edges.append(start + max(1, int(np.searchsorted(padded, budget, side="right"))))
    return np.array(edges, dtype=np.int64)


def groups(edges: "np.ndarray", rows: int) -> "np.ndarray":
    """Batches in groups of about `rows` items: the batches with which groups begin, and the end.

    Args:
        edges: Where batches begin, and where the last ends.
        rows: A group is closed once it has as many.
    """
    import numpy as np

    starts = [0]
    while edges[starts[-1]] < edges[-1]:
        wanted = np.searchsorted(edges, edges[starts[-1]] + rows)
        starts.append(min(int(wanted), len(edges) - 1))
    return np.array(starts, dtype=np.int64)


def _lengths(encoder: "TextEncoder", texts: "Texts") -> tuple["np.ndarray", dict[int, str]]:
    """Tokens of every text, -1 where it cannot be encoded; and why not, by row."""
    import numpy as np

    from pal.encoders import texts as rules

    lengths = np.full(len(texts), -1, dtype=np.int64)
    faults = {}
    for start in range(0, len(texts), AT_ONCE):
        some = texts.of(slice(start, start + AT_ONCE))
        told = [rules.complaint(text) for text in some]
        faults.update({start + row: fault for row, fault in enumerate(told) if fault})
        good = [row for row, fault in enumerate(told) if not fault]
        lengths[start + np.array(good, dtype=np.int64)] = encoder.lengths([some[row] for row in good])
    return lengths, faults
