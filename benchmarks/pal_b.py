"""How fast PAL-B is fitted at Pick-a-Pic's scale, beside what its matrix products alone would take.

The paper's head for Pick-a-Pic at K = 1: f and g of two residual layers of 1,024, the cosine scaled by a
learned number, AdamW, batches of 16,384. The data are 959,040 comparisons on random embeddings, float16 in
memory, and items repeat as in Pick-a-Pic: 59,940 prompts, about 16 comparisons each, and within a prompt each
comparison replaces one of the two images by a new one, so that n comparisons meet n + 1 images. `mixed` is
harder: 8,000 prompts and 40,000 images drawn at random, comparisons shuffled one by one.

One training step is timed beside three things in turns: the five bfloat16 products of its distinct rows into
buffers that are kept (2 forward, 2 for the matrices' gradients, 1 backward), the same step without dropout,
and a plain float32 step of the same comparisons: three calls of plain perceptrons on every row, plain Adam.
Each sample stands between two looks at the float32 matrix peak, and counts where neither fell under 85 % of
the best (benchmarks/rounds.py); the fastest of at least four counts. Then a process of its own fits the whole
set for one epoch, final loss and validation included, and reports its peak memory. About four minutes on two
quiet cores.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from benchmarks.rounds import AT_MOST, SHARE, WANTED, peak
from benchmarks.studies import ROOT
from benchmarks.table import Row, Section, show
from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig, preset
from pal.fitting.objective import Objective
from pal.fitting.per_comparison import FixedStates
from pal.fitting.trainer import fit, make_optimiser
from pal.models.base import make_model

WIDTH, BATCH, PAIRS, PROMPTS, USERS = 1024, 16_384, 959_040, 59_940, 5_000
MIXED = (8_000, 40_000)  # prompts and images of the harder set
GB = 1e9
PEAK = 75.0  # GFLOP/s of float32 products a thread, from which on ratios are judged


@dataclass(frozen=True)
class Work:
    """What is timed: a set's embeddings, its comparisons, and how an epoch is cut."""

    embeddings: Embeddings
    comparisons: Comparisons
    shuffle: str


