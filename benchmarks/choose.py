"""Whether choose-k finds the number of groups, and whether the test of plurality keeps its level; its power.

The simulation draws users at one of K* prototypes (partition, d = 16, the least distance of two prototypes
1), 50 users a group with 100 comparisons each. Persona draws users of K* personas of Anthropic's statements
(see `benchmarks.studies.real_persona`), 30 a persona with 60 questions each. choose-k tries 1 to 8
prototypes, one per user. Homogeneous simulations have K* = 1, 40 users with 20 comparisons to learn from and
20 held out; the test is of two prototypes with free weights.

About 40 minutes on two quiet cores, one process each.
"""

from statistics import fmean

import numpy as np
import torch

from benchmarks.studies import draw, in_parallel, real_persona, values
from benchmarks.table import Row, Section, show
from pal.choose import choose_k, one_prototype_per_user
from pal.comparisons import Comparisons, Embeddings
from pal.config import preset
from pal.fit import fit
from pal.plurality import plurality_test
from pipeline.datasets import simulated
from pipeline.knobs import PrepareSimulated

PERSONAS = ["art", "literature", "math", "music", "science", "sports"]
GROUPS = range(1, 7)
SEEDS = range(10)
LEVEL = 0.05
HOMOGENEOUS = 400
POWER_SEEDS = 40
# Users and training comparisons each, of two groups whose prototypes lie as near as the draw has them.
POWER = [(users, answers) for users in (10, 20, 40, 80) for answers in (5, 10, 20, 40)]


def measure() -> Section:
    """Everything; Persona where it is there."""
    sets = ["simulation"] + (["Persona"] if real_persona() else [])
    jobs = [(name, groups, seed) for name in sets for groups in GROUPS for seed in SEEDS]
    found = dict(zip(jobs, in_parallel(chosen, jobs), strict=True))
    rows = []
    for name in sets:
        for groups in GROUPS:
            each = [found[name, groups, seed] for seed in SEEDS]
            hits = sum(found_K == groups for found_K in each)
            what = f"{name}, K* = {groups}: seeds of ten in which choose-k finds it"
            rows.append(Row(what, hits, "", at_least=9, note=f"found {', '.join(map(str, each))}"))
    levels = in_parallel(p_value, [(1, 40, 20, seed) for seed in range(HOMOGENEOUS)])
    share = 100 * fmean(p <= LEVEL for p in levels)
    rows.append(Row("400 homogeneous simulations: rejected at 5 %", share, at_least=2.5, at_most=7.5))
    cases = [(2, *case, seed) for case in POWER for seed in range(POWER_SEEDS)]
    power = dict(zip(cases, in_parallel(p_value, cases), strict=True))
    for users, answers in POWER:
        share = 100 * fmean(power[2, users, answers, seed] <= LEVEL for seed in range(POWER_SEEDS))
        rows.append(Row(f"two groups, {users} users, {answers} comparisons each: rejected", share))
    about = {"seeds": f"{len(SEEDS)} (choose-k), {HOMOGENEOUS} (level), {POWER_SEEDS} (power)"}
    return Section("How many prototypes, and whether there is plurality at all", about, rows)


def chosen(name: str, groups: int, seed: int) -> int:
    """What choose-k finds where there are so many groups."""
    if name == "simulation":
        embeddings, train, _ = simulation(seed, groups, 50 * groups, 100, 1)
        n_users = 50 * groups
        head, config = preset("ours", "A", head={"latent": 16})
    else:
        given = values(
            "persona", seed, source=str(real_persona()), personas=PERSONAS[:groups], users_per_group=30,
            unseen_users_per_group=1, train_pairs=60, adapt_pairs=20, val_pairs=1, test_pairs=1,
            new_test_pairs=1,
        )  # fmt: skip
        data = draw("persona", given)
        embeddings, train, n_users = data.embeddings, data.select("seen", "train"), data.n_users("seen")
        head, config = given.configs("persona")
    choice = choose_k(
        embeddings, train, n_users=n_users, head=head, config=one_prototype_per_user(config), seed=seed
    )
    return choice.K


def p_value(groups: int, users: int, answers: int, seed: int) -> float:
    """The test of plurality on users at one of so many prototypes."""
    embeddings, train, held_out = simulation(seed, groups, users, answers, 20)
    head, config = preset("ours", "A", head={"K": 2, "latent": 16})
    fitted = fit(embeddings, train, n_users=users, head=head, config=config, seed=seed)
    return plurality_test(fitted.head, fitted.weights, embeddings, held_out, seed=seed).p_value


def simulation(
    seed: int, groups: int, users: int, train: int, held_out: int
) -> tuple[Embeddings, Comparisons, Comparisons]:
    """The paper's simulation as tensors, users at the prototypes; comparisons to learn from, and held out."""
    knobs = PrepareSimulated.model_construct(
        setting="partition", groups=groups, dim=16, min_distance=1.0, seen_users=users, unseen_users=0,
        concentration=1.0,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    prototypes = simulated.draw_prototypes(rng, knobs)
    matrix = rng.normal(size=(16, 16))
    ideal = simulated.draw_weights(rng, knobs) @ prototypes
    user = np.repeat(np.arange(users), train + held_out)
    items = rng.normal(scale=0.25, size=(2 * len(user), 16)).astype(np.float32)
    sides = (torch.from_numpy(side) for side in simulated.answer(items, ideal, user, matrix))
    chosen, rejected = sides
    every = Comparisons.of(user=torch.from_numpy(user), prompt=None, chosen=chosen, rejected=rejected)
    first = torch.from_numpy(np.tile(np.arange(train + held_out) < train, users))
    embeddings = Embeddings(torch.zeros(0, 0), torch.from_numpy(items))
    return embeddings, every[first.nonzero().squeeze(1)], every[(~first).nonzero().squeeze(1)]


if __name__ == "__main__":
    show(measure())
