"""Accuracies on Anthropic's real Persona statements, beside the bound of a learner who knows the personas.

Studies are drawn, split and encoded by the pipeline's stages from params.yaml, with other counts; the head
is model B, latent 16, logistic, preset `ours`. Data and training share their seed. Each accuracy is the mean
over seeds 0, 1, 2. The bound: which personas fit a user's training answers is known exactly, an answer is
predicted by their majority, and a tie counts half; computed on the very same answers and test pairs.

The files are looked for in PAL_PERSONA, else in ../shared/data/persona; without them everything is skipped.
About 6 minutes on two quiet cores, one process each, and 20 seconds more where nothing is encoded yet.
"""

from dataclasses import dataclass
from statistics import fmean

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from benchmarks.studies import SEEDS, draw, in_parallel, real_persona, values
from benchmarks.table import Row, Section, show
from pal.fitting.fit import fit
from pal.serving.reward_model import RewardModel
from pipeline import paths
from pipeline.datasets import persona
from pipeline.evaluation import bounds
from pipeline.evaluation.bounds import accuracy_bound, is_yes
from pipeline.evaluation.headline import find
from pipeline.evaluation.judging import judge
from pipeline.evaluation.locating import places_in_user
from pipeline.params import Params
from pipeline.study import Study

PERSONAS = ["art", "literature", "math", "music", "science", "sports"]
SHOTS = (5, 10, 20)
N_FIGURES = 13

Figures = dict[str, float]


@dataclass(frozen=True)
class Case:
    """A study, and the numbers of prototypes to fit to it."""

    groups: int
    users_per_group: int
    queries: int
    prototypes: tuple[int, ...]
    unseen_users_per_group: int = 1
    val_pairs: int = 1
    paper: bool = False


CASES = {
    "3000 users, 10": Case(3, 1000, 10, (3, 8)),
    "3000 users, 25": Case(3, 1000, 25, (3,)),
    "300 users, 100": Case(3, 100, 100, (1, 2, 3), unseen_users_per_group=200, val_pairs=5, paper=True),
    "600 users, 100": Case(6, 100, 100, (6,), val_pairs=5),
    "3000 users, 5": Case(3, 1000, 5, (3,)),
}


def measure() -> Section:
    """All figures, or none where the files are not there."""
    title = "Persona: accuracies on Anthropic's statements (MiniLM, model B, latent 16, preset ours)"
    if real_persona() is None:
        missing = (
            f"not found; {N_FIGURES} figures skipped: set PAL_PERSONA to the folder of interest-in-*.jsonl"
        )
        return Section(title, {"real Persona set": missing}, [])
    draw("persona", prepared(Case(6, 1, 20, ()), 0))  # encodes every statement once, for all that follows
    jobs = [(name, seed) for name in CASES for seed in SEEDS]
    found = dict(zip(jobs, in_parallel(run, jobs), strict=True))
    about = {
        "real Persona set": "found",
        "seeds": list(SEEDS),
        "threads": "1 a process, a process a core",
        "test pairs a user": "20 on known and 20 on new statements",
        "validation pairs a user": "5 (300 and 600 users), 1 (3,000 users); they choose the epoch alone",
        "draws of the shots": 20,
    }
    return Section(title, about, _rows({name: [found[name, seed] for seed in SEEDS] for name in CASES}))


def run(name: str, seed: int) -> Figures:
    """Draw a case's study and fit what is to be fitted, for one seed; figures in per cent."""
    case = CASES[name]
    given = prepared(case, seed)
    data = draw("persona", given)
    says_yes = known_answers(data, given)
    train, test = data.select("seen", "train"), data.select("seen", "test", "known")
    figures = {
        "floor": 1 - float(is_yes(data, test).float().mean()),
        "bound": accuracy_bound(says_yes, data, train, test, data.n_users("seen")),
    }
    for K in case.prototypes:
        figures |= _fitted(data, given, K, case.unseen_users_per_group > 1 and case.groups == K)
    if case.paper:
        paper = given.model_copy(update={"preset": given.preset.model_copy(update={"persona": "paper"})})
        found = _fitted(data, paper, case.groups, unseen=False)
        figures["paper"] = found[f"K={case.groups}"]
    if case.unseen_users_per_group > 1:
        figures |= _unseen_bounds(says_yes, data, given.evaluate.seed)
    return {name: 100 * value for name, value in figures.items()}


def prepared(case: Case, seed: int) -> Params:
    given = values(
        "persona",
        seed,
        source=str(real_persona()),
        personas=PERSONAS[: case.groups],
        users_per_group=case.users_per_group,
        unseen_users_per_group=case.unseen_users_per_group,
        train_pairs=case.queries,
        adapt_pairs=50,
        val_pairs=case.val_pairs,
        test_pairs=20,
        new_test_pairs=20,
    )
    return given.model_copy(
        update={"evaluate": given.evaluate.model_copy(update={"shots": list(SHOTS), "draws": 20})}
    )


