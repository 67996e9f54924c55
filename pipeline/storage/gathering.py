"""Gathering: vectors that lie about in many files, in the items' own order and in parts, memory bounded."""

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    import numpy as np

IN_MEMORY = 400 << 20  # bytes of vectors that are put in order at once
PASSES = 4  # over all files, rather than writing everything to the disk once more


def gather(
    read: Callable[[int], "np.ndarray"],
    file: "np.ndarray",
    row: "np.ndarray",
    rows: int,
    shape: tuple[int, "np.dtype"],
    folder: Path,
) -> Iterator["np.ndarray"]:
    """Vectors in the order asked for, in parts of at most so many rows.

    In the items' order nearly every part needs nearly every file. So as many parts as fit into memory are put
    together at once, each time from all files; and where that would take many passes, each file is read once
    and its vectors go to their part's place in a file without a name, which is gone with the process.

    Args:
        read: Gives a file's vectors.
        file: The file of each vector,
        row: and its row there.
        rows: Rows of a part.
        shape: Numbers in a vector, and their type.
        folder: Where the file without a name is made, if it can be; else among the system's temporary files.

    Raises:
        PipelineError: If the disk fails.
    """
    import numpy as np

    dim, dtype = shape
    parts_at_once = max(1, IN_MEMORY // (rows * dim * dtype.itemsize))
    if len(file) <= PASSES * parts_at_once * rows:
        for start in range(0, max(len(file), 1), parts_at_once * rows):
            some = slice(start, start + parts_at_once * rows)
            yield from _in_memory(read, file[some], row[some], rows, shape)
        return
    try:
        with _nameless(folder) as spool:
            _spread(read, file, row, rows, spool)
            spread = np.empty(
                (min(rows, len(file)), dim), dtype
            )  # one for all parts: fresh memory costs as much as reading
            spool.seek(0)
            for start in range(0, len(file), rows):
                part = file[start : start + rows]
                if spool.readinto(spread[: len(part)].data) < len(part) * spread.strides[0]:
                    raise OSError(0, "it ends early")
                out = np.empty((len(part), dim), dtype)
                out[np.argsort(part, kind="stable")] = spread[: len(part)]
                yield out
    except OSError as error:
        raise PipelineError(
            f"embeddings could not be put in order beside {folder} ({error.strerror}); make room there, "
            "and run the stage again"
        ) from None


def _in_memory(
    read: Callable[[int], "np.ndarray"],
    file: "np.ndarray",
    row: "np.ndarray",
    rows: int,
    shape: tuple[int, "np.dtype"],
) -> Iterator["np.ndarray"]:
    """A few parts, put together at once."""
    import numpy as np

    out = np.empty((len(file), shape[0]), shape[1])
    for number, wanted in _by_file(file):
        out[wanted] = read(number)[row[wanted]]
    for start in range(0, max(len(out), 1), rows):
        yield out[start : start + rows]


def one_ahead(parts: Iterator["np.ndarray"]) -> Iterator["np.ndarray"]:
    """The same parts, each made on a thread while the taker is busy with the one before."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = pool.submit(next, parts, None)
            yield part


def _spread(
    read: Callable[[int], "np.ndarray"], file: "np.ndarray", row: "np.ndarray", rows: int, spool: IO[bytes]
) -> None:
    """Every vector to its part, in the order of the files, of which a part may be anywhere."""
    import numpy as np

    n_parts = -(-len(file) // rows)
    filled = np.arange(n_parts) * rows
    for number, wanted in _by_file(file):
        vectors = read(number)[row[wanted]]
        edges = np.searchsorted(wanted // rows, np.arange(n_parts + 1))  # `wanted` ascends
        for part in np.flatnonzero(np.diff(edges)):
            chunk = vectors[edges[part] : edges[part + 1]]
            spool.seek(int(filled[part]) * vectors.strides[0])
            spool.write(chunk.data)
            filled[part] += len(chunk)
    spool.flush()


def _by_file(file: "np.ndarray") -> Iterator[tuple[int, "np.ndarray"]]:
    """Each file that is wanted, and where its vectors go."""
    import numpy as np

    order = np.argsort(file, kind="stable")
    numbers, starts = np.unique(file[order], return_index=True)
    for number, start, stop in zip(numbers, starts, [*starts, len(order)][1:], strict=True):
        yield int(number), order[start:stop]


def _nameless(folder: Path) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError:
        return tempfile.TemporaryFile(dir=os.environ.get("TMPDIR"))
