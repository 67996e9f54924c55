"""Items from the cells of your tables: texts as they stand, images by their bytes, vectors by their numbers.

The same content is one item, however often and under however many names it is there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.datasets.own import images as own_images
from pipeline.datasets.own.cells import refuse
from pipeline.datasets.own.vectors import Vectors
from pipeline.storage import tables

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_CHUNK = 65_536  # vectors in one array: Arrow counts a list's numbers in 31 bits


class Content(Protocol):
    """What cells of one modality stand for."""

    def ids(self, rows: "pl.DataFrame", column: str) -> dict[str, str]:
        """Item ids by cell, for every cell of the column; raises where a cell stands for nothing."""

    def items(self, wanted: set[str]) -> "pa.Table":
        """Those of the items with these ids that it stands for, as columns of the table of items."""


class Texts:
    """Cells are the texts themselves."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def ids(self, rows: "pl.DataFrame", column: str) -> dict[str, str]:
        """Item ids by text."""
        found = {text: tables.text_id(text) for text in rows[column].drop_nulls().unique()}
        self._texts |= {id_: text for text, id_ in found.items()}
        return found

    def items(self, wanted: set[str]) -> "pa.Table":
        """The texts."""
        ids = sorted(wanted & self._texts.keys())
        return _table("text", ids, text=[self._texts[id_] for id_ in ids])


@dataclass
class Images:
    """Cells are paths.

    Args:
        files: Where they lie, by their path in the table's folder: in the store, under their sha256.
    """

    files: dict[str, Path]

    def __post_init__(self) -> None:
        # Before download, as files lie, paths tell them apart.
        self._files = {name: str(path) if path.suffix else path.name for name, path in self.files.items()}

    def ids(self, rows: "pl.DataFrame", column: str) -> dict[str, str]:
        """Item ids by path."""
        cells = rows[column].drop_nulls().unique()
        return {cell: tables.image_id(self._files[own_images.name_of(cell)]) for cell in cells}

    def items(self, wanted: set[str]) -> "pa.Table":
        """The images."""
        files = {tables.image_id(sha256): sha256 for sha256 in self._files.values()}
        ids = sorted(wanted & files.keys())
        return _table("image", ids, file=[files[id_] for id_ in ids])


@dataclass
class Given:
    """Cells are ids of vectors."""

    vectors: Vectors

    def __post_init__(self) -> None:
        self._ids = [tables.item_id("vector", row.astype("<f4").tobytes()) for row in self.vectors.values]

    def ids(self, rows: "pl.DataFrame", column: str) -> dict[str, str]:
        """Item ids by the vectors' own ids.

        Raises:
            PipelineError: Naming the first row whose id no vector has.
        """
        import polars as pl

        found = dict(zip(self.vectors.ids, self._ids, strict=True))
        cells = set(rows[column].drop_nulls().unique())
        lost = pl.col(column).is_in(list(cells - found.keys()))
        refuse(rows, column, lost, f"must be an id in {self.vectors.name}, got {{got}}")
        return {cell: found[cell] for cell in cells}

    def items(self, wanted: set[str]) -> "pa.Table":
        """The vectors."""
        import numpy as np
        import pyarrow as pa

        places = {id_: place for place, id_ in enumerate(self._ids) if id_ in wanted}
        rows, width = np.fromiter(places.values(), np.int64, len(places)), self.vectors.values.shape[1]
        chunks = [
            pa.ListArray.from_arrays(
                pa.array(np.arange(len(part) + 1, dtype=np.int32) * width),
                pa.array(self.vectors.values[part].ravel()),
            )
            for part in np.split(rows, range(_CHUNK, len(rows), _CHUNK))
        ]
        return _table("vector", list(places), vector=pa.chunked_array(chunks, pa.list_(pa.float32())))


def _table(modality: str, ids: list[str], **columns: object) -> "pa.Table":
    import pyarrow as pa

    return pa.table({"item_id": ids, "modality": [modality] * len(ids), **columns})


def write(path: Path, contents: list[Content], wanted: set[str]) -> None:
    """Write the items with these ids, of all modalities, as one table."""
    import pyarrow as pa

    parts = [part for part in (content.items(wanted) for content in contents) if len(part)]
    tables.write_table(path, pa.concat_tables(parts, promote_options="default"), tables.items_schema())
