"""Whether intervals and tests hold what they promise, on simulations whose truth is known."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import expit

from benchmarks.persona import prepared
from benchmarks.studies import by_seed, divide, draw, real_data, task_of
from benchmarks.table import Row, Section, mean_row, number
from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig, preset, registered
from pal.evaluation.accuracy import Judged, confidence_interval, paired_test
from pal.evaluation.prototypes import alike_questions, one_state_for_all, plurality_test, shuffle_test
from pal.methods import METHODS
from pal.methods.auto import learn_auto
from pal.methods.base import Task
from pal.methods.choose_k import choose_k, one_prototype_per_user
from pal.models.base import margins
from pipeline.datasets import simulated

DATA_SETS, AGAIN = 4000, 60_000
# Data sets of each kind, for the test of plurality: where all prefer alike, and where they do not.
LEVELS = {"mixture": (2000, 2000), "preset ours B": (200, 20)}
SPREADS = (0.0, 0.5, 1.0)
DRAWS = 20  # of a few-shot curve
KINDS = ("micro", "macro", "difference", "few_shot")
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(40)


def percent(
    job: Callable[[Any, int], Any], kinds: Iterable[Any], data_sets: int, holds: Callable[[Any], Any] = bool
) -> dict[Any, float]:
    """In how many per cent of each kind's data sets what a job finds holds."""
    found = by_seed(job, kinds, range(data_sets))
    return {kind: 100 * fmean(bool(holds(each)) for each in found[kind]) for kind in found}


# Users, least and most answers of each (even in the logarithm), and their mean accuracy.
SETTINGS = {
    "6 users x 20": (6, 20, 20, 0.8),
    "10 users x 20": (10, 20, 20, 0.8),
    "20 users x 2 to 500": (20, 2, 500, 0.8),
    "20 users x 10": (20, 10, 10, 0.8),
    "50 users x 10": (50, 10, 10, 0.8),
    "50 users x 2 to 200": (50, 2, 200, 0.8),
    "100 users x 50 at 97 %": (100, 50, 50, 0.97),
    "100 users x 20 at 99 %": (100, 20, 20, 0.99),
    "100 users x 20 at 99.9 %": (100, 20, 20, 0.999),
    "300 users x 20 at 99.75 %": (300, 20, 20, 0.9975),
}


def intervals() -> Section:
    """Coverage of the 95 % interval: micro, macro, paired difference, few-shot accuracy; ten minutes.

    Users' accuracies are logit-normal with a standard deviation of 0, 0.5 and 1. What falls outside the
    limits, which chance alone does, is measured again on fifteen times as many data sets.
    """
    rows = []
    for (name, kind), covered in by_seed(coverage, product(SETTINGS, KINDS), SPREADS).items():
        each, note = [100 * share for share in covered], ""
        if max(abs(share - 95) for share in each) > 2:
            note = f"in {DATA_SETS:,} data sets, the first of {AGAIN:,}: {', '.join(map(number, each))}"
            each = [100 * coverage(name, kind, spread, AGAIN) for spread in SPREADS]
        worst = max(each, key=lambda share: abs(share - 95))
        rows.append(Row(f"{name}, {kind}: covered", worst, at_least=93, at_most=97, each=each, note=note))
    about = {"data sets": DATA_SETS, "each": f"spread of users' logits {SPREADS}; got: the farthest from 95"}
    return Section("Coverage of the 95 % interval, users as clusters", about, rows)


def coverage(name: str, kind: str, spread: float, data_sets: int = DATA_SETS) -> float:
    """Share of data sets in which the interval of a kind holds the true value.

    Of a difference, two models' answers are independent, given the user, and the second is wrong one and a
    half times as often. Of a few-shot accuracy each answer is right in a share of the draws: a beta of the
    user's accuracy.
    """
    rng, held = np.random.default_rng(0), 0
    n_users, least, most, truth = SETTINGS[name]
    worse = 1 - 1.5 * (1 - truth)
    places = [centre(share, spread) for share in (truth, worse)]
    for _ in range(data_sets):
        total = np.exp(rng.uniform(np.log(least), np.log(most), n_users)).round().astype(int)
        logit = spread * rng.standard_normal(n_users)
        if kind == "few_shot":
            chance = np.repeat(expit(places[0] + logit), total)
            share = np.where(chance < 1, rng.beta(np.maximum(chance, 1e-9), 1 - chance + 1e-9), 1)
            rights = [np.bincount(np.repeat(np.arange(n_users), total), rng.binomial(DRAWS, share) / DRAWS)]
        else:
            rights = [rng.binomial(total, expit(place + logit)).astype(float) for place in places]
        judged = [Judged(right, total) for right in rights]
        if kind == "difference":
            test = paired_test(*judged, flips=1)
            held += test.low <= truth - worse <= test.high
        else:
            low, high = confidence_interval(judged[0], mean="macro" if kind == "macro" else "micro")
            held += low <= truth <= high
    return held / data_sets


