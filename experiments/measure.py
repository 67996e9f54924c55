"""Running an entry: draw, fit and judge every cell of its grid for every seed.

What comes out is a list of arms: a cell, a preset and what was read there, with each user's right answers by
seed. Arms go to a Parquet file, from which differences are paired; means and intervals to metrics/paper.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch

from experiments import fits, intervals, study
from experiments.entries import FITTED, Place, Run
from experiments.recovery import recovery
from pal.evaluation.accuracy import Judged
from pal.fitting.trainer import Fitted
from pal.serving.saved_model import SavedModel
from pipeline.evaluation import baselines
from pipeline.evaluation.predictions import predict
from pipeline.evaluation.slices import Score, Scores, find, score_slices
from pipeline.params import Evaluate

# What can be read of a fit: users, model, and the marks by which `find` tells tests apart.
READERS: dict[str, dict[str, Any]] = {
    "seen": {"users": "seen"},
    "seen_new": {"users": "seen", "new": True},
    "unseen": {"users": "unseen", "shots": "each"},
    "zero_shot": {"users": "unseen", "shots": 0},
    "filtered": {"users": "seen", "pairs": "filtered"},
    "untouched": {"users": "seen", "pairs": "untouched"},
    "similarity": {"users": "seen", "model": "similarity"},
    "similarity_untouched": {"users": "seen", "model": "similarity", "pairs": "untouched"},
    "test": {"users": "all", "test": "test", "shots": 0},
    "no_leakage": {"users": "all", "test": "no_leakage", "shots": 0},
    "leakage": {"users": "all", "test": "leakage", "shots": 0},
    "similarity_test": {"users": "all", "model": "similarity", "test": "test"},
    "similarity_no_leakage": {"users": "all", "model": "similarity", "test": "no_leakage"},
    "similarity_leakage": {"users": "all", "model": "similarity", "test": "leakage"},
    "overall": {"users": "both", "shots": "most"},
    "recovered": {},
}


BOUND = "bound"  # in the place of a preset: whoever knows how the data were made


@dataclass(frozen=True)
class Arm:
    """One thing measured in one cell.

    Args:
        at: The cell, the preset, what was read (`on`), and shots where these apply.
        judged: By seed.
    """

    at: Place
    judged: list[Judged]


@dataclass(frozen=True)
class Measured:
    """Everything that an entry's run found.

    Args:
        arms: Accuracies.
        pictures: Points to draw, where the entry asks for them.
        tables: Split sizes and sentences on the data, of the first seed.
    """

    arms: list[Arm]
    pictures: list[dict[str, Any]]
    tables: dict[str, Any]


def run(entry: Run, source: str, workers: int = 1) -> Measured:
    """Run an entry; with several workers each study's seeds are dealt among processes.

    Args:
        entry: What to compute, at its scale.
        source: The data, as params.yaml would name them.
        workers: Processes.
    """
    draws = study.draws(entry)
    shares = _shares(entry.seeds, workers, lone=len(draws) == 1)
    jobs = [
        (entry.model_copy(update={"seeds": seeds}), cell, source, part)
        for cell in draws
        for seeds, part in shares
    ]
    found = fits.in_processes(_cell, jobs, workers)
    arms: list[Arm] = []
    for first in range(0, len(found), len(shares)):
        parts = found[first : first + len(shares)]
        arms += _dealt_back(entry.seeds, [seeds for seeds, _ in shares], parts)
    dealt = zip(jobs, found, strict=True)
    pictures = [p for job, part in dealt if job[0].seeds[0] == entry.seeds[0] for p in part.pictures]
    return Measured(arms, pictures, found[0].tables)


def _shares(seeds: list[int], workers: int, *, lone: bool) -> list[tuple[list[int], tuple[int, int]]]:
    """Seeds of one study as they are dealt to processes, each share with the part of the fits that it makes.

    Where there is one study alone, seeds that are left over would keep one process and let others wait: their
    fits are dealt then, each drawing the study for itself.
    """
    even = len(seeds) // workers * workers if lone else len(seeds)
    whole = [(seeds[n:even:workers], (0, 1)) for n in range(workers)]
    left = [(seeds[even:], (n, workers)) for n in range(workers)]
    return [(some, part) for some, part in [*whole, *left] if some]


def _dealt_back(seeds: list[int], shares: list[list[int]], parts: list[Measured]) -> list[Arm]:
    """Arms of one study with their seeds in order again, as they were before they were dealt out."""
    places: dict[str, Place] = {}
    judged: dict[str, dict[int, Judged]] = {}
    for some, part in zip(shares, parts, strict=True):
        for arm in part.arms:
            places.setdefault(repr(arm.at), arm.at)
            judged.setdefault(repr(arm.at), {}).update(zip(some, arm.judged, strict=False))
    return [
        Arm(at, [judged[key][seed] for seed in seeds if seed in judged[key]]) for key, at in places.items()
    ]


def _cell(entry: Run, cell: Place, source: str, part: tuple[int, int] = (0, 1)) -> Measured:
    """All seeds of one combination of the axes of data; of several parts of the fits one, by its number."""
    drawn = [study.draw(entry, cell, source, seed) for seed in entry.seeds]
    others = [study.another(entry, cell, source, seed) for seed in entry.seeds] if entry.tested_on else drawn
    arms: dict[str, Arm] = {}
    pictures: list[dict[str, Any]] = []
    every = [(preset, place) for preset in entry.presets for place in study.fits(entry, preset, cell)]
    mine = every[part[0] :: part[1]]
    bounded: set[Any] = set()
    for preset in entry.presets:
        for fitted_cell in _by_answers([place for name, place in mine if name == preset]):
            answers = fitted_cell[0].get("train_pairs")
            best = answers not in bounded  # once a study, whichever preset comes to it first
            bounded.add(answers)
            for arm, picture in _fitted(entry, cell, fitted_cell, preset, drawn, others, bounded=best):
                known = arms.setdefault(repr(arm.at), Arm(arm.at, []))
                known.judged.extend(arm.judged)
                pictures += picture
    return Measured(list(arms.values()), pictures, drawn[0].tables)


def _by_answers(cells: list[Place]) -> list[list[Place]]:
    """Cells of the same number of training answers together: those are one study."""
    groups: dict[Any, list[Place]] = {}
    for cell in cells:
        groups.setdefault(cell.get("train_pairs"), []).append(cell)
    return list(groups.values())


def _fitted(
    entry: Run,
    cell: Place,
    each: list[Place],
    preset: str,
    drawn: list[study.Drawn],
    others: list[study.Drawn],
    *,
    bounded: bool,
) -> list[tuple[Arm, list[dict[str, Any]]]]:
    """Fit some cells of one study for every seed at once, and judge them."""
    most = study.most_answers(entry, preset, each[0])
    data = [study.first_answers(one.data, most) for one in drawn]
    places = [(place, n) for place in each for n in range(len(data))]
    tasks = []
    for place, n in places:
        head, config = study.configs(entry, preset, place)
        tasks.append(fits.Task(data[n], head, config, entry.seeds[n]))
    found = []
    for (place, n), task, fitted in zip(places, tasks, fits.fit_all(tasks), strict=True):
        at = {**cell, **place, "preset": preset}
        picture = []
        if "recovered" in entry.read and n == 0 and "-" not in preset:  # variants are not drawn
            picture = [{**at, **point} for point in recovery(fitted, drawn[n])]
        best = bounded and drawn[n].bound is not None and place == each[0]
        if entry.tested_on:
            task, fitted = _for_others(task, fitted, others[n])
        for arm in _judge(entry, task, fitted, others[n], at, bounded=best):
            found.append((arm, picture))
            picture = []
    return found


def _for_others(task: fits.Task, fitted: Fitted, other: study.Drawn) -> tuple[fits.Task, Fitted]:
    """A fit of one prototype as it stands for another study's people, who all have the same reward."""
    everybody = fitted.states.new_ones(other.data.n_users("seen"), 1)
    return replace(task, data=other.data), replace(fitted, states=everybody)


