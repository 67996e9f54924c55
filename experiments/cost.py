"""What an entry will cost: processor seconds foreseen from its grid, before anything runs.

A fit costs its steps, and a look at all of its answers when it ends; of loss `pal` a step costs its
comparisons, of `mixture` the distinct questions and the answers of its batch. The rates below are processor
seconds of one core, timed on Persona at 1,000 users per group and on the simulation, with the seeds of a cell
side by side as they are run; they are a plan to within about a fifth.
"""

from dataclasses import dataclass

from experiments import entries, study
from experiments.entries import Place, Run
from pal.config import FitConfig, HeadConfig

CORES = 2
# Seconds: an entry's processes; to draw, split and encode one study, and for each of its training answers; to
# judge one fit; to read one more number of shots.
START, DRAW, DRAWN, JUDGE, SHOT = 8.0, 1.0, 1.4e-6, 0.1, 0.015
# Seconds a comparison and epoch under `pal`: by model, linear heads and heads of several layers.
PAIR = {("A", 0): 0.95e-6, ("B", 0): 10e-6, ("A", 1): 4.2e-6, ("B", 1): 1.0e-6}
STEP = {"A": 0.55e-3, "B": 3.2e-3}  # a step's fixed part
# mixture: a question and prototype; an answer and point of the simplex; an answer where K is 1; and, once a
# fit, an answer counted and judged.
ASKED, ANSWER, ALIKE, KEPT = 1.2e-6, 0.8e-9, 0.8e-7, 0.5e-6
POINTS = 30
STATEMENTS = 800  # a persona's, less those kept for new test pairs


@dataclass(frozen=True)
class Estimate:
    """What an entry costs.

    Args:
        fits: Fits, over seeds and presets.
        seconds: Processor seconds in all.
    """

    fits: int
    seconds: float

    @property
    def minutes(self) -> float:
        """On two cores."""
        return self.seconds / 60 / CORES


def estimate(run: Run) -> Estimate:
    """Foresee an entry's cost at its scale; entries without fits, and those of real pictures, cost nothing.

    Only the simulation and Persona are foreseen: the other datasets' sizes are known once they are here.
    """
    if run.kind != "accuracy" or run.dataset not in ("simulated", "persona"):
        return Estimate(0, 0.0)
    n_fits, seconds = 0, 0.0
    for cell in study.draws(run):
        seconds += DRAW + DRAWN * _sizes(run, {**cell, **_most(run)})[0]
        for preset in run.presets:
            for place in study.fits(run, preset, cell):
                head, config = study.configs(run, preset, place)
                seconds += _fit(head, config, *_sizes(run, {**cell, **place}, preset))
                seconds += JUDGE + SHOT * len(run.shots)
                n_fits += 1
    n = len(run.seeds)
    return Estimate(n_fits * n, START + seconds * n)


def _most(run: Run) -> Place:
    """The number of training answers that is drawn, where a sweep takes fewer of them."""
    return {"train_pairs": max(map(int, run.grid["train_pairs"]))} if "train_pairs" in run.grid else {}


def _sizes(run: Run, at: Place, preset: str = "") -> tuple[int, int]:
    """Training comparisons and distinct questions of one study, as a preset is fitted to it."""
    drawn = int(at.get("train_pairs", run.prepare.get("train_pairs", 0)))
    each = study.most_answers(run, preset, {"train_pairs": drawn}) or 0
    groups = int(at.get("groups", run.prepare.get("groups", 1)))
    if run.dataset == "persona":
        return each * groups * int(run.prepare["users_per_group"]), STATEMENTS * groups
    users = run.prepare.get("seen_users") or groups * int(run.prepare["seen_users_per_group"])
    return each * int(users), each * int(users)


def _fit(head: HeadConfig, config: FitConfig, n: int, questions: int) -> float:
    """Processor seconds of one fit with its restarts."""
    batch = min(config.batch_size or n, n)
    n_batches = -(-n // batch)
    epochs, _ = config.plan(n_batches)
    steps = config.restarts * epochs * n_batches
    if config.objective == "mixture":
        answers = ANSWER * POINTS if head.K > 1 else ALIKE
        each = STEP[head.model] + ASKED * questions * head.K + answers * n / n_batches
        return steps * each + config.restarts * KEPT * n
    layers = min(1, head.hidden_layers) if head.model == "A" else int(head.hidden_layers > 1)
    pairs = config.restarts * epochs * n * PAIR[head.model, layers]
    return steps * STEP[head.model] + pairs + config.restarts * KEPT * n


def table(scale: str | None = None) -> str:
    """Every entry's fits and minutes, and their sums."""
    declared = entries.load()
    scale = scale or declared.scale
    found = {name: estimate(entry.run.at(scale)) for name, entry in declared.entries.items()}
    width = max(map(len, found))
    lines = [f"{'entry':{width}}  {'fits':>6}  {'minutes on two cores':>20}"]
    lines += [f"{name:{width}}  {one.fits:6}  {one.minutes:20.1f}" for name, one in found.items() if one.fits]
    fits, minutes = (sum(getattr(one, key) for one in found.values()) for key in ("fits", "minutes"))
    return "\n".join([*lines, f"{f'in all, scale {scale}':{width}}  {fits:6}  {minutes:20.1f}"])
