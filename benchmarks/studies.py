"""Studies drawn, split, encoded and fitted by the pipeline's own code, in a folder of their own.

Texts are encoded through the pipeline's store, once: later runs find them there.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir, contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from jaxtyping import Bool
from torch import Tensor

from benchmarks.table import LeftOut
from pal.comparisons import Comparisons
from pal.config import preset
from pal.methods.base import Task
from pal.models.base import make_model
from pal.serving.reward_model import RewardModel
from pal.users.points import Points
from pipeline import params, paths, study
from pipeline.evaluation.predictions import predict
from pipeline.evaluation.scores import Score, score_slices
from pipeline.params import Params
from pipeline.stages import download, encode, evaluate, prepare, split, train
from pipeline.study import Study

ROOT = Path(__file__).parents[1]
SEEDS = (0, 1, 2)
STAGES = (download, prepare, split, encode)
ALL_STAGES = (*STAGES, train, evaluate)
# Real data: their folder in `../shared/data`, and a file in it.
REAL = {
    "persona": ("persona", "interest-in-art.jsonl"),
    "photographs": ("dog_morphs", "images.parquet"),
    "jester": ("jester", "ratings.parquet"),
    "ukpconvarg": ("ukpconvarg", "judgements.parquet"),
}


def real_data(name: str) -> Path | None:
    """The folder of real data: PAL_PERSONA and so on, or one in `../shared/data` beside the repository."""
    folder, file = REAL[name]
    path = Path(os.environ.get(f"PAL_{name.upper()}") or ROOT.parent / "shared/data" / folder).resolve()
    return path if (path / file).is_file() else None


def needed_data(name: str) -> Path:
    """That folder; a benchmark that needs it is left out where it is not there."""
    folder = real_data(name)
    if folder is None:
        raise LeftOut(f"needs {REAL[name][1]}; set PAL_{name.upper()} to its folder")
    return folder


def persona_or_sample() -> tuple[Path, str]:
    """The folder of Anthropic's statements, or of the sample of them, and which of the two it is."""
    real = real_data("persona")
    if real is None:
        return ROOT / paths.SAMPLES / "persona", "the sample: the real Persona set was not found"
    return real, "Anthropic's"


def changed(given: Params, changes: Mapping[str, Any]) -> Params:
    """Parameters with other values under dotted keys."""
    plain = given.model_dump(mode="json")
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = plain
        for name in parents:
            section = section[name]
        section[last] = value
    return params.check(plain)


def values(dataset: str, seed: int, *, source: str | None = None, **prepare: Any) -> Params:
    """params.yaml with one seed for drawing and training alike, and changes of a dataset's `prepare`."""
    with chdir(ROOT):
        given = params.load()
    changes: dict[str, Any] = {"prepare.seed": seed, "train.seed": seed}
    changes |= {f"{dataset}.prepare.{name}": value for name, value in prepare.items()}
    return changed(given, changes | ({} if source is None else {f"{dataset}.source": source}))