def _judge(
    entry: Run, task: fits.Task, fitted: Fitted, drawn: study.Drawn, at: Place, *, bounded: bool = False
) -> list[Arm]:
    """What the entry reads of one fit, and where asked of the bound of its study."""
    data = task.data
    by = dict.fromkeys(data.embedders)
    model = SavedModel.from_fit(
        fitted, data.embeddings, user_ids=data.user_ids["seen"], fit_config=task.config, encoder=by
    )
    wanted = [READERS[name] for name in entry.read]
    halves = tuple(
        half for half in ("seen", "unseen") if any(w.get("users") in (half, "all", "both") for w in wanted)
    )
    others = baselines.available_baselines(data, drawn.texts) if any("model" in w for w in wanted) else {}
    shots = entry.shots or [1]
    knobs = Evaluate(seed=task.seed, shots=shots, headline_shots=max(shots), draws=20, asked=0, resamples=100)
    bound = drawn.bound if bounded else None
    predictions = predict(data, {"model": model}, others, knobs, halves, bound)
    scores = score_slices(predictions, data, knobs)
    no_fit = {axis: value for axis, value in at.items() if axis not in FITTED}
    arms = []
    for name, reader in zip(entry.read, wanted, strict=True):
        if not reader:
            continue
        for shot in entry.shots if reader.get("shots") == "each" else [None]:
            judged = _read(scores, reader, shot, max(shots))
            what = {"what": name, **({} if shot is None else {"shots": shot})}
            if judged is not None:
                arms.append(Arm({**at, **what}, [judged]))
            best = _read(scores, {**reader, "model": "bound"}, shot, max(shots)) if bounded else None
            if best is not None:
                arms.append(Arm({**no_fit, "preset": BOUND, **what}, [best]))
    return arms


