"""Accuracies on the paper's simulation: 100 users, 100 comparisons each, three prototypes, both settings.

Studies are drawn and split by the pipeline's stages from params.yaml, with other counts; the head is model A,
latent 16. Data and training share their seed; each accuracy is the mean over seeds 0, 1, 2 of the seen users'
test pairs. About 2 minutes on two quiet cores, one process each.
"""

from statistics import fmean

from benchmarks.studies import SEEDS, draw, in_parallel, values
from benchmarks.table import Row, Section, show
from pal.fitting.fit import fit
from pal.serving.reward_model import RewardModel
from pipeline.evaluation.headline import find
from pipeline.evaluation.judging import judge

SETTINGS = ("mixture", "partition")
# Width of the items, preset, options of the head, and what to reach (None: for comparison).
CASES = (
    (2, "ours", {}, 98.0),
    (2, "paper", {}, None),
    (16, "ours", {}, 97.5),
    (16, "ours", {"distance": "l2"}, 95.0),
)


def measure() -> Section:
    """Every case in both settings."""
    jobs = [(case, setting, seed) for case in range(len(CASES)) for setting in SETTINGS for seed in SEEDS]
    jobs.sort(key=lambda job: CASES[job[0]][1] == "ours")  # the long ones first
    found = dict(zip(jobs, in_parallel(accuracy, jobs), strict=True))
    rows = []
    for case, (dim, preset, head, least) in enumerate(CASES):
        for setting in SETTINGS:
            each = [found[case, setting, seed] for seed in SEEDS]
            distance = "" if preset == "paper" else f", {head.get('distance', 'squared')}"
            what = f"{setting}, d={dim}{distance}, preset {preset}"
            note = "the paper's one run: 91.26" if preset == "paper" and setting == "mixture" else ""
            rows.append(Row(what, fmean(each), at_least=least, each=each, note=note))
    about = {
        "seeds": list(SEEDS),
        "threads": "1 a process, a process a core",
        "pairs a user": "100 to train on, 10 that choose the epoch, 100 to test",
    }
    return Section("Simulated: accuracies at K*=K=3, N=100, n=100 (model A, latent 16)", about, rows)


def accuracy(case: int, setting: str, seed: int) -> float:
    """Draw one study and fit it; the seen users' accuracy in per cent."""
    dim, preset, options, _ = CASES[case]
    counts = {"seen_users": 100, "unseen_users": 1, "train_pairs": 100, "val_pairs": 10, "test_pairs": 100}
    given = values("simulated", seed, setting=setting, dim=dim, groups=3, **counts)
    section = {"preset": preset, "head": {**given.simulated.head, **options}}
    given = given.model_copy(
        update={
            "model": given.model.model_copy(update={"K": 3}),
            "simulated": given.simulated.model_copy(update=section),
        }
    )
    data = draw("simulated", given)
    head, config = given.configs("simulated")
    train, n_users = data.select("seen", "train"), data.n_users("seen")
    fitted = fit(
        data.embeddings,
        train,
        n_users=n_users,
        head=head,
        config=config,
        val=data.select("seen", "val"),
        seed=seed,
    )
    ids = data.user_ids["seen"]
    model = RewardModel.from_fit(fitted, data.embeddings, user_ids=ids, fit_config=config, encoder={})
    tests = judge(data, {"model": model}, {}, given.evaluate, ("seen",)).main
    return 100 * find(tests, "seen", "model").judged.micro


if __name__ == "__main__":
    show(measure())
