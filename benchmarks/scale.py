"""The paper's largest study on one machine: 6 personas x 10,000 users x 1,000 queries, sixty million answers.

Each stage runs in a process of its own, whose time and peak memory are the figures; the last loads what the
others wrote and fits model B, K = 6, preset `ours`, for one epoch, the final pass over the users included in
the peak. Needs Anthropic's real Persona files (see benchmarks/persona.py), about 1 GB of disk and some
minutes; PAL_SCALE_USERS asks for fewer users a group, and then nothing is judged.
"""

import json
import os
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.persona import MISSING, PERSONAS
from benchmarks.studies import changed, fit_study, real_persona, run_child, values
from benchmarks.table import Row, Section

USERS_PER_GROUP = 10_000


def scale() -> Section:
    """All figures, or none where the files are not there."""
    title = "Paper scale: Persona, 6 groups x 10,000 users x 1,000 queries"
    if real_persona() is None:
        return Section(title, MISSING, [])
    users = int(os.environ.get("PAL_SCALE_USERS", USERS_PER_GROUP))
    given = values(
        "persona", 0, source=str(real_persona()), personas=PERSONAS, users_per_group=users,
        unseen_users_per_group=10, train_pairs=1000, adapt_pairs=20, val_pairs=1, test_pairs=1,
        new_test_pairs=1,
    )  # fmt: skip
    given = changed(given, {"model.K": 6, "persona.train.epochs": 1, "persona.train.restarts": 1})
    with tempfile.TemporaryDirectory() as folder:
        text = yaml.safe_dump(given.model_dump(mode="json"))
        Path(folder, "params.yaml").write_text(text, encoding="utf-8")
        names = ("download", "prepare", "split", "encode")
        stages = {name: run_child(["-m", "pipeline", name, "persona"], folder) for name in names}
        fit = run_child(["-m", "benchmarks.scale"], folder)
    took = json.loads(fit.said)
    made = {name: stages[name] for name in ("prepare", "split")}
    unjudged = "" if users == USERS_PER_GROUP else f"{users:,} users a group"
    whole = sum(child.seconds for child in made.values())
    rows = [
        Row("prepare and split", whole, "s", at_most=300, unjudged=unjudged),
        *(Row(f"  {name}", child.seconds, "s") for name, child in made.items()),
        Row("load the study", took["load"], "s"),
        Row("an epoch", took["epoch"], "s", at_most=120, note="batches set up included", unjudged=unjudged),
        Row("everyone's weights and the final loss", took["after"], "s"),
        *(
            Row(f"peak memory of {name}", child.peak, "GB", at_most=6, unjudged=unjudged)
            for name, child in {**made, "fit": fit}.items()
        ),
    ]
    about = {
        "comparisons": f"{len(PERSONAS) * users * 1000:,} to train on",
        "preset": "ours: model B, latent 16, mixture; K = 6; one epoch",
        "load before": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }
    return Section(title, about, rows)


def fit_here() -> dict[str, float]:
    """Load the study in the current folder and fit one epoch; seconds of both, and of all after the epoch."""
    from pipeline import params, study

    start = time.perf_counter()
    data = study.load("persona")
    loaded = time.perf_counter()
    ends: list[float] = []
    fit_study("persona", data, params.load(), progress=lambda *_: ends.append(time.perf_counter()))
    return {
        "load": loaded - start,
        "epoch": ends[0] - loaded,
        "after": time.perf_counter() - ends[0],
    }


if __name__ == "__main__":
    print(json.dumps(fit_here()))