def centre(share: float, spread: float) -> float:
    """The mean of users' logits at which the mean of their accuracies is this share."""

    def error(place: float) -> float:
        return float(NODE_WEIGHTS @ expit(place + spread * NODES) / NODE_WEIGHTS.sum() - share)

    return float(brentq(error, -20, 20))


NULLS = (
    "nothing differs", "a fifth answers at random", "two noise levels", "lognormal noise",
    "a topic each, linear rewards", "a topic each, one bilinear reward", "3 to 80 answers",
    "items of lognormal difficulty", "easy items for half", "10 users", "10 users, two noise levels",
)  # fmt: skip
PLURAL = ("three groups", "a minority of a fifth", "opposites", "everyone a little")
DIM = 8
SHUFFLES = 199
ALIKE = ("nothing differs", "a fifth answers at random", "two noise levels")
CHOSEN = 40  # data sets of each null in which K is chosen
# Of K = 3 against one reward: data sets of each kind, and what is changed in the fit.
ONE_REWARD = {"60 epochs": (200, {"epochs": 60, "restarts": 1}), "full settings": (24, {})}


def answers(kind: str, seed: int) -> tuple[np.ndarray, ...]:
    """Draw a data set of one of NULLS or PLURAL.

    Returns:
        By comparison its user, the prompt, the chosen and the rejected response, and whether it is held out.
    """
    rng = np.random.default_rng(seed)
    n_users = 10 if kind.startswith("10 users") else 40
    train, test = np.full(n_users, 20), np.full(n_users, 10)
    if kind == "3 to 80 answers":
        total = np.exp(rng.uniform(np.log(4.5), np.log(120), n_users))
        train, test = (
            np.maximum(least, total * share).astype(int) for least, share in ((3, 2 / 3), (1, 1 / 3))
        )
    user = np.repeat(np.arange(n_users), train + test)
    held_out = np.concatenate([np.arange(a + b) >= a for a, b in zip(train, test, strict=True)])
    n = len(user)
    prompt, first, apart = rng.standard_normal((3, n, DIM))
    care, half = np.ones(n_users), rng.random(n_users)
    if kind == "a fifth answers at random":
        care = (half > 0.2).astype(float)
    elif kind.endswith("two noise levels"):
        care = np.where(half < 0.5, 0.2, 4.0)
    elif kind == "lognormal noise":
        care = np.exp(rng.standard_normal(n_users))
    elif kind == "easy items for half":
        apart *= np.where(half < 0.5, 0.3, 2.0)[user, None]
    elif kind == "items of lognormal difficulty":
        apart *= np.exp(rng.standard_normal(n))[:, None]
    rewards = rng.standard_normal((4, DIM))
    rewards *= 2 / np.linalg.norm(rewards, axis=1, keepdims=True)
    if kind.startswith("a topic each"):
        topic = rng.integers(0, 4, n_users)[user]
        prompt = 2 * rng.standard_normal((4, DIM))[topic] + 0.3 * prompt
        bilinear = prompt @ rng.standard_normal((DIM, DIM)) / np.sqrt(DIM) / 2
        reward = bilinear if "bilinear" in kind else rewards[topic]
    elif kind == "three groups":
        reward = rewards[rng.integers(0, 3, n_users)][user]
    elif kind == "a minority of a fifth":
        reward = rewards[(half < 0.2).astype(int)][user]
    elif kind == "opposites":
        reward = np.where(half < 0.4, -1, 1)[user, None] * rewards[0]
    elif kind == "everyone a little":
        reward = (rewards[0] + 0.35 * rng.standard_normal((n_users, DIM)))[user]
    else:
        reward = np.broadcast_to(rewards[0], (n, DIM))
    margin = 1.5 * care[user] * (reward * apart).sum(1)
    sign = np.where(rng.random(n) < expit(margin), 1, -1)[:, None]
    middle = first / np.sqrt(2)
    apart = sign * apart / np.sqrt(2)
    return user, prompt, middle + apart, middle - apart, held_out


