"""Large data on one machine: the paper's largest study, and a million comparisons of one's own.

Each stage runs in a process of its own, whose time and peak memory are the figures; the last loads what the
others wrote and fits model B, K = 6, preset `ours`, for one epoch, the final pass over the users included in
the peak. About 1 GB of disk and some minutes; the CSV takes one.
"""

import json
import os
import random
import tempfile
import time
from pathlib import Path

from benchmarks.persona import PERSONAS, prepared
from benchmarks.studies import changed, fit_study, run_child, values, write_params
from benchmarks.table import Row, Section


def scale(users: int = 10_000) -> Section:
    """Persona: so many users a group with a thousand answers each, sixty million in all."""
    given = prepared(
        0, len(PERSONAS), users_per_group=users, unseen_users_per_group=10, train_pairs=1000, adapt_pairs=20,
        test_pairs=1, new_test_pairs=1,
    )  # fmt: skip
    given = changed(given, {"model.K": 6, "persona.train.epochs": 1, "persona.train.restarts": 1})
    with tempfile.TemporaryDirectory() as folder:
        write_params(given, folder)
        names = ("download", "prepare", "split", "encode")
        stages = {name: run_child(["-m", "pipeline", name, "persona"], folder) for name in names}
        fit = run_child(["-m", "benchmarks.scale"], folder)
    took = json.loads(fit.said)
    made = {name: stages[name] for name in ("prepare", "split")}
    whole = sum(child.seconds for child in made.values())
    rows = [
        Row("prepare and split", whole, "s", at_most=300),
        *(Row(f"  {name}", child.seconds, "s") for name, child in made.items()),
        Row("load the study", took["load"], "s"),
        Row("an epoch", took["epoch"], "s", at_most=120, note="batches set up included"),
        Row("everyone's weights and the final loss", took["after"], "s"),
        *(
            Row(f"peak memory of {name}", child.peak, "GB", at_most=6)
            for name, child in {**made, "fit": fit}.items()
        ),
    ]
    about = {
        "comparisons": f"{len(PERSONAS) * users * 1000:,} to train on",
        "preset": "ours: model B, latent 16, mixture; K = 6; one epoch",
        "load before": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }
    return Section("Paper scale: Persona, 6 groups x 10,000 users x 1,000 queries", about, rows)


def fit_here() -> dict[str, float]:
    """Load the study in the current folder and fit one epoch; seconds of both, and of all after the epoch."""
    from pipeline import params, study

    start = time.perf_counter()
    data = study.load("persona")
    loaded = time.perf_counter()
    ends: list[float] = []
    fit_study(data, params.load(), progress=lambda *_: ends.append(time.perf_counter()))
    return {"load": loaded - start, "epoch": ends[0] - loaded, "after": time.perf_counter() - ends[0]}


def large_csv(comparisons: int = 1_000_000, people: int = 50_000) -> Section:
    """A large CSV: what each stage takes of memory beside the program."""
    draw = random.Random(0)
    words = [f"w{number:04d}" for number in range(3000)]
    responses, prompts = (
        [" ".join(draw.choices(words, k=length)) for _ in range(count)]
        for count, length in ((60_000, 13), (20_000, 7))
    )
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.csv")
        with log.open("w", encoding="utf-8") as file:
            file.write("user_id,prompt,chosen,rejected\n")
            for _ in range(comparisons):
                chosen, rejected = draw.sample(responses, 2)
                file.write(f"u{draw.randrange(people)},{draw.choice(prompts)},{chosen},{rejected}\n")
        given = changed(values("own", 0), {"datasets": ["own"], "own.source": str(log)})
        write_params(given, folder)
        size, store = log.stat().st_size / 1e6, {"PAL_STORE": str(Path(folder, "store"))}
        program = run_child(["-c", "import pipeline.stages.check, pipeline.datasets.own"], folder)
        stages = {
            name: run_child(["-m", "pipeline", name, *(["own"] * (name != "check"))], folder, **store)
            for name in ("check", "download", "prepare")
        }
    most, rows = max(400.0, 2 * size), []
    for name, child in stages.items():
        beside = 1000 * (child.peak - program.peak)
        rows.append(Row(f"{name}: memory beside the program", beside, "MB", at_most=most))
        rows.append(Row(f"  in all, in {child.seconds:.0f} s", 1000 * child.peak, "MB"))
    return Section(f"A CSV of {size:.0f} MB: {comparisons:,} comparisons of {people:,} people", {}, rows)


if __name__ == "__main__":
    print(json.dumps(fit_here()))
