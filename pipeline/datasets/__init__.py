"""The datasets by name. A new one is a module here, a line below, and its section of params.yaml.

What a module offers stands in `base.Dataset`. A name that is not here is of one's own comparisons, with a
section of params.yaml that says `like: own`.
"""

from pipeline.datasets import own, persona, pickafilter, pickapic, pickapic_v2, simulated, summarize
from pipeline.datasets.base import Dataset


class Datasets(dict[str, Dataset]):
    """Modules by the names of datasets."""

    def __missing__(self, name: str) -> Dataset:
        return own.named(name)


DATASETS = Datasets(
    simulated=simulated,
    persona=persona,
    pickafilter=pickafilter,
    pickapic_v1=pickapic,
    pickapic_v2=pickapic_v2,
    summarize=summarize,
    own=own,
)