def cheap_p_value(kind: str, seed: int) -> float:
    """The p-value of the test on a mixture of three logistic regressions, fitted by EM."""
    rng = np.random.default_rng(seed)
    user, prompt, chosen, rejected, held = answers(kind, seed)
    apart = chosen - rejected
    rewards = mixture(apart[~held], user[~held], int(user.max()) + 1, rng)
    strata = alike_questions(prompt[held], user[held])
    if strata is None:
        return 1.0
    return shuffle_test(apart[held] @ rewards.T, user[held], strata, shuffles=SHUFFLES, rng=rng)


def mixture(apart: np.ndarray, user: np.ndarray, n_users: int, rng: np.random.Generator) -> np.ndarray:
    """Each user's linear reward: the posterior mean of a mixture of three logistic regressions, ridge 1."""
    K = 3
    rewards, share = 0.5 * rng.standard_normal((K, DIM)), np.full(K, 1 / K)
    for _ in range(25):
        margin = apart @ rewards.T
        likelihood = np.zeros((n_users, K))
        np.add.at(likelihood, user, -np.logaddexp(0, -margin))
        belongs = np.exp(likelihood - likelihood.max(1, keepdims=True)) * share
        belongs /= belongs.sum(1, keepdims=True)
        share = belongs.mean(0) + 1e-6
        for k, reward in enumerate(rewards):  # a Newton step
            chance = expit(margin[:, k])
            weight = belongs[user, k]
            slope = apart.T @ (weight * (1 - chance)) - reward
            curvature = (apart * (weight * chance * (1 - chance))[:, None]).T @ apart + np.eye(DIM)
            step = np.linalg.solve(curvature, slope)
            reward += step * min(1, 3 / (1e-12 + np.linalg.norm(step)))
    return belongs @ rewards


def fitted_p_value(kind: str, seed: int) -> float:
    """The p-value of the test on preset ours B with K = 3 and all of its settings."""
    task, held_out = as_task(kind, seed)
    fitted = task.fit(*ours("B", K=3, latent=DIM)).fitted
    tested = (fitted.head, fitted.states, task.embeddings, held_out)
    p_value = plurality_test(*tested, shuffles=SHUFFLES, seed=seed)
    return 1.0 if p_value is None else p_value


def as_task(kind: str, seed: int) -> tuple[Task, Comparisons]:
    """Draw a data set of one of NULLS or PLURAL: what is to be learned, and comparisons held out."""
    user, prompts, *responses, held_out = map(torch.from_numpy, answers(kind, seed))
    row = torch.arange(len(user))
    every = Comparisons.from_pairs(user=user, prompt=row, chosen=row, rejected=row + len(row))
    train, test = divide(every, held_out)
    embeddings = Embeddings(prompts.float(), torch.cat(responses).float())
    return Task(embeddings, train, int(user.max()) + 1, seed=seed), test


def ours(model: str, fit: dict[str, Any] | None = None, **head: int) -> tuple[HeadConfig, FitConfig]:
    """Preset ours with a few options."""
    return preset("ours", model, head=head, fit=fit or {})


def take_k(task: Task, options: tuple[HeadConfig, FitConfig], most: int = 8) -> int:
    """The number of prototypes that choose-k takes, of 1 to the most."""
    head, config = options
    fit_by = {"n_users": task.n_users, "head": head, "config": config, "seed": task.seed}
    return choose_k(task.embeddings, task.train, **fit_by, candidates=range(1, most + 1)).K


