"""Pick-a-Pic v1: comparisons of generated pictures by some 4,700 people.

Kirstain et al., arXiv:2305.01569. From the hub at a pinned revision, or from a folder of the same files.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.datasets import pickapic
from pipeline.datasets.base import DatasetParams, HubFiles, Source

if TYPE_CHECKING:
    from pipeline.params import Params as AllParams

TITLE = "Pick-a-Pic, version 1"
ABOUT = "Pick-a-Pic, version 1: people asked for a picture in words, and said which of two they preferred."
ITEMS_APART = False


class Params(DatasetParams):
    """The section pickapic_v1 of params.yaml; `tables` are the same files without pixels."""

    hub: HubFiles
    tables: HubFiles
    prepare: pickapic.Prepare


def find(params: "AllParams") -> Source:
    """The hub's files, or links to those in the folder."""
    remote = pickapic.from_hub(params.pickapic_v1.hub)
    return pickapic.find(params.pickapic_v1.source, "pickapic_v1.source", remote, "Pick-a-Pic v1")


def prepare(params: "AllParams", files: dict[str, Path], out: Path) -> dict[str, int]:
    """Write items and pairs, and the row counts beside the published ones."""
    kept, rows = pickapic.prepare(params.pickapic_v1.prepare, params.prepare.seed, files)
    pickapic.write_notes(out, "v1", files)
    return kept.counts() | pickapic.write(rows, kept.images, out)
