"""Running an entry: draw, fit and judge every cell of its grid for every seed, or count what it asks for.

What comes out is a list of arms: a cell, a preset and what was read there, with each user's right answers by
seed. Their means and intervals go to metrics/paper.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.studies import task_of
from experiments import study
from experiments.entries import FITTED, Place, Run
from pal.evaluation.accuracy import Judged
from pal.fitting.trainer import Fitted
from pal.models.base import make_model
from pal.serving.reward_model import RewardModel
from pipeline.evaluation.predictions import available_baselines, predict
from pipeline.evaluation.scores import Scores, find, score_slices
from pipeline.params import Evaluate
from pipeline.study import Study

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
RESAMPLES = 1000
AT_ONCE = 1 << 24  # numbers of a table of draws
BOUND = "bound"  # in the place of a preset: whoever knows how the data were made
WIDTH = 768  # of all-mpnet-base-v2
# The reading of "a two-layer MLP" that has both published counts (D10).
SHAPE = {"hidden_layers": 1, "hidden": 384, "latent": 768, "bias": True, "skip": True}


@dataclass(frozen=True)
class Arm:
    """One thing measured in one cell: right answers by seed."""

    at: Place  # the cell, the preset, what was read (`what`), and shots where these apply
    judged: list[Judged]


@dataclass(frozen=True)
class Measured:
    """Everything that an entry's run measured."""

    arms: list[Arm]
    pictures: list[dict[str, Any]]  # points to draw, where the entry asks for them
    tables: dict[str, Any]  # split sizes and sentences on the data, of the first seed


def run(entry: Run, source: str, workers: int = 1) -> Measured:
    """Run an entry; studies, one for each seed and cell of the axes of data, are dealt to workers."""
    if entry.kind == "parameters":
        return parameters(entry)
    if entry.kind == "counts":
        return counted(entry, source)
    jobs = [(entry, cell, source, seed) for cell in study.draws(entry) for seed in entry.seeds]
    if min(workers, len(jobs)) < 2:
        results = [_run_study(*job) for job in jobs]
    else:
        with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            results = list(pool.map(_run_study, *zip(*jobs, strict=True)))
    arms: dict[str, Arm] = {}
    for arm in (arm for result in results for arm in result.arms):
        arms.setdefault(repr(arm.at), Arm(arm.at, [])).judged.extend(arm.judged)
    pictures = [picture for result in results for picture in result.pictures]
    return Measured(list(arms.values()), pictures, results[0].tables)


def _run_study(entry: Run, cell: Place, source: str, seed: int) -> Measured:
    """All fits to the study of one seed and one combination of the axes of data."""
    drawn = study.draw(entry, cell, source, seed)
    others = entry.model_copy(update={"dataset": entry.tested_on, "tested_on": None})
    tested = study.draw(others, cell, source, seed) if entry.tested_on else drawn
    arms: list[Arm] = []
    pictures: list[dict[str, Any]] = []
    bounded: set[Any] = set()  # numbers of training answers whose bound some preset has found
    for preset in entry.presets:
        for place in study.fits(entry, preset, cell):
            data = study.first_answers(drawn.data, entry, preset, place)
            head, config = study.configs(entry, preset, place)
            device = "cuda" if torch.cuda.is_available() else "cpu"
            fitted = replace(task_of(data, seed), device=device).fit(head, config).fitted
            at = {**cell, **place, "preset": preset}
            if "recovered" in entry.read and seed == entry.seeds[0] and "-" not in preset:
                pictures += [{**at, **point} for point in recovery(fitted, drawn)]
            if entry.tested_on:  # other people, who all have the one prototype's reward
                data = tested.data
                fitted = replace(fitted, states=fitted.states.new_ones(data.n_users("seen"), 1))
            n = place.get("train_pairs")
            judged = replace(tested, bound=None) if n in bounded else tested
            bounded.add(n)
            model = RewardModel.from_fit(
                fitted, data.embeddings, user_ids=data.user_ids["seen"], fit_config=config,
                encoder=dict.fromkeys(data.embedders),
            )  # fmt: skip
            arms += _judge(entry, data, judged, model, at, seed)
    return Measured(arms, pictures, drawn.tables)


