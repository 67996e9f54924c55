"""How fast PAL-B is fitted at Pick-a-Pic's scale, beside what its matrix products alone would take.

The paper's head for Pick-a-Pic at K = 1: f and g of two residual layers of 1,024, the cosine scaled by a
learned number, AdamW, batches of 16,384. The data are 959,040 comparisons on random embeddings, whose items
repeat as in Pick-a-Pic.

One training step is timed in turns with the five bfloat16 products of its distinct rows (2 forward, 2 for the
matrices' gradients, 1 backward), with the same step without dropout, and with a plain float32 step. Then a
process of its own fits the whole set for one epoch, final loss and validation included, for its peak memory.
About four minutes on two quiet cores.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from benchmarks.studies import run_child
from benchmarks.table import Row, Section
from benchmarks.timing import in_turns, peak
from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig, preset
from pal.fitting.objectives import PerComparison
from pal.fitting.trainer import make_optimiser
from pal.methods.base import Task
from pal.models.base import PreferenceModel, make_model

WIDTH, BATCH, PAIRS, PROMPTS, USERS = 1024, 16_384, 959_040, 59_940, 5_000
LEAST_PEAK = 75.0  # GFLOP/s of float32 products a thread, from which on ratios are judged


def pal_b() -> Section:
    """The ratios of a step, the peak memory of a fit and, where there is a GPU, the time of an epoch."""
    child = run_child(["-m", "benchmarks.pal_b"])
    seconds = float(child.said)
    note = f"its epoch took {seconds:.0f} s"
    rows = [
        *_steps(pick_a_pic()),
        Row("peak memory of the whole fit", child.peak, "GB", at_most=8.0, note=note),
        Row("  a step within that fit", seconds / -(-PAIRS // BATCH), "s", note="not in turns"),
    ]
    about = {
        "threads": torch.get_num_threads(),
        "best float32 matrix peak": f"{peak.best:.0f} GFLOP/s",
        "embeddings": "float16 in memory; bfloat16 in products",
    }
    if torch.cuda.is_available():
        seconds = whole_fit("cuda", epochs=2)  # the first epoch also warms the GPU up
        rows.append(Row("an epoch on a GPU", seconds, "s", at_most=2.0, note=torch.cuda.get_device_name()))
    else:
        about["an epoch on a GPU"] = "not measured: there is no GPU; under 2 s is to be reached"
    return Section("PAL-B, K = 1, 1,024 wide: 959,040 comparisons, batches of 16,384", about, rows)


def pick_a_pic() -> tuple[Embeddings, Comparisons]:
    """Prompts asked about 16 times; within one, each comparison replaces an image: n meet n + 1."""
    g = torch.Generator().manual_seed(0)
    prompt = torch.randint(PROMPTS, (PAIRS,), generator=g).sort().values
    first = torch.arange(PAIRS) + prompt  # one image more than comparisons in each prompt before
    likes_new = torch.rand(PAIRS, generator=g) < 0.5
    user, chosen = torch.randint(USERS, (PAIRS,), generator=g), first + likes_new.long()
    comparisons = Comparisons.from_pairs(
        user=user, prompt=prompt, chosen=chosen, rejected=first + (~likes_new).long()
    )
    tables = []
    for n in (PROMPTS, PAIRS + PROMPTS):  # rows of a smaller table, each turned: random numbers cost time
        table = torch.empty(n, WIDTH, dtype=torch.float16)
        some = torch.randn(1021, WIDTH, generator=torch.Generator().manual_seed(n)).half()
        for turn, rows in enumerate(table.split(len(some))):
            rows.copy_(some[: len(rows)].roll(turn, 1))
        tables.append(table)
    return Embeddings(*tables), comparisons


def _configs(dropout: float = 0.5, epochs: int = 1) -> tuple[HeadConfig, FitConfig]:
    head = {"K": 1, "latent": WIDTH, "hidden": WIDTH, "dropout": dropout}
    options = {"optimiser": "adamw", "batch_size": BATCH, "precision": "bfloat16", "shuffle": "prompts"}
    return preset("paper", "B", head=head, fit={**options, "epochs": epochs})


def _steps(work: tuple[Embeddings, Comparisons]) -> list[Row]:
    torch.manual_seed(0)
    batch = next(_objective(work, 0.5)[1].batches())
    questions = batch.questions[batch.question]
    prompts = len(questions.prompt.unique())
    images = len(torch.cat([questions.first, questions.second]).unique())
    matrix, grad = (torch.randn(WIDTH, WIDTH).bfloat16() for _ in range(2))
    inputs = [[torch.randn(n, WIDTH).bfloat16() for _ in range(2)] for n in (prompts, images)]

    def products() -> None:
        """The matrix products of two layers on so many rows: nothing else, nothing allocated."""
        for x, out in inputs:
            for _ in range(3):
                torch.mm(x, matrix, out=out)
            for _ in range(2):
                torch.mm(x.T, x, out=grad)

    steps = {"step": _step(work, batch, 0.5), "without": _step(work, batch, 0.0)}
    calls = {"products": products, **steps, "plain": _plain_step(work[0], batch)}
    timed = in_turns(calls, least_peak=LEAST_PEAK)
    floor, step, without, plain = timed.seconds.values()
    rows, late = prompts + images, timed.unjudged
    rate = f"{10 * rows * WIDTH**2 / floor / 1e9:.0f} GFLOP/s; {rows:,} distinct rows of {3 * BATCH:,}"
    note = f"{step:.2f} s over {floor:.2f} s, {rate}; {timed.note}"
    first = "a step over the products of its distinct rows"
    return [
        Row(first, step / floor, "x", at_most=2.5, note=note, unjudged=late),
        Row("  the same without dropout", without / floor, "x", note=f"{without:.2f} s"),
        Row("a plain float32 step over ours", plain / step, "x", at_least=3.0, unjudged=late),
    ]


def _objective(work: tuple[Embeddings, Comparisons], dropout: float) -> tuple[PreferenceModel, PerComparison]:
    shape, config = _configs(dropout)
    head = make_model(shape, prompt_dim=WIDTH, response_dim=WIDTH).train()
    return head, PerComparison(*work, config, USERS, head, torch.ones(USERS, 1))


def _step(work: tuple[Embeddings, Comparisons], batch: Comparisons, dropout: float) -> Callable[[], None]:
    """One step as `pal.fitting` takes it."""
    torch.manual_seed(0)
    head, objective = _objective(work, dropout)
    optimiser = make_optimiser(head, objective, objective.config)

    def step() -> None:
        loss = objective.loss(head, batch, 0.5)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def _plain_step(e: Embeddings, batch: Comparisons) -> Callable[[], None]:
    """A float32 step as one writes it down: each comparison's prompt and two images, mapped one and all."""
    torch.manual_seed(0)
    f, g = (
        nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Dropout(0.5), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        for _ in range(2)
    )
    log_scale = nn.Parameter(torch.tensor(2.66))
    optimiser = torch.optim.Adam([*f.parameters(), *g.parameters(), log_scale], lr=1e-4)
    q = batch.questions[batch.question]

    def step() -> None:
        tables = ((g, e.prompts, q.prompt), (f, e.responses, q.first), (f, e.responses, q.second))
        inputs = [(layers, table[rows].float()) for layers, table, rows in tables]
        ideal, first, second = (functional.normalize(layers(x) + x, dim=1) for layers, x in inputs)
        margin = log_scale.exp() * ((first * ideal).sum(1) - (second * ideal).sum(1))
        loss = functional.softplus(-margin * batch.sign).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def whole_fit(device: str = "cpu", epochs: int = 1) -> float:
    """Fit everything; seconds of the last epoch."""
    (embeddings, comparisons), ends = pick_a_pic(), [time.perf_counter()]
    task = Task(embeddings, comparisons, USERS, comparisons.slice(0, 4 * BATCH), device=device)
    task = replace(task, progress=lambda *_: ends.append(time.perf_counter()))
    task.fit(*_configs(epochs=epochs))
    return ends[-1] - ends[-2]


if __name__ == "__main__":
    print(whole_fit())