def measure() -> Section:
    """The ratios of a step, the peak memory of a fit and, where there is a GPU, the time of an epoch."""
    found = _in_child()
    rows = [
        *_steps("", pick_a_pic(), judged=True),
        *_steps("mixed: ", mixed(), judged=False),
        Row("peak memory of the whole fit", found["peak_gb"], "GB", at_most=8.0, note=found["words"]),
        Row(
            "  a step within that fit", found["epoch_seconds"] / -(-PAIRS // BATCH), "s", note="not in turns"
        ),
    ]
    about = {
        "threads": torch.get_num_threads(),
        "best float32 matrix peak": f"{peak.best:.0f} GFLOP/s",
        "embeddings": "float16 in memory; bfloat16 in products",
    }
    if torch.cuda.is_available():
        rows.append(_gpu_epoch())
    else:
        about["an epoch on a GPU"] = "not measured: there is none here; under 2 s is to be reached"
    return Section("PAL-B, K = 1, 1,024 wide: 959,040 comparisons, batches of 16,384", about, rows)


def pick_a_pic() -> Work:
    """Prompts asked about 16 times; within one, each comparison replaces an image: n meet n + 1."""
    g = torch.Generator().manual_seed(0)
    prompt = torch.randint(PROMPTS, (PAIRS,), generator=g).sort().values
    first = torch.arange(PAIRS) + prompt  # one image more than comparisons in each prompt before
    likes_new = torch.rand(PAIRS, generator=g) < 0.5
    comparisons = Comparisons.from_pairs(
        user=torch.randint(USERS, (PAIRS,), generator=g),
        prompt=prompt,
        chosen=first + likes_new.long(),
        rejected=first + (~likes_new).long(),
    )
    return Work(_embeddings(PROMPTS, PAIRS + PROMPTS), comparisons, "prompts")


def mixed() -> Work:
    """Any two images on any prompt; one batch of them."""
    g = torch.Generator().manual_seed(0)
    prompts, images = MIXED
    chosen = torch.randint(images, (BATCH,), generator=g)
    comparisons = Comparisons.from_pairs(
        user=torch.randint(USERS, (BATCH,), generator=g),
        prompt=torch.randint(prompts, (BATCH,), generator=g),
        chosen=chosen,
        rejected=(chosen + torch.randint(1, images, (BATCH,), generator=g)) % images,
    )
    return Work(_embeddings(*MIXED), comparisons, "comparisons")


def _embeddings(prompts: int, responses: int) -> Embeddings:
    """Random ones: rows of a smaller table, each turned by its own number of places; numbers cost time."""
    tables = []
    for n in (prompts, responses):
        table = torch.empty(n, WIDTH, dtype=torch.float16)
        some = torch.randn(1021, WIDTH, generator=torch.Generator().manual_seed(n)).half()
        for turn, rows in enumerate(table.split(len(some))):
            rows.copy_(some[: len(rows)].roll(turn, 1))
        tables.append(table)
    return Embeddings(*tables)


def _configs(shuffle: str, dropout: float = 0.5) -> tuple[HeadConfig, FitConfig]:
    return preset(
        "paper",
        "B",
        head={"K": 1, "latent": WIDTH, "hidden": WIDTH, "dropout": dropout},
        fit={
            "optimiser": "adamw",
            "epochs": 1,
            "batch_size": BATCH,
            "precision": "bfloat16",
            "shuffle": shuffle,
        },
    )


def _steps(name: str, work: Work, *, judged: bool) -> list[Row]:
    batch = next(_objective(work, _configs(work.shuffle)[1]).batches())
    asked = batch.questions[batch.question]
    prompts, images = len(asked.prompt.unique()), len(torch.cat([asked.first, asked.second]).unique())
    parts = {
        "products": _products(prompts, images),
        "step": _step(work, batch, 0.5),
        "without": _step(work, batch, 0.0),
        "plain": _plain_step(work, batch),
    }
    seconds, note, quiet = _in_turns(parts)
    one, floor = seconds["step"], seconds["products"]
    size = f"{prompts + images:,} distinct rows of {3 * BATCH:,}"
    rate = 10 * (prompts + images) * WIDTH**2 / floor / 1e9
    unjudged = "" if quiet and peak.best >= PEAK * torch.get_num_threads() else "the machine was not quiet"

    def bound(value: float) -> float | None:
        return value if judged else None

    return [
        Row(
            f"{name}a step over the products of its distinct rows",
            one / floor,
            "x",
            at_most=bound(1.5),
            note=f"{one:.2f} s over {floor:.2f} s, {rate:.0f} GFLOP/s; {size}; {note}",
            unjudged=unjudged,
        ),
        Row(
            f"{name}  the same without dropout",
            seconds["without"] / floor,
            "x",
            at_most=bound(1.25),
            note=f"{seconds['without']:.2f} s",
            unjudged=unjudged,
        ),
        Row(
            f"{name}a plain float32 step over ours",
            seconds["plain"] / one,
            "x",
            at_least=bound(3.0),
            note=f"{seconds['plain']:.2f} s",
            unjudged=unjudged,
        ),
    ]


def _objective(work: Work, config: FitConfig) -> Objective:
    torch.manual_seed(0)
    return FixedStates(work.embeddings, work.comparisons, config, torch.ones(USERS, 1))


def _step(work: Work, batch: Comparisons, dropout: float) -> Callable[[], None]:
    """One step as `pal.fitting.fit` takes it."""
    shape, config = _configs(work.shuffle, dropout)
    objective = _objective(work, config)
    head = make_model(shape, prompt_dim=WIDTH, response_dim=WIDTH).train()
    optimiser = make_optimiser(head, objective, config)

    def step() -> None:
        loss = objective.loss(head, batch, 0.5)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def _products(*rows: int) -> Callable[[], None]:
    """The matrix products of two layers on so many rows: nothing else, nothing allocated."""
    half = {"dtype": torch.bfloat16}
    matrix, grad = torch.randn(WIDTH, WIDTH).to(**half), torch.empty(WIDTH, WIDTH, **half)
    inputs = [(torch.randn(n, WIDTH).to(**half), torch.empty(n, WIDTH, **half)) for n in rows]

    def products() -> None:
        for x, out in inputs:
            for _ in range(3):
                torch.mm(x, matrix, out=out)
            for _ in range(2):
                torch.mm(x.T, x, out=grad)

    return products


class _Plain(nn.Module):
    """A perceptron as one writes it down."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.Dropout(0.5), nn.ReLU(), nn.Linear(WIDTH, WIDTH)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.layers(x) + x, dim=1)


def _plain_step(work: Work, batch: Comparisons) -> Callable[[], None]:
    """A float32 step as one writes it down: each comparison's prompt and two images, mapped one and all."""
    torch.manual_seed(0)
    f, g, log_scale = _Plain(), _Plain(), nn.Parameter(torch.tensor(2.66))
    parameters = [*f.parameters(), *g.parameters(), log_scale]
    optimiser = torch.optim.Adam(parameters, lr=1e-4)
    q = batch.questions[batch.question]
    e = work.embeddings

    def step() -> None:
        prompt, first, second = (
            table[rows].float()
            for table, rows in ((e.prompts, q.prompt), (e.responses, q.first), (e.responses, q.second))
        )
        ideal = g(prompt)
        margin = log_scale.exp() * ((f(first) * ideal).sum(1) - (f(second) * ideal).sum(1))
        loss = functional.softplus(-margin * batch.sign).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def _in_turns(parts: dict[str, Callable[[], None]]) -> tuple[dict[str, float], str, bool]:
    """Fastest undisturbed seconds of each part, run in turns, what to note, and whether all had enough."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
    kept: dict[str, list[float]] = {name: [] for name in parts}
    before = peak()
    for _ in range(AT_MOST):
        for name in [name for name in parts if len(kept[name]) < WANTED]:
            started = time.perf_counter()
            parts[name]()
            seconds, after = time.perf_counter() - started, peak()
            samples[name].append((seconds, min(before, after)))
            before = after
        for name, found in samples.items():
            kept[name] = [seconds for seconds, beside in found if beside >= SHARE * peak.best]
    best = {name: min(kept[name] or [seconds for seconds, _ in samples[name]]) for name in parts}
    counts = ", ".join(f"{len(kept[name])} of {len(samples[name])}" for name in parts)
    return best, f"peak {peak.best:.0f} GFLOP/s; samples undisturbed: {counts}", all(kept.values())


def _in_child() -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pal_b", "fit"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _whole_fit(device: str = "cpu", epochs: int = 1) -> dict:
    """Fit everything; what it took."""
    work = pick_a_pic()
    head, config = _configs(work.shuffle)
    before = _peak_gb()
    ends = [time.perf_counter()]
    fit(
        work.embeddings,
        work.comparisons,
        n_users=USERS,
        head=head,
        config=config.model_copy(update={"epochs": epochs}),
        val=work.comparisons.slice(0, 4 * BATCH),
        device=device,
        progress=lambda *_: ends.append(time.perf_counter()),
    )
    took, last = time.perf_counter() - ends[0], ends[-1] - ends[-2]
    words = f"{before:.1f} GB before the fit; the fit took {took:.0f} s, its epoch {last:.0f} s"
    return {
        "peak_gb": _peak_gb(),
        "epoch_seconds": last,
        "step_seconds": last / -(-PAIRS // BATCH),
        "words": words,
    }


def _gpu_epoch() -> Row:
    """The second epoch: the first also warms the GPU up."""
    seconds = _whole_fit("cuda", epochs=2)["epoch_seconds"]
    return Row("an epoch on a GPU", seconds, "s", at_most=2.0, note=torch.cuda.get_device_name())


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB


if __name__ == "__main__":
    if sys.argv[1:] == ["fit"]:
        print(json.dumps(_whole_fit()))
    else:
        show(measure())