def _read(scores: Scores, reader: dict[str, Any], shot: int | None, most: int) -> Judged | None:
    """One reader's right judgements; None where the data have nothing of the kind."""
    which = {key: value for key, value in reader.items() if key in ("new", "pairs", "test")}
    model, shots = reader.get("model", "model"), reader.get("shots")
    one_set = not scores.by_test and which.get("test") == "test"
    if reader["users"] == "both" or (reader["users"] == "all" and one_set):
        shots = most if shots == "most" else shots
        seen = find(scores.main, "seen", model)
        unseen = find(scores.main, "unseen", model, shots=shots)
        return _together([half for half in (seen, unseen) if half])
    shots = shot if shots == "each" else shots
    tests = scores.by_filter if "pairs" in which else scores.by_test if "test" in which else scores.main
    test = find(tests, reader["users"], model, shots=shots, **which)
    if test is None and reader["users"] == "all":  # nobody is unseen
        test = find(tests, "seen", model, **which)
    return None if test is None else test.judged


def _together(tests: list[Score]) -> Judged | None:
    """Seen and unseen users in one."""
    import numpy as np

    if not tests:
        return None
    each = [test.judged for test in tests]
    return Judged(np.concatenate([j.right for j in each]), np.concatenate([j.total for j in each]))


def summary(arm: Arm) -> dict[str, Any]:
    """An arm as a row of metrics: accuracy in per cent with its interval, and each seed's."""
    each = [100 * one.micro for one in arm.judged]
    low, high = intervals.interval(intervals.resampled(arm.judged))
    return {
        **arm.at,
        "accuracy": round(intervals.mean(arm.judged), 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "sd": round(float(torch.tensor(each).std()) if len(each) > 1 else 0.0, 3),
        "each": [round(x, 2) for x in each],
        "users": int(sum((one.total > 0).sum() for one in arm.judged) / len(arm.judged)),
        "pairs": int(sum(one.total.sum() for one in arm.judged) / len(arm.judged)),
    }
