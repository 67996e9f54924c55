"""What an entry will cost: processor seconds foreseen from its grid, before anything runs.

A fit costs its steps; of loss `pal` a step costs its comparisons, of `mixture` its distinct questions and
answers. The rates below were timed on one core, with the seeds of a cell side by side as they are run; they
are a plan to within about a third.
"""

from dataclasses import dataclass

from experiments import entries, study
from experiments.entries import Place, Run
from pal.config import FitConfig, HeadConfig

CORES = 2
# Seconds: to draw, split and encode one study; to judge one fit; to read one more number of shots.
DRAW, JUDGE, SHOT = 1.6, 0.06, 0.015
# Seconds a comparison and epoch under `pal`: by model, linear heads and heads of several layers.
PAIR = {("A", 0): 1.2e-6, ("B", 0): 11e-6, ("A", 1): 4.2e-6, ("B", 1): 5.4e-6}
STEP = {"A": 0.7e-3, "B": 3.2e-3}  # a step's fixed part
ASKED, ANSWER = 1.4e-6, 1.2e-9  # mixture: a question and prototype; an answer and point of the simplex
POINTS = 30
STATEMENTS = 800  # a persona's, less those kept for new test pairs


@dataclass(frozen=True)
class Estimate:
    """What an entry costs.

    Args:
        fits: Fits, over seeds and presets.
        seconds: Processor seconds in all.
        longest: The share of them that falls to one of two cores: of a lone study seeds are dealt 3 to 2.
    """

    fits: int
    seconds: float
    longest: float = 1 / CORES

    @property
    def minutes(self) -> float:
        """On two cores."""
        return self.seconds / 60 * self.longest


def estimate(run: Run) -> Estimate:
    """Foresee an entry's cost at its scale; entries without fits, and those of real pictures, cost nothing.

    Only the simulation and Persona are foreseen: the other datasets' sizes are known once they are here.
    """
    if run.kind != "accuracy" or run.dataset not in ("simulated", "persona"):
        return Estimate(0, 0.0)
    n_fits, seconds = 0, 0.0
    drawn = study.draws(run)
    for cell in drawn:
        seconds += DRAW
        for preset in run.presets:
            for place in study.fits(run, preset, cell):
                head, config = study.configs(run, preset, place)
                seconds += _fit(head, config, *_sizes(run, {**cell, **place}))
                seconds += JUDGE + SHOT * len(run.shots)
                n_fits += 1
    n = len(run.seeds)
    return Estimate(n_fits * n, seconds * n, -(-n // CORES) / n if len(drawn) == 1 else 1 / CORES)


def _sizes(run: Run, at: Place) -> tuple[int, int]:
    """Training comparisons and distinct questions of one study."""
    each = int(at.get("train_pairs", run.prepare.get("train_pairs", 0)))
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
    if config.objective == "mixture" and head.K > 1:
        step = ASKED * questions * head.K + ANSWER * POINTS * n / n_batches + STEP[head.model]
        return config.restarts * epochs * n_batches * step
    if config.objective == "mixture":  # nothing to infer of anybody
        n = min(n, questions)
    layers = min(1, head.hidden_layers) if head.model == "A" else int(head.hidden_layers > 1)
    return config.restarts * epochs * (n_batches * STEP[head.model] + n * PAIR[head.model, layers])


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