def recovery(fitted: Fitted, drawn: study.Drawn) -> list[dict[str, Any]]:
    """True and estimated ideal points of the seen users, and the share of the true ones explained.

    The learned map is known up to an affine change that leaves all answers as they are, so the estimated
    points are brought onto the true ones by the affine map of least squares before they are compared.

    Returns:
        One row for the share explained (`r2`), one per user: x, y true; u, v estimated and aligned.
    """
    truth = drawn.truth or {}
    true = np.array(truth["weights"]) @ np.array(truth["prototypes"]) @ np.array(truth["matrix"]).T
    row = {name: place for place, name in enumerate(truth["user_ids"])}
    true = true[[row[name] for name in drawn.data.user_ids["seen"]]]
    with torch.inference_mode():
        estimated = fitted.head.ideal_points(fitted.states).double().numpy()  # type: ignore[operator]
    design = np.concatenate([estimated, np.ones((len(estimated), 1))], 1)
    aligned = design @ np.linalg.lstsq(design, true, rcond=1e-6)[0]
    explained = float(1 - ((aligned - true) ** 2).sum() / ((true - true.mean(0)) ** 2).sum())
    points = [
        {"x": round(t[0], 3), "y": round(t[1], 3), "u": round(a[0], 3), "v": round(a[1], 3)}
        for t, a in zip(true.tolist(), aligned.tolist(), strict=True)
    ]
    return [{"r2": round(explained, 4)}, *points]


def _judge(
    entry: Run, data: Study, tested: study.Drawn, model: RewardModel, at: Place, seed: int
) -> list[Arm]:
    """What the entry reads of one fit, and of the bound of its study where one is given."""
    readers = {name: READERS[name] for name in entry.read if READERS[name]}
    users = {reader["users"] for reader in readers.values()}
    halves = tuple(half for half in ("seen", "unseen") if users & {half, "all", "both"})
    if not halves:
        return []
    needed = any("model" in reader for reader in readers.values())
    others = available_baselines(data, tested.texts) if needed else {}
    shots = entry.shots or [1]
    # The texts' own few-shot step under their own presets.
    way = "posterior" if str(at["preset"]).startswith("ours") else "weights"
    options = Evaluate(seed=seed, shots=shots, headline_shots=max(shots), draws=20, asked=0, locate=way)
    predictions = predict(data, {"model": model}, others, options, halves, tested.bound)
    scores = score_slices(predictions, data, options)
    readings = [(at, readers)]
    if tested.bound:  # which is the same whatever is fitted
        no_fit = {axis: value for axis, value in at.items() if axis not in FITTED}
        of_bound = {name: {**reader, "model": "bound"} for name, reader in readers.items()}
        readings.append(({**no_fit, "preset": BOUND}, of_bound))
    arms, shots_of = [], {"each": entry.shots, "most": [max(shots)]}
    for place, named in readings:
        for name, reader in named.items():
            asked = reader.get("shots")
            for shot in shots_of.get(asked, [asked]):
                what = {"what": name, **({"shots": shot} if asked == "each" else {})}
                if (judged := _read(scores, reader, shot)) is not None:
                    arms.append(Arm({**place, **what}, [judged]))
    return arms


def _read(scores: Scores, reader: dict[str, Any], shots: int | None) -> Judged | None:
    """One reader's right judgements; None where the data have nothing of the kind."""
    which = {key: value for key, value in reader.items() if key in ("new", "pairs", "test")}
    model, users = reader.get("model", "model"), reader["users"]
    one_set = not scores.by_test and which.get("test") == "test"
    if users == "both" or (users == "all" and one_set):  # seen and unseen users in one
        halves = (find(scores.main, "seen", model), find(scores.main, "unseen", model, shots=shots))
        each = [half.judged for half in halves if half]
        if not each:
            return None
        return Judged(np.concatenate([j.right for j in each]), np.concatenate([j.total for j in each]))
    tests = scores.by_filter if "pairs" in which else scores.by_test if "test" in which else scores.main
    test = find(tests, users, model, shots=shots, **which)
    if test is None and users == "all":  # nobody is unseen
        test = find(tests, "seen", model, **which)
    return None if test is None else test.judged