def beats_one_reward(kind: str, seed: int, settings: str) -> bool:
    """Whether K = 3 beats one reward as the pipeline says it: K = 1, and itself with one state for all."""
    task, held_out = as_task(kind, seed)
    changes = ONE_REWARD[settings][1]
    personal, one = (task.fit(*ours("B", changes, K=K, latent=DIM)).fitted for K in (3, 1))
    alike = one_state_for_all(personal.head, personal.states, task.embeddings, task.train)
    tables = [(personal, personal.states), (one, one.states)]
    if alike is not None:
        tables.append((personal, alike.expand(task.n_users, -1)))
    margin = (margins(fitted.head, states, task.embeddings, held_out) for fitted, states in tables)
    first, *others = (Judged.from_margins(m, held_out.user, n_users=task.n_users) for m in margin)
    tests = [paired_test(first, other) for other in others]
    return all(test.low > 0 and test.p_value < 0.05 for test in tests)


def one_reward() -> Section:
    """How often K = 3 is said to beat one reward for everyone, where all prefer alike or not; 30 minutes."""
    rows = []
    for settings, (data_sets, _) in ONE_REWARD.items():
        kinds = (*ALIKE, "three groups", "a minority of a fifth")
        said = percent(partial(beats_one_reward, settings=settings), kinds, data_sets)
        rows += [Row(f"{settings}, {kind}: level", said[kind], at_most=7.5) for kind in ALIKE]
        rows += [Row(f"{settings}, {kind}: power", said[kind]) for kind in kinds[len(ALIKE) :]]
    about = {"data sets": {name: n for name, (n, _) in ONE_REWARD.items()}, "nominal": "2.5 %"}
    return Section("K = 3 said to beat one reward for everyone (preset ours B)", about, rows)


def plurality() -> Section:
    """Level and power of the test of plurality at 5 %; an hour of two cores.

    40 users (10 where the name says so) answer 20 comparisons to learn from and 10 held out, of responses in
    8 dimensions. Plural models are mixtures of three logistic regressions by EM, and preset ours B, K = 3.
    """
    rows = []
    for job, (model, (alike, plural)) in zip((cheap_p_value, fitted_p_value), LEVELS.items(), strict=True):
        rejected = percent(job, NULLS, alike, lambda p_value: p_value <= 0.05)
        rejected |= percent(job, PLURAL, plural, lambda p_value: p_value <= 0.05)
        # By chance alone a few of 200 data sets are a few per cent: of these the upper limit counts.
        limits = {"at_most": 7.5} | ({"at_least": 2.5} if model == "mixture" else {})
        rows += [Row(f"{model}, {kind}: level", rejected[kind], **limits) for kind in NULLS]
        rows += [Row(f"{model}, {kind}: power", rejected[kind]) for kind in PLURAL]
    about = {"data sets": LEVELS, "shuffles": SHUFFLES}
    return Section("The test of plurality where all prefer alike, and where they do not", about, rows)


def chosen_of(kind: str, seed: int) -> int:
    """The K, of 1 to 4, that choose-k takes on one of NULLS or PLURAL, by 60 epochs of preset ours B."""
    return take_k(as_task(kind, seed)[0], ours("B", ONE_REWARD["60 epochs"][1], latent=DIM), most=4)


def homogeneous() -> Section:
    """How often choose-k takes K = 1 where everybody is at one prototype, and in other nulls; 7 minutes."""
    takes_one = percent(chosen_k, (10, 30, 100), 100, lambda K: K == 1)
    rows = [Row(f"{n} users x 20 answers: K = 1", takes_one[n], at_least=95) for n in takes_one]
    takes_one = percent(chosen_of, ALIKE, CHOSEN, lambda K: K == 1)
    what = f"preset ours B, {CHOSEN} data sets: K = 1"
    rows += [Row(f"{kind}, {what}", takes_one[kind], at_least=95) for kind in ALIKE]
    about = {"data sets": "100 of each size", "model": "preset ours A, with free weights"}
    return Section("K chosen where all prefer alike", about, rows)


def chosen_k(n_users: int, seed: int) -> int:
    """The K that choose-k takes, of 1 to 6, fitted as training fits."""
    task = simulation(1000 + seed, 1, n_users, 20)
    return take_k(replace(task, seed=seed), ours("A", latent=16), most=6)


