"""The datasets by name. A new one is a module here, a line below, and its section of params.yaml.

A name that is not here is of one's own comparisons, with a section that says `like: own`. A module offers
    Params           its section of params.yaml, a `DatasetParams`
    TITLE, ABOUT     what the report calls it, and what it is, in a sentence
    ITEMS_APART      whether pairs on items that training knows and on new ones are never added up
    find(params)     the `Source` that says which files there are now
    prepare(params, files, out)
                     writes items and pairs into the empty folder `out`, and returns how many rows were read,
                     kept and dropped; `files` are paths in the store by name, whose last part is the sha256
    bound(data, params)
                     where it is known how answers were made, the `Truth`; None where that is not stored
"""

from typing import Any

from pipeline.datasets import own, persona, pickafilter, pickapic, pickapic_v2, simulated, summarize


class Datasets(dict[str, Any]):
    """Modules by the names of datasets."""

    def __missing__(self, name: str) -> Any:
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