def parameters(entry: Run) -> Measured:
    """Parameters of model A, 768-384-768, by K, the prototypes counted at the encoder's width (a = f(Pw))."""
    options = {**SHAPE, "prototypes": "input", "distance": "l2", **entry.head}
    rows = []
    for K in entry.grid.get("K", [1]):
        head, _ = study.configs(entry.model_copy(update={"head": options}), "paper", {"K": K})
        made = make_model(head, prompt_dim=0, response_dim=WIDTH)
        rows.append({"what": "parameters", "K": K, "count": sum(p.numel() for p in made.parameters())})
    return Measured([], [], {"counts": rows})


def counted(entry: Run, source: str) -> Measured:
    """Rows by split, as prepare counted them, and how often people agree on a pair."""
    drawn = study.draw(entry, study.draws(entry)[0], source, entry.seeds[0])
    rows = [
        {"what": f"{row['group']}, {split}", "count": row[split]}
        for row in drawn.tables["splits"]
        for split in ("train", "val", "test")
    ]
    rows += [count for split in ("train", "val", "test") for count in agreement(drawn.data, split)]
    return Measured([], [], {"counts": rows, "notes": drawn.tables["notes"]})


def agreement(data: Study, split: str) -> list[dict[str, Any]]:
    """Pairs of one split that several people answered, and those of them on which they differ.

    A pair is two responses to one prompt; somebody who was asked twice counts once, by the first answer.
    """
    parts = []
    # An unseen user's train rows are called adapt.
    for half, name in {"seen": split, "unseen": "adapt" if split == "train" else split}.items():
        answers = data.select(half, name)
        columns = {key: getattr(answers, key).numpy() for key in ("user", "question", "sign")}
        parts.append(pl.DataFrame(columns).with_columns(half=pl.lit(half)))
    once = pl.concat(parts).unique(["half", "user", "question"], keep="first", maintain_order=True)
    votes = once.group_by("question").agg(pl.len().alias("users"), pl.col("sign").n_unique().alias("answers"))
    return [
        {"what": f"{split}: pairs of several users", "count": int((votes["users"] > 1).sum())},
        {"what": f"{split}: disagreements", "count": int((votes["answers"] > 1).sum())},
    ]


def summary(arm: Arm) -> dict[str, Any]:
    """An arm as a row of metrics: accuracy in per cent with its interval, and each seed's."""
    each = [100 * judged.micro for judged in arm.judged]
    low, high = interval(arm.judged)
    return {
        **arm.at,
        "accuracy": round(float(np.mean(each)), 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "sd": round(float(np.std(each, ddof=1)) if len(each) > 1 else 0.0, 3),
        "each": [round(x, 2) for x in each],
        "users": int(sum((judged.total > 0).sum() for judged in arm.judged) / len(arm.judged)),
        "pairs": int(sum(judged.total.sum() for judged in arm.judged) / len(arm.judged)),
    }


def interval(judged: list[Judged]) -> tuple[float, float]:
    """Percentile bootstrap, 95 %, of the mean over seeds of the accuracy in per cent.

    A resample draws as many seeds as there are, with replacement, and within each its users, with all their
    comparisons.
    """
    each = np.stack([_resampled(study.with_comparisons(), seed) for seed, study in enumerate(judged)])
    drawn = np.random.default_rng(0).integers(len(judged), size=(len(judged), RESAMPLES))
    # A seed drawn twice must not bring the same users twice: each slot reads its draws at another place.
    place = (np.arange(RESAMPLES) + 37 * np.arange(len(judged))[:, None]) % RESAMPLES
    low, high = np.quantile(100 * each[drawn, place].mean(0), [0.025, 0.975])
    return float(low), float(high)


def _resampled(judged: Judged, seed: int) -> np.ndarray:
    """Shares judged right in draws of one study's users."""
    n = len(judged.total)
    if n * RESAMPLES > AT_ONCE:  # of so many users the mean is as good as normal
        share = judged.right.sum() / judged.total.sum()
        left = judged.right - share * judged.total
        spread = np.sqrt((left**2).sum()) / judged.total.sum()
        return share + spread * np.random.default_rng([seed, n]).normal(size=RESAMPLES)
    counts = _counts(n, seed)
    return (counts @ judged.right) / (counts @ judged.total)


@lru_cache(maxsize=12)
def _counts(n: int, seed: int) -> np.ndarray:
    """How often each of n users is drawn in each resample."""
    rng = np.random.default_rng([seed, n])
    return rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float32)