def homogeneous_auto() -> Section:
    """How often auto, with all its candidates, takes one reward for everyone where all prefer alike."""
    rows = []
    for n_users, taken in by_seed(taken_by_auto, (10, 30, 100), range(100)).items():
        names = ", ".join(f"{name} {taken.count(name)}" for name in sorted({*taken}))
        shared = sum(not registered(METHODS, name).personal for name in taken)
        rows.append(Row(f"{n_users} users x 20 answers: one reward", shared, at_least=95, note=names))
    about = {"data sets": "100 of each size", "answers": "of a logistic reward, prompts that matter"}
    return Section("What auto takes where all prefer alike", about, rows)


def taken_by_auto(n_users: int, seed: int) -> str:
    """The method that auto takes where 20 answers of each follow one logistic reward of prompt and response.

    Of 60 responses to 12 prompts, so that items and prompts recur as in real logs; of odd seeds the prompts
    are not told.
    """
    rng = np.random.default_rng(5000 + seed)
    prompts, responses = rng.standard_normal((12, DIM)), rng.standard_normal((60, DIM))
    reward = responses @ rng.standard_normal(DIM)
    reward = reward + ((prompts @ rng.standard_normal((DIM, DIM)) / 4)[np.arange(60) % 12] * responses).sum(1)
    user = np.repeat(np.arange(n_users), 20)
    prompt = rng.integers(0, 12, len(user))
    first, shift = rng.integers(0, 5, len(user)), rng.integers(1, 5, len(user))
    sides = prompt + 12 * np.stack([first, (first + shift) % 5])
    swap = rng.random(len(user)) > expit((reward[sides[0]] - reward[sides[1]]) / 2)
    sides = torch.from_numpy(np.where(swap, sides[::-1], sides))
    told = None if seed % 2 else torch.from_numpy(prompt)
    chosen, rejected = sides
    every = Comparisons.from_pairs(user=torch.from_numpy(user), prompt=told, chosen=chosen, rejected=rejected)
    tables = (torch.from_numpy(table).float() for table in (prompts[:, : 0 if seed % 2 else None], responses))
    return str(learn_auto(Task(Embeddings(*tables), every, n_users, seed=seed)).method)


def attributes() -> Section:
    """Strangers of whom the country alone is known, beside one reward for each country's people."""
    found = by_seed(country_effect)[()]
    rows = []
    for what in found[0]:
        each, name = [effects[what] for effects in found], f"zero-shot from the country, less {what}"
        rows.append(mean_row(name, each, "points", at_least=None if what == "nothing known" else -0.5))
    about = {"people": "600, 300 of them strangers", "countries": 3, "answers": "30 of each"}
    return Section("A planted effect of the country on taste", about, rows)


def country_effect(seed: int) -> dict[str, float]:
    """Accuracies of strangers' rewards on all pairs, in per cent, from their country and from nothing.

    People's linear rewards are normal, with half the spread, around their country's.
    """
    generator = torch.Generator().manual_seed(seed)
    n, seen, n_items = 600, 300, 200
    items = torch.randn(n_items, DIM, generator=generator)
    country = torch.arange(n) % 3
    means = torch.randn(3, DIM, generator=generator)
    rewards = (means[country] + 0.5 * torch.randn(n, DIM, generator=generator)) @ items.T
    user = torch.arange(seen).repeat_interleave(30)
    sides = torch.randint(0, n_items, (2, len(user)), generator=generator)
    sides[1] += (sides[0] == sides[1]).long() * (1 - 2 * (sides[1] == n_items - 1).long())
    chance = torch.sigmoid(rewards[user, sides[0]] - rewards[user, sides[1]])
    first = torch.rand(len(user), generator=generator) < chance
    chosen, rejected = torch.where(first, sides, sides.flip(0))
    train = Comparisons.from_pairs(user=user, prompt=None, chosen=chosen, rejected=rejected)
    task = Task(Embeddings(torch.zeros(0, 0), items), train, seen, seed=seed)
    people = [{"country": f"country {each}"} for each in country.tolist()]
    learned = registered(METHODS, "mixed_effects").learn(task).with_attributes(task, people[:seen])
    population, model = learned.population, learned.fitted.head
    size = population.evidence_size
    told = torch.zeros(3, size) if learned.attributes is None else learned.attributes.evidence(people[:3])
    left, right = torch.triu_indices(n_items, n_items, 1)
    true = rewards[seen:, left] > rewards[seen:, right]
    none = torch.zeros(n_items, 0)

    def accuracy(rewards: Iterable[torch.Tensor]) -> float:
        """Of a reward of every item for each country."""
        table = torch.stack([*rewards])
        return 100 * ((table[:, left] > table[:, right])[country[seen:]] == true).float().mean().item()

    def by_states(head: Any, states: torch.Tensor) -> list[torch.Tensor]:
        return [head.reward(none, items, state.expand(n_items, -1)) for state in states]

    alone = []
    for each in range(3):
        its = replace(task, train=divide(train, train.user % 3 == each)[1])
        fitted = registered(METHODS, "bt").learn(its).fitted
        alone += by_states(fitted.head, fitted.states[:1])
    others = {
        "a fit to its people alone": alone,
        "its true reward": means @ items.T,
        "nothing known": by_states(model, population.mean.expand(3, -1)),
    }
    known = accuracy(by_states(model, population.posterior(told).mean.float()))
    return {what: known - accuracy(rewards) for what, rewards in others.items()}


