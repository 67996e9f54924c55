"""The stages' names, and where everything lies, relative to the repository root, where DVC runs them."""

import os
from collections.abc import Callable
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
SAMPLES = Path("data/sample")
# Beside the prepared pairs, where the data tell: people's attributes; how answers were simulated; and
# sentences that must stand by every number.
ATTRIBUTES, TRUTH, NOTES = "attributes.json", "truth.json", "notes.json"
HABITS = "habits.parquet"  # how each person answers


def _of_each_dataset(folder: str, suffix: str = "") -> Callable[[str], Path]:
    return lambda dataset: Path(folder) / f"{dataset}{suffix}"


# What each stage writes of a dataset, by the dataset's name.
fingerprint = _of_each_dataset("data/check", ".json")  # of the dataset's source
raw = _of_each_dataset("data/raw", ".json")  # a manifest of the raw files, whose bytes lie in the store
prepared = _of_each_dataset("data/prepared")  # items, pairs and, where data are generated, the truth
splits = _of_each_dataset("data/splits")  # every pair's place
embeddings = _of_each_dataset("data/embeddings")  # Parquet shards, a folder for each modality
chosen = _of_each_dataset("data/chosen", ".json")  # the number of prototypes, and the curve that chose it
models = _of_each_dataset("data/models")  # the model and the baselines beside it, one folder each
evaluated = _of_each_dataset("data/evaluated")  # for the report: per user, per shot, per prototype
compared = _of_each_dataset("data/compare", ".json")  # whether personalising pays, and the methods' numbers
metrics = _of_each_dataset("metrics", ".json")  # the headline numbers, kept in Git
REPORT = Path("data/report/report.html")  # which leads to a page for each dataset, beside it


def plot(kind: str, dataset: str) -> Path:
    """The table behind a plot, kept in Git; kind is training, few_shot, calibration, details or compare."""
    return Path("metrics") / kind / f"{dataset}.csv"


def project_root() -> Path:
    """The repository that a user works in: a relative FOLDER in params.yaml starts here.

    In DVC's temporary copies (`--temp`, the queue) it is the one that was copied, which DVC names.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd())
