"""The datasets by name. A new one is a module here, a line below, and its section of params.yaml.

What a module offers stands in `base.Dataset`.
"""

from pipeline.datasets import own, persona, pickafilter, pickapic_v1, pickapic_v2, simulated, summarize
from pipeline.datasets.base import Dataset

DATASETS: dict[str, Dataset] = {
    "simulated": simulated,
    "persona": persona,
    "pickafilter": pickafilter,
    "pickapic_v1": pickapic_v1,
    "pickapic_v2": pickapic_v2,
    "summarize": summarize,
    "own": own,
}