GROUPS = range(1, 7)
CHOICES = range(10, 20)  # 0 to 9 judged the rule once, before errors had a least size: see choose.decide


def choose() -> Section:
    """Whether choose-k, which tries 1 to 8 prototypes, one per user, finds how many there are; 8 minutes.

    The simulation draws users at one of K* prototypes (partition, d = 16, the least distance of two 1), 50
    users a group with 100 comparisons each; Persona of K* personas, 30 users each with 60 questions.
    """
    sets = ["simulation", "Persona"] if real_data("persona") else ["simulation"]
    results = by_seed(chosen, product(sets, GROUPS), CHOICES)
    rows = []
    for name in sets:
        for groups in GROUPS:
            each = [float(K) for K, _ in results[name, groups]]
            what = f"{name}, K* = {groups}: seeds of ten in which choose-k finds it"
            rows.append(Row(what, each.count(groups), "", at_least=9, each=each, note="each: K found"))
        seconds = fmean(took for groups in GROUPS for _, took in results[name, groups])
        rows.append(Row(f"{name}: seconds of one core a run", seconds, "s"))
    return Section("How many prototypes", {"seeds": f"{CHOICES[0]} to {CHOICES[-1]}"}, rows)


def chosen(name: str, groups: int, seed: int) -> tuple[int, float]:
    """What choose-k finds where there are so many groups, and the seconds of one core that it takes."""
    if name == "simulation":
        task = simulation(seed, groups, 50 * groups, 101, 100)
        head, config = ours("A", latent=16)
    else:
        counts = {"train_pairs": 60, "adapt_pairs": 20, "test_pairs": 1, "new_test_pairs": 1}
        given = prepared(seed, groups, users_per_group=30, **counts)
        task = task_of(draw("persona", given), seed)
        head, config = given.configs("persona")
    start = time.process_time()
    K = take_k(task, (head, one_prototype_per_user(config)))
    return K, time.process_time() - start


def simulation(seed: int, groups: int, users: int, drawn: int, kept: int | None = None) -> Task:
    """The paper's simulation, with users at the prototypes in turn.

    Of the comparisons that are drawn of each user, the first are kept.
    """
    options = simulated.Prepare.model_construct(
        setting="partition", groups=groups, dim=16, min_distance=1.0, seen_users=users, unseen_users=0,
        concentration=1.0,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    prototypes = simulated.draw_prototypes(rng, options)
    matrix = rng.normal(size=(16, 16))
    ideal = simulated.draw_weights(rng, options) @ prototypes
    user = np.repeat(np.arange(users), drawn)
    items = rng.normal(scale=0.25, size=(2 * len(user), 16)).astype(np.float32)
    chosen, rejected = map(torch.from_numpy, simulated.answer(items, ideal, user, matrix))
    every = Comparisons.from_pairs(user=torch.from_numpy(user), prompt=None, chosen=chosen, rejected=rejected)
    first = torch.arange(len(user)).view(users, drawn)[:, :kept].flatten()
    embeddings = Embeddings(torch.zeros(0, 0), torch.from_numpy(items))
    return Task(embeddings, every[first], users, seed=seed)