def _fitted(data: Study, given: Params, K: int, unseen: bool) -> Figures:  # noqa: FBT001
    """Fit K prototypes as the stage train does, and judge them as evaluate does."""
    given = given.model_copy(update={"model": given.model.model_copy(update={"K": K})})
    head, config = given.configs("persona")
    train = data.select("seen", "train")
    fitted = fit(
        data.embeddings,
        train,
        n_users=data.n_users("seen"),
        head=head,
        config=config,
        val=data.select("seen", "val"),
        seed=given.train.seed,
    )
    ids = data.user_ids["seen"]
    model = RewardModel.from_fit(fitted, data.embeddings, user_ids=ids, fit_config=config, encoder={})
    tests = judge(data, {"model": model}, {}, given.evaluate, ("seen",)).main
    figures = {
        f"K={K}": find(tests, "seen", "model").judged.micro,
        f"K={K} new": find(tests, "seen", "model", new=True).judged.micro,
    }
    if unseen:
        tests = judge(data, {"model": model}, {}, given.evaluate, ("unseen",)).main
        figures |= {f"{n} shots": find(tests, "unseen", "model", shots=n).judged.micro for n in SHOTS}
    return figures


def known_answers(data: Study, given: Params) -> Bool[Tensor, "groups items"]:
    """Whether a user of each persona says yes to each item."""
    knobs = given.persona.prepare
    files = [f"interest-in-{name}.jsonl" for name in knobs.personas]
    folder = paths.Path(given.persona.source)
    statements = [s for file in files for s in persona.read(file, folder / file)]
    return bounds.known_answers(data, statements, knobs.personas, knobs.prompt)


def _unseen_bounds(says_yes: Bool[Tensor, "groups items"], data: Study, seed: int) -> Figures:
    """The bound for unseen users, from the same draws of the same shots as evaluate takes."""
    pairs, test = data.select("unseen", "adapt"), data.select("unseen", "test", "known")
    n_users = data.n_users("unseen")
    generator = torch.Generator().manual_seed(seed)
    places: list[Int[Tensor, " n"]] = [places_in_user(pairs.user, n_users, generator) for _ in range(20)]

    def at(shots: int) -> float:
        rows = [(place < shots).nonzero().squeeze(1) for place in places]
        return fmean(accuracy_bound(says_yes, data, pairs[some], test, n_users) for some in rows)

    return {f"bound {shots} shots": at(shots) for shots in SHOTS}


def _rows(found: dict[str, list[Figures]]) -> list[Row]:
    def row(
        what: str, case: str, figure: str, least: float | None, most: float | None = None, note: str = ""
    ):
        each = [figures[figure] for figures in found[case]]
        return Row(what, fmean(each), at_least=least, at_most=most, each=each, note=note)

    def beside(what: str, case: str, figure: str, bound: str, slack: float) -> Row:
        top = fmean(figures[bound] for figures in found[case])
        return row(what, case, figure, top - slack, note=f"bound {top:.2f}, less {slack}")

    base = "300 users, 100"
    floor = fmean(figures["floor"] for figures in found[base])
    three = fmean(figures["K=3"] for figures in found["3000 users, 10"])
    rows = [
        row("K*=3, 300 users, 100 queries: K=1", base, "K=1", floor - 0.5, floor + 0.5, f"floor {floor:.2f}"),
        row("  K=2", base, "K=2", 92.0, 95.0, "geometric limit 94.4"),
        row("  K=3", base, "K=3", 99.7),
        row("  K=3, new statements", base, "K=3 new", 99.0),
        row("  K=3, preset paper", base, "paper", None, note="10 epochs of the paper's settings"),
    ]
    for queries, slack in ((25, 0.5), (10, 1.0), (5, 1.5)):
        what = f"K*=K=3, 3,000 users, {queries} queries"
        rows.append(beside(what, f"3000 users, {queries}", "K=3", "bound", slack))
    rows += [
        row("K*=K=6, 600 users, 100 queries", "600 users, 100", "K=6", 99.7),
        row(
            "K*=3, K=8, 3,000 users, 10 queries",
            "3000 users, 10",
            "K=8",
            three - 0.3,
            note=f"K=3: {three:.2f}",
        ),
    ]
    for shots, slack in zip(SHOTS, (0.7, 0.3, 0.3), strict=True):
        what = f"unseen users, K*=K=3, {shots} shots"
        rows.append(beside(what, base, f"{shots} shots", f"bound {shots} shots", slack))
    return rows


if __name__ == "__main__":
    show(measure())
