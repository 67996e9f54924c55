"""The budget behind preset `ours`: equally many configurations for every dataset, judged on validation pairs.

Configuration 0 is the preset as it ships; the others are drawn at random around it, the same ones for every
dataset of a model. Half of the validation pairs choose an epoch, the other half judge; test pairs have no
part in it, nor have the seeds that paper.yaml draws its studies from.
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments import fits, intervals, running, study
from experiments.entries import Run
from experiments.sources import find, missing
from pal.config import FitConfig, HeadConfig, preset
from pal.evaluation.accuracy import Judged
from pal.fitting.trainer import Fitted
from pal.models.base import margins
from pipeline.errors import PipelineError
from pipeline.study import Study

FOUND = Path("metrics/search.json")
DRAWN = 24  # configurations beside the preset
SEEDS = [100, 101, 102]
STEPS = 3000  # at most, whatever the epochs: a configuration costs minutes, not hours
Options = tuple[dict[str, Any], dict[str, Any]]

# What a configuration draws, each evenly and by itself, in place of the preset's value.
SPACES: dict[str, tuple[dict[str, list[Any]], dict[str, list[Any]]]] = {
    "A": (
        {"distance": ["squared", "l2"], "prototypes": ["latent", "input"], "hidden_layers": [0, 0, 1]},
        {
            "loss": ["logistic", "hinge", "smooth_hinge"],
            "learning_rate": [0.002, 0.005, 0.01, 0.02, 0.05],
            "weights_learning_rate": [0.02, 0.05, 0.1, 0.3],
            "weight_decay": [0.0, 0.01, 0.1],
            "batch_size": [250, 1000, 4000],
            "epochs": [50, 100, 200],
        },
    ),
    "B": (
        {
            "similarity": ["inner", "inner", "cosine"],
            "dropout": [0.0, 0.1, 0.3, 0.5],
            "hidden_layers": [0, 1, 1],
            "hidden": [16, 64],
        },
        {
            "objective": ["mixture", "mixture", "pal"],
            "learning_rate": [0.002, 0.005, 0.01, 0.02],
            "weight_decay": [0.01, 0.1, 0.3, 1.0],
            "annealing_schedule": ["linear", "geometric"],
            "grid_points": [0, 40],
            "epochs": [100, 300],
        },
    ),
}
SETS = {
    "simulated": Run.from_options(
        dataset="simulated",
        needs="nothing",
        model="A",
        head={"latent": 16, "K": 3},
        prepare={
            "setting": "mixture", "dim": 16, "groups": 3, "seen_users_per_group": 50,
            "unseen_users_per_group": 1, "train_pairs": 100, "adapt_pairs": 1, "val_pairs": 40,
            "test_pairs": 1,
        },
    ),
    "persona": Run.from_options(
        dataset="persona",
        needs="persona",
        encoder="all-MiniLM-L6-v2",
        model="B",
        head={"K": 6},
        prepare={
            "groups": 6, "users_per_group": 40, "unseen_users_per_group": 1, "train_pairs": 40,
            "adapt_pairs": 1, "val_pairs": 40, "test_pairs": 1, "new_test_pairs": 1,
        },
    ),
}  # fmt: skip


def main(dataset: str) -> Path:
    """Judge the preset and what was drawn on one dataset, and keep that beside what was found on others.

    Args:
        dataset: One of `SETS`.

    Raises:
        PipelineError: If it is none of them, or its data are not here.
    """
    if dataset not in SETS:
        raise PipelineError(f"dataset must be one of {', '.join(SETS)}, got {dataset!r}")
    entry = SETS[dataset]
    source = find(entry.needs)
    if source is None:
        raise PipelineError(f"the search on {dataset} {missing(entry.needs)}")
    options = configurations(entry.model)
    jobs = [(entry, dict(entry.prepare), options, source, seed) for seed in SEEDS]
    judged = fits.in_processes(_of_seed, jobs, workers=2)
    rows = _rows(dataset, options, [list(of_one) for of_one in zip(*judged, strict=True)])
    kept = [row for row in running.rows_of(FOUND) if row["dataset"] != dataset]
    about = {
        "budget": f"{DRAWN} configurations beside the preset, {len(SEEDS)} seeds, {STEPS} steps at most",
        "judged": "on half of the validation pairs; differences are paired, 95 % over seeds and users",
    }
    return running.write(FOUND, about, [*kept, *rows])


def configurations(model: str) -> list[Options]:
    """What is tried with a model: the preset's own options first, then those drawn; always the same."""
    draw = np.random.default_rng(0)
    found: list[Options] = [({}, {})]
    while len(found) <= DRAWN:
        head, fit = (
            {name: values[int(draw.integers(len(values)))] for name, values in space.items()}
            for space in SPACES[model]
        )
        if fit.get("objective") != "mixture":  # these two are options of the mixture
            of_mixture = ("annealing_schedule", "grid_points")
            fit = {name: value for name, value in fit.items() if name not in of_mixture}
        if (head, fit) not in found:
            found.append((head, fit))
    return found


def _of_seed(
    entry: Run, prepare: dict[str, Any], options: list[Options], source: str, seed: int
) -> list[Judged]:
    """Every configuration on one study."""
    data = study.draw(entry.model_copy(update={"prepare": prepare}), {}, source, seed).data
    return [_judged(data, *_configs(entry, *one), seed) for one in options]


def _configs(entry: Run, head: dict[str, Any], fit: dict[str, Any]) -> tuple[HeadConfig, FitConfig]:
    return preset("ours", entry.model, head={**entry.head, **head}, fit={"max_steps": STEPS, **fit})


def _judged(data: Study, head: HeadConfig, config: FitConfig, seed: int) -> Judged:
    """Fit with one half of the validation pairs, and judge the other."""
    from pal.fitting.trainer import fit

    val, n_users = data.select("seen", "val"), data.n_users("seen")
    first, second = (val[_every_other(val.user.numpy(), half)] for half in (0, 1))
    train = data.select("seen", "train")
    found: Fitted = fit(
        data.embeddings, train, n_users=n_users, head=head, config=config, val=first, seed=seed
    )
    return Judged.from_margins(
        margins(found.head, found.states, data.embeddings, second), second.user, n_users=n_users
    )


def _every_other(user: np.ndarray, half: int) -> Any:
    """Rows of one half of each user's pairs."""
    import torch

    order = np.argsort(user, kind="stable")
    counts = np.bincount(user)
    place = np.empty(len(user), dtype=np.int64)
    place[order] = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    return torch.from_numpy((place % 2 == half).nonzero()[0])


def _rows(dataset: str, options: list[Options], judged: list[list[Judged]]) -> list[dict[str, Any]]:
    """A row for each configuration, the best first, with its difference from the preset."""
    ours = judged[0]
    rows = []
    for (head, fit), each in zip(options, judged, strict=True):
        low, high = intervals.interval(intervals.resampled(each) - intervals.resampled(ours))
        mean = intervals.mean(each)
        rows.append(
            {
                "dataset": dataset,
                "options": {**head, **fit} or "preset ours",
                "accuracy": round(mean, 2),
                "less_ours": round(mean - intervals.mean(ours), 2),
                "low": round(low, 2),
                "high": round(high, 2),
            }
        )
    return sorted(rows, key=lambda row: -row["accuracy"])
