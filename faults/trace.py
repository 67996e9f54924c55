"""Run a stage that notes what it is at, so that a kill can be aimed and what was done twice be counted.

python -m faults.trace LOG encode own      runs `python -m pipeline encode own` so

In this process alone, what does the work is wrapped: before a piece of it comes a line `start PIECE`, once it
is kept `kept PIECE`; other progress is `step`, and `end` the last line of all. A piece is a batch group of
encode, one file of the store, one file of a download.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import wraps
from hashlib import sha256
from typing import Any

GROUPS, ROWS, WIDTH = 30, 2_000, 64  # of what `write` writes
Note = Callable[[str], None]


def noting(path: str) -> Note:
    """What appends a line to a file at once, in one write that no other can break into."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    return lambda line: (os.write(handle, f"{line}\n".encode()), None)[1]


def twice(lines: Iterable[str]) -> tuple[int, int]:
    """How many pieces were begun more than once, and how many of these had been kept before."""
    begun: Counter[str] = Counter()
    kept: set[str] = set()
    lost = set()
    for line in lines:
        what, _, piece = line.partition(" ")
        if what == "start":
            begun[piece] += 1
            if piece in kept:
                lost.add(piece)
        elif what == "kept":
            kept.add(piece)
    return sum(count > 1 for count in begun.values()), len(lost)


def _encode(note: Note) -> None:
    """A group is begun where it is found open, and kept once it is in the store."""
    from pipeline.encoding.turns import Turns

    is_open, keep = Turns.open, Turns.keep

    def noted_open(turns: Turns, group: int) -> bool:
        found = is_open(turns, group)
        if found:
            note(f"start {turns._name(group):016x}")
        return found

    def noted_keep(turns: Turns, group: int, *values: Any) -> None:
        keep(turns, group, *values)
        note(f"kept {turns._name(group):016x}")

    Turns.open, Turns.keep = noted_open, noted_keep  # type: ignore[method-assign]


def _download(note: Note) -> None:
    """A file is begun where its bytes are copied, and kept once it has its name in the store."""
    from pal import writing
    from pipeline.storage import raw

    copy, keep = writing.copy_into, raw.keep
    begun = []

    def noted_copy(file: Any, *values: Any) -> Any:
        begun.append(file.name)
        note(f"start {file.name}")
        return copy(file, *values)

    def noted_keep(*values: Any) -> Any:
        found = keep(*values)
        while begun:
            note(f"kept {begun.pop()}")
        return found

    writing.copy_into, raw.keep = noted_copy, noted_keep


def _train(note: Note) -> None:
    """Every epoch is a step, and so is every model that is saved, before and after."""
    from pal.serving.saved_model import SavedModel
    from pipeline import progress

    bar, save = progress.bar, SavedModel.save

    @wraps(bar)
    def noted_bar(*values: Any) -> Any:
        found = bar(*values)
        update = found.update
        found.update = lambda *count: (note("step"), update(*count))[1]
        return found

    def noted_save(*values: Any) -> Any:
        note("step")
        found = save(*values)
        note("step")
        return found

    progress.bar, SavedModel.save = noted_bar, noted_save  # type: ignore[method-assign]


def write(note: Note) -> None:
    """Write groups into the store, each with the same bytes every time, unless they are there."""
    import numpy as np

    from pipeline.storage import shards
    from pipeline.storage.embedding_store import EmbeddingStore

    made_by = shards.Embedder("toy", "w", "f", WIDTH, "float32", "as it is")
    store = EmbeddingStore(made_by, "cpu")
    for group in range(GROUPS):
        ids = [f"{group * ROWS + row:032x}" for row in range(ROWS)]
        if store.find(shards.packed(ids)).missing.any():
            piece = sha256(ids[0].encode()).hexdigest()[:16]
            note(f"start {piece}")
            store.add(ids, np.random.default_rng(group).standard_normal((ROWS, WIDTH), dtype=np.float32))
            note(f"kept {piece}")


WRAPPED = {"encode": _encode, "download": _download, "train": _train}


def main(log: str, words: list[str]) -> None:
    """Run a stage, or the writing of groups, with its notes."""
    note = noting(log)
    if words == ["write"]:
        write(note)
    else:
        from pipeline.__main__ import main as stage

        WRAPPED[words[0]](note)
        sys.argv = ["pipeline", *words]
        try:
            stage()
        except SystemExit as end:  # as typer ends every command
            if end.code:
                raise
    note("end")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
