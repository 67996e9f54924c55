"""recolour: give images their colour filters; text and vectors pass as they are.

A filter is a property of an item, applied when its pixels are decoded; no pixel is stored twice.
"""

import shutil

from pipeline import layout, params, tables
from pipeline.files import new_folder


def main(dataset: str) -> None:
    """Write one dataset's items and pairs with their filters."""
    params.load()
    with new_folder(layout.recoloured(dataset)) as out:
        for name in (tables.ITEMS, tables.PAIRS):
            tables.read_table(layout.prepared(dataset) / name, f"prepare@{dataset}", columns=[])
            shutil.copyfile(layout.prepared(dataset) / name, out / name)
