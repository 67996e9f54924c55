"""A progress bar on standard error, where that is a terminal and the work takes a while."""

import sys
from collections.abc import Iterator

from pal.cli.tables import Row, Table


def watched(table: Table, size: int) -> Iterator[list[Row]]:
    """A table's batches, with a bar that shows how much of the file has been done."""
    from tqdm import tqdm

    parquet = table.kind == "parquet"
    with tqdm(
        total=table.total,
        unit=" rows" if parquet else "B",
        unit_scale=not parquet,
        delay=1,
        disable=not sys.stderr.isatty(),
        leave=False,
    ) as bar:
        for batch in table.batches(size):
            yield batch
            bar.update(table.done - bar.n)
