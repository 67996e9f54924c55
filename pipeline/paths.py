"""The stages' names, and where everything lies, relative to the repository root, where DVC runs them."""

import os
from pathlib import Path

STAGES = (
    "check",
    "code",
    "download",
    "prepare",
    "recolour",
    "split",
    "encode",
    "choose-k",
    "train",
    "evaluate",
    "report",
)
PARAMS = Path("params.yaml")
SAMPLES = Path("data/sample")
CODE = Path("data/code")
REPORT = Path("data/report/report.html")


def module(stage: str) -> str:
    """The name of a stage's module: Python's names have no hyphens."""
    return stage.replace("-", "_")


def project_root() -> Path:
    """The repository that a user works in: a relative FOLDER in params.yaml starts here.

    In a run that DVC makes in a temporary copy (`--temp`, the queue) this is the repository that it was
    copied from, which DVC names in DVC_ROOT.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd())


def store() -> Path:
    """The content-addressed store outside the repository: raw bytes and finished embeddings."""
    if named := os.environ.get("PAL_STORE"):
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("pal")


def fingerprint(dataset: str) -> Path:
    """What check writes: the fingerprint of the dataset's source."""
    return Path("data/check") / f"{dataset}.json"


def raw(dataset: str) -> Path:
    """What download writes: a manifest of the raw files, whose bytes lie in the store."""
    return Path("data/raw") / f"{dataset}.json"


def prepared(dataset: str) -> Path:
    """What prepare writes: items, pairs and, where data are generated, the truth behind them."""
    return Path("data/prepared") / dataset


def recoloured(dataset: str) -> Path:
    """What recolour writes: items and pairs with colour filters."""
    return Path("data/recoloured") / dataset


def splits(dataset: str) -> Path:
    """What split writes: every pair's place, and a manifest."""
    return Path("data/splits") / dataset


def embeddings(dataset: str) -> Path:
    """What encode writes: Parquet shards."""
    return Path("data/embeddings") / dataset


def chosen(dataset: str) -> Path:
    """What choose-k writes: the number of prototypes, and the curve that chose it."""
    return Path("data/chosen") / f"{dataset}.json"


def models(dataset: str) -> Path:
    """What train writes: the model and the baselines beside it, one folder each."""
    return Path("data/models") / dataset


def evaluated(dataset: str) -> Path:
    """What evaluate writes for the report: per user, per shot, per prototype."""
    return Path("data/evaluated") / dataset


def metrics(dataset: str) -> Path:
    """The headline numbers, kept in Git."""
    return Path("metrics") / f"{dataset}.json"


def plot(kind: str, dataset: str) -> Path:
    """A small table behind a plot, kept in Git; kind is training, few_shot, calibration or details."""
    return Path("metrics") / kind / f"{dataset}.csv"
