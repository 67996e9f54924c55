"""Pick-a-Pic v1: comparisons of generated pictures by some 4,700 people.

Kirstain et al., arXiv:2305.01569. From the hub at a pinned revision, or from a folder of the same files.
"""

from pathlib import Path

from pipeline.datasets import Found, pickapic, pickapic_files
from pipeline.params import Params


def find(params: Params) -> Found:
    """The hub's files, or links to those in the folder."""
    remote = pickapic_files.from_hub(params.hub.pickapic_v1_repo, params.hub.pickapic_v1_revision)
    return pickapic_files.find(params.source.pickapic_v1, "source.pickapic_v1", remote, "Pick-a-Pic v1")


def prepare(params: Params, files: dict[str, Path], out: Path) -> dict[str, int]:
    """Write items and pairs, and the row counts beside the published ones."""
    kept, rows = pickapic.prepare(params.prepare.pickapic_v1, params.prepare.seed, files)
    pickapic.write_published(out, "v1", files)
    return kept.counts() | pickapic.write(rows, kept.images, out)
