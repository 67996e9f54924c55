"""The paper's largest study on one machine: 6 personas x 10,000 users x 1,000 queries, sixty million answers.

Each stage runs in a process of its own, whose time and peak memory are the figures; the last loads what the
others wrote and fits model B, K = 6, preset `ours`, for one epoch, the final pass over the users included in
the peak. Needs Anthropic's real Persona files (see benchmarks/persona.py), about 1 GB of disk and some
minutes; PAL_SCALE_USERS asks for fewer users a group, and then nothing is judged.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.studies import ROOT, real_persona, values
from benchmarks.table import Row, Section, show

USERS_PER_GROUP = 10_000
PERSONAS = ["art", "literature", "math", "music", "science", "sports"]
GB = 1e9


@dataclass(frozen=True)
class Child:
    """What a process took.

    Args:
        seconds: From its start to its end.
        peak: Memory resident at most, in GB.
        said: Its last line.
    """

    seconds: float
    peak: float
    said: str


def measure() -> Section:
    """All figures, or none where the files are not there."""
    title = "Paper scale: Persona, 6 groups x 10,000 users x 1,000 queries"
    if real_persona() is None:
        missing = "not found; skipped: set PAL_PERSONA to the folder of interest-in-*.jsonl"
        return Section(title, {"real Persona set": missing}, [])
    users = int(os.environ.get("PAL_SCALE_USERS", USERS_PER_GROUP))
    with tempfile.TemporaryDirectory() as folder:
        _write_params(Path(folder), users)
        stages = {
            stage: _stage(stage, folder) for stage in ("download", "prepare", "recolour", "split", "encode")
        }
        fit = run(["-m", "benchmarks.scale", "fit"], folder)
    about = {
        "comparisons": f"{len(PERSONAS) * users * 1000:,} to train on",
        "preset": "ours: model B, latent 16, mixture; K = 6; one epoch",
        "load before": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }
    unjudged = "" if users == USERS_PER_GROUP else f"{users:,} users a group"
    return Section(title, about, _rows(stages, fit, unjudged))


def _write_params(folder: Path, users: int) -> None:
    given = values(
        "persona",
        0,
        source=str(real_persona()),
        personas=PERSONAS,
        users_per_group=users,
        unseen_users_per_group=10,
        train_pairs=1000,
        adapt_pairs=20,
        val_pairs=1,
        test_pairs=1,
        new_test_pairs=1,
    )
    plain = given.model_dump(mode="json")
    plain["model"]["K"] = 6
    plain["persona"]["train"] |= {"epochs": 1, "restarts": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")


def _stage(stage: str, folder: str) -> Child:
    return run(["-m", "pipeline", stage, "persona"], folder)


def run(arguments: list[str], folder: str) -> Child:
    """Run Python in a folder, and wait for its end.

    Raises:
        RuntimeError: If it fails.
    """
    start = time.perf_counter()
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, stdout=out, env={**os.environ, "PYTHONPATH": path}
        )
        _, status, usage = os.wait4(child.pid, 0)  # this child's own peak; RUSAGE_CHILDREN holds the largest
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        out.seek(0)
        said = out.read().strip().rsplit("\n", 1)[-1]
    if child.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {child.returncode}")
    kilobytes = usage.ru_maxrss if sys.platform != "darwin" else usage.ru_maxrss / 1024
    return Child(seconds, kilobytes * 1024 / GB, said)


def fit_here() -> dict[str, float]:
    """Load the study in the current folder and fit one epoch; seconds of both, and of all after the epoch."""
    import torch

    from pal.fitting.fit import fit
    from pipeline import params, study

    start = time.perf_counter()
    data = study.load("persona")
    loaded = time.perf_counter()
    head, config = params.load().configs("persona")
    ends: list[float] = []
    torch.manual_seed(0)
    fitted = fit(
        data.embeddings,
        data.select("seen", "train"),
        n_users=data.n_users("seen"),
        head=head,
        config=config,
        val=data.select("seen", "val"),
        progress=lambda *_: ends.append(time.perf_counter()),
    )
    done = time.perf_counter()
    return {
        "load": loaded - start,
        "epoch": ends[0] - loaded,
        "after": done - ends[0],
        "accuracy": 100 * fitted.history[-1]["val_accuracy"],
    }


def _rows(stages: dict[str, Child], fit: Child, unjudged: str) -> list[Row]:
    took: dict[str, Any] = json.loads(fit.said)
    made = [stages[name] for name in ("prepare", "recolour", "split")]
    rows = [
        Row(
            "prepare, recolour and split",
            sum(one.seconds for one in made),
            "s",
            at_most=300,
            unjudged=unjudged,
        )
    ]
    rows += [Row(f"  {name}", stages[name].seconds, "s") for name in ("prepare", "recolour", "split")]
    rows += [
        Row("load the study", took["load"], "s"),
        Row("an epoch", took["epoch"], "s", at_most=120, note="batches set up included", unjudged=unjudged),
        Row("everyone's weights and the final loss", took["after"], "s"),
        Row("validation accuracy after it", took["accuracy"]),
    ]
    peaks = {name: stages[name].peak for name in ("prepare", "recolour", "split")} | {"fit": fit.peak}
    return rows + [
        Row(f"peak memory of {name}", peak, "GB", at_most=6, unjudged=unjudged)
        for name, peak in peaks.items()
    ]


if __name__ == "__main__":
    if sys.argv[1:] == ["fit"]:
        print(json.dumps(fit_here()))
    else:
        show(measure())
