"""The stages' names, and where everything lies, relative to the repository root, where DVC runs them."""

import os
from pathlib import Path

from pal.files import store as store  # content-addressed: raw bytes and finished embeddings

# Each stage, with what it does: dvc.yaml's stages and the commands of `python -m pipeline`, in their order.
STAGES = {
    "check": "Check params.yaml, and fingerprint the sources.",
    "download": "Bring raw files into the store, pinned by their hashes.",
    "prepare": "Turn raw files into items and pairs.",
    "split": "Mark users seen or unseen, pairs train, adapt, val or test.",
    "encode": "Embed every item once with the frozen encoder.",
    "choose-k": "Find how many prototypes a dataset asks for, by cross-validation.",
    "train": "Fit the head, and the baselines beside it.",
    "evaluate": "Measure accuracy on seen and on unseen users.",
    "compare": "Judge methods side by side: does personalising pay, and with which.",
    "report": "Write the report, HTML pages that open offline.",
}
# The models that train fits beside `model`: one prototype for everyone, and each user's true group given.
CONTROLS = ("k1", "oracle")
# The curves of choose-k: users fitted as the parameters say, and each user at a single prototype.
AS_FITTED, ONE_PER_USER = "as fitted", "one prototype per user"
PARAMS = Path("params.yaml")
ATTRIBUTES = "attributes.json"  # of people, beside the prepared pairs, where the data tell
SAMPLES = Path("data/sample")
REPORT = Path("data/report/report.html")  # which leads to a page for each dataset, beside it


def project_root() -> Path:
    """The repository that a user works in: a relative FOLDER in params.yaml starts here.

    In a run that DVC makes in a temporary copy (`--temp`, the queue) this is the repository that it was
    copied from, which DVC names in DVC_ROOT.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd())


def fingerprint(dataset: str) -> Path:
    """What check writes: the fingerprint of the dataset's source."""
    return Path("data/check") / f"{dataset}.json"


def raw(dataset: str) -> Path:
    """What download writes: a manifest of the raw files, whose bytes lie in the store."""
    return Path("data/raw") / f"{dataset}.json"


def prepared(dataset: str) -> Path:
    """What prepare writes: items, pairs and, where data are generated, the truth behind them."""
    return Path("data/prepared") / dataset


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


def further_fits(models: Path) -> list[Path]:
    """The folders of the fits from further seeds in a folder of models, in order."""
    folders = [path for path in models.glob("again-*") if path.is_dir()]
    return sorted(folders, key=lambda path: int(path.name.partition("-")[2]))


def evaluated(dataset: str) -> Path:
    """What evaluate writes for the report: per user, per shot, per prototype."""
    return Path("data/evaluated") / dataset


def compared(dataset: str) -> Path:
    """What compare writes: whether personalising pays, and the methods' numbers."""
    return Path("data/compare") / f"{dataset}.json"


def metrics(dataset: str) -> Path:
    """The headline numbers, kept in Git."""
    return Path("metrics") / f"{dataset}.json"


def plot(kind: str, dataset: str) -> Path:
    """A small table behind a plot, kept in Git; kind is training, few_shot, calibration, details
    or compare.
    """
    return Path("metrics") / kind / f"{dataset}.csv"