@contextmanager
def staged(dataset: str, given: Params, stages: Iterable[Any] = STAGES) -> Iterator[None]:
    """Run stages, from download to encode, in a folder of their own; the block runs inside it."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), redirect_stdout(StringIO()):
        write_params(given)
        for stage in stages:
            stage.main(dataset)
        yield


def draw(dataset: str, given: Params) -> Study:
    """Run the stages from download to encode, and load what they wrote."""
    with staged(dataset, given):
        return study.load(dataset)


def task_of(data: Study, seed: int, K: int = 3) -> Task:
    """What is to be learned from a study."""
    train, val = (data.select("seen", split) for split in ("train", "val"))
    return Task(data.embeddings, train, data.n_users("seen"), val, K, seed)


def divide(comparisons: Comparisons, held_out: Bool[Tensor, " n"]) -> tuple[Comparisons, ...]:
    """Comparisons to learn from, and those held out."""
    return tuple(comparisons[side.nonzero()[:, 0]] for side in (~held_out, held_out))


def fit_study(data: Study, given: Params, K: int | None = None, progress: Any = None) -> RewardModel:
    """Fit a study as the stage train does, with K prototypes in place of `model.K`."""
    head, config = given.configs(data.dataset, K)
    fitted = replace(task_of(data, given.train.seed), progress=progress).fit(head, config).fitted
    ids = data.user_ids["seen"]
    return RewardModel.from_fit(fitted, data.embeddings, user_ids=ids, fit_config=config, encoder={})


def score_study(
    data: Study, model: RewardModel, given: Params, halves: tuple[str, ...] = ("seen",)
) -> list[Score]:
    """The model's accuracies on a study's test pairs, as the stage evaluate finds them."""
    predictions = predict(data, {"model": model}, {}, given.evaluate, halves)
    return score_slices(predictions, data, given.evaluate).main


def by_seed(
    job: Callable[..., Any], cases: Iterable[Any] = ((),), seeds: Iterable[Any] = SEEDS
) -> dict[Any, list[Any]]:
    """What a job gives for each case, its arguments or its one argument, by seed; a process per core."""
    cases, seeds = list(cases), list(seeds)
    tuples = [(*(case if isinstance(case, tuple) else (case,)), seed) for case in cases for seed in seeds]
    workers = min(os.cpu_count() or 1, len(tuples))
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        found = pool.map(job, *zip(*tuples, strict=True))
        return {case: [next(found) for _ in seeds] for case in cases}


def write_params(given: Params, folder: Path | str = ".") -> None:
    """Write parameters where the pipeline looks for them."""
    text = yaml.safe_dump(given.model_dump(mode="json"))
    Path(folder, paths.PARAMS).write_text(text, encoding="utf-8")


def python(*arguments: str, **options: Any) -> subprocess.Popen:
    """A process of Python on one thread, which finds all that lies here."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *arguments], text=True, env=env, **{"cwd": ROOT, **options})


def random_model(
    dim: int, users: int, model: str = "B", latent: int = 16, encoder: dict[str, Any] | None = None
) -> RewardModel:
    """A model of preset ours, K = 3, at random, on embeddings of a width, as if fitted to so many users."""
    head, config = preset("ours", model, head={"K": 3, "latent": latent})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prompt_dim = dim if model == "B" else 0
        built = make_model(head, prompt_dim=prompt_dim, response_dim=dim)
        weights = torch.softmax(2 * torch.randn(users, 3), 1)
    ids = [str(number) for number in range(users)]
    prior = Points.from_states(weights)
    return RewardModel(built, ids, weights, prior, config, encoder or {}, prompt_dim, dim)


class Child(NamedTuple):
    """What a process took: seconds, the memory resident at most in GB, and its last line."""

    seconds: float
    peak: float
    said: str


# Another process between, since a process that starts from this one has its peak of memory for a beginning.
MEASURED = """import resource, subprocess, sys
code = subprocess.call([sys.executable, *sys.argv[1:]])
print("", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, sep="\\n")
sys.exit(code)"""


def run_child(arguments: list[str], folder: Path | str = ROOT, **environment: str) -> Child:
    """Run Python in a folder, and wait for its end; a failure is a RuntimeError."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "PYTHONPATH": path, **environment}
    start = time.perf_counter()
    command = [sys.executable, "-c", MEASURED, *arguments]
    child = subprocess.run(command, check=False, cwd=folder, stdout=subprocess.PIPE, text=True, env=env)
    seconds = time.perf_counter() - start
    if child.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {child.returncode}")
    *said, kilobytes = child.stdout.split("\n")[:-1]
    peak = float(kilobytes) if sys.platform != "darwin" else float(kilobytes) / 1024
    return Child(seconds, peak * 1024 / 1e9, "\n".join(said).strip().rsplit("\n", 1)[-1])
