"""Real people: methods on ratings of jokes and judgements of arguments, beside one reward for everyone.

Jester (5,000 people's ratings of 100 jokes) and UKPConvArg1 (crowd workers on which of two arguments
convinces more), with all-MiniLM-L6-v2 and measures of the texts. A fifth of the items (of the debates) is
new: in nobody's training pairs. What a person said of the others is dealt to training, validation and test:
ratings by joke, so that a test pair holds jokes that this person has compared with nothing; judgements as
they are. Ratings make a pair where they are at least 2 of 20 points apart.

known   seen people, pairs of known items
new     seen people, pairs of new items
0 to 50 unseen people located from so many answers, pairs of known items
plain   what the others are held against: preset ours with K = 1 and without measures, one reward for all
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from benchmarks.studies import SEEDS, by_seed, divide, needed_data
from benchmarks.table import Row, Section, mean_row
from pal import encoders
from pal.comparisons import Comparisons, Embeddings
from pal.config import preset, registered
from pal.encoders import MEASURES
from pal.evaluation.accuracy import paired_test
from pal.methods import METHODS
from pal.methods.base import Learned, Task
from pal.methods.compare import LEVEL, Held, Judgement, Place, corrected
from pal.methods.compare import judge as judge_at
from pal.models.base import expected_answer
from pal.users.care import care_of
from pipeline.study import places_in_user

METHODS_SHOWN = ("bt", "mixed_effects", "pal_ours", "auto")
KNOWN_PARTS = {"train": 0.6, "val": 0.15, "known": 0.25}
UNSEEN_PARTS = {"adapt": 0.6, "unseen": 0.4}
MOST = {"val": 25, "known": 50, "new": 50, "adapt": 50, "unseen": 50}
SHOTS = (0, 5, 10, 20, 50)
PLACES = ("known", "new", "20", "50")  # that accuracies are shown of
CALIBRATED = {"known": 3.0, "new": 4.0, "5": 3.0, "50": 3.0}  # calibration error to reach, in %
NEW = 0.2
# What auto less plain is to reach, in points: known, new, unseen people from 20 and from 50 answers.
REACH = {
    ("jester", 100): (1.0, 1.9, 1.9, 3.0),
    ("jester", 20): (0.6, 0.9, 1.0, 1.6),
    ("ukpconvarg", 100): (0.7, 0.9, 1.3, 1.6),
    ("ukpconvarg", 20): (0.7, 0.8, 0.3, 0.2),
}
FILMS = {"known": 2.0, "new": 0.0, "20": 1.0, "50": 2.0}  # points that likings for items are to add
Answers = dict[str, Iterable[tuple[int, int, int]]]  # a person's by part: prompt, chosen, rejected


class Data(NamedTuple):
    """Texts, and people's answers by part; jokes have no prompts."""

    prompts: list[str]
    responses: list[str]
    parts: dict[str, Comparisons]
    n_users: dict[str, int]


def real_people() -> Section:
    """All figures."""
    rows = []
    for (name, n_train), reach in REACH.items():
        folder = needed_data(name)
        # All methods at the first seed, to see whether one is above auto; the others take as long as auto.
        results = [
            judge(DRAW[name](folder, n_train, seed), seed, METHODS if seed == SEEDS[0] else METHODS_SHOWN)
            for seed in SEEDS
        ]
        rows += _rows(f"{name}, {n_train} pairs", results, reach)
    about = {"seeds": list(SEEDS), "training pairs a person": "at most those of the row", "new items": NEW}
    title = "Real people: accuracy beside one reward for everyone (MiniLM with measures of the texts)"
    return Section(title, about, rows)


def draw_jester(folder: Path, n_train: int, seed: int) -> Data:
    """600 seen and 200 unseen people with at least 60 ratings."""
    rng = np.random.default_rng(seed)
    jokes = pl.read_parquet(folder / "jokes.parquet").sort("joke_id")["text"].to_list()
    table = pl.read_parquet(folder / "ratings.parquet")
    ratings = np.full((int(table["user_id"].max()) + 1, len(jokes)), np.nan)
    ratings[table["user_id"], table["joke_id"]] = table["rating"]
    people = rng.permutation(np.flatnonzero((~np.isnan(ratings)).sum(1) >= 60))[:800]
    return _of_ratings(ratings[people], 2, jokes, 600, n_train, rng)


def _of_ratings(
    ratings: np.ndarray, gap: float, texts: list[str], n_seen: int, n_train: int, rng: np.random.Generator
) -> Data:
    """Pairs of items that someone rated at least a gap apart; ratings are (people, items), NaN where none."""
    new = rng.permutation(ratings.shape[1])[: round(NEW * ratings.shape[1])]

    def pairs(row: np.ndarray, items: np.ndarray) -> Iterable[tuple[int, int, int]]:
        first, second = np.triu_indices(len(items), 1)
        apart = row[items[first]] - row[items[second]]
        for pair in rng.permutation(np.flatnonzero(np.abs(apart) >= gap)):
            sides = items[first[pair]], items[second[pair]]
            yield (-1, *(sides if apart[pair] > 0 else sides[::-1]))

    def answers(person: int, parts: dict[str, float]) -> Answers:
        row = ratings[person]
        rated = np.flatnonzero(~np.isnan(row))
        dealt = _dealt(rng.permutation(np.setdiff1d(rated, new)), parts)
        dealt["new"] = np.intersect1d(rated, new)
        return {part: pairs(row, items) for part, items in dealt.items()}

    return _collected([], texts, len(ratings), n_seen, n_train, answers)


def likings() -> Section:
    """Ratings of films whose embeddings tell little of who likes them: what likings for items add."""
    found = by_seed(films)[()]
    rows = []
    for place, least in FILMS.items():
        for name, reach in (("bt", None), ("mixed_effects", least)):
            each = [100 * (of_seed["mixed_effects_items"][place] - of_seed[name][place]) for of_seed in found]
            rows.append(mean_row(f"{place}: mixed_effects_items less {name}", each, "points", at_least=reach))
    about = {"people": "940, 190 of them unseen", "films": 1680, "ratings": "100 of each", "simulated": True}
    return Section("Likings for items that embeddings tell little of", about, rows)


def films(seed: int) -> dict[str, dict[str, float]]:
    """Accuracies by method and place. Tastes have six factors, of which embeddings hold a twentieth."""
    rng = np.random.default_rng(seed)
    people, films, factors, width = 940, 1680, 6, 48
    tastes, loadings = 0.5 * rng.standard_normal((people, factors)), rng.standard_normal((films, factors))
    told = loadings @ rng.standard_normal((factors, width)) / factors**0.5
    embeddings = 0.05**0.5 * told + 0.95**0.5 * rng.standard_normal((films, width))
    likely = rng.permutation(1 / np.arange(1, films + 1) ** 0.7)
    ratings = tastes @ loadings.T + rng.standard_normal(films) + 0.7 * rng.standard_normal((people, films))
    for row in ratings:
        rated = rng.choice(films, 100, replace=False, p=likely / likely.sum())
        row[np.setdiff1d(np.arange(films), rated)] = np.nan
    data = _of_ratings(ratings, 0.5, [""] * films, 750, 100, rng)
    table = Embeddings(torch.zeros(0, 0), torch.from_numpy(embeddings).float())
    task = Task(table, data.parts["train"], data.n_users["seen"], data.parts["val"], seed=seed)
    found = {}
    for name in ("bt", "mixed_effects", "mixed_effects_items"):
        judged = _judged(registered(METHODS, name).learn(task), table, data)
        found[name] = {place: judged[place].judged.macro for place in FILMS}
    return found


def judgements(folder: Path) -> pl.DataFrame:
    """UKPConvArg1's judgements of two different texts: user_id, prompt, response_a, response_b, winner."""
    arguments, table, topics = (
        pl.read_parquet(folder / f"{name}.parquet") for name in ("arguments", "judgements", "topics")
    )
    for side in ("left", "right"):
        texts = arguments.select("topic", pl.col("arg_id").alias(f"{side}_id"), pl.col("text").alias(side))
        table = table.join(texts, on=["topic", f"{side}_id"], how="left", maintain_order="left")
    table = table.join(topics, on="topic", how="left", maintain_order="left")
    return table.filter(pl.col("left") != pl.col("right")).select(
        "user_id",
        pl.format("{} {}", "title", "stance").alias("prompt"),
        pl.col("left").alias("response_a"),
        pl.col("right").alias("response_b"),
        pl.col("value").replace_strict({"a1": "a", "a2": "b", "equal": "tie"}).alias("winner"),
    )


def texts_of(table: pl.DataFrame) -> tuple[list[str], list[str]]:
    """The distinct prompts and responses of judgements, in order."""
    responses = pl.concat([table["response_a"], table["response_b"]])
    return table["prompt"].unique().sort().to_list(), responses.unique().sort().to_list()


def draw_ukpconvarg(folder: Path, n_train: int, seed: int) -> Data:
    """150 seen and 50 unseen workers with at least 40 judgements that are no ties."""
    rng = np.random.default_rng(seed)
    table = judgements(folder).filter(pl.col("winner") != "tie")
    topics, responses = texts_of(table)
    row_of = {text: row for texts in (topics, responses) for row, text in enumerate(texts)}
    by_worker: dict[str, list[tuple[int, int, int]]] = {}
    for worker, *texts, winner in table.iter_rows():
        prompt, first, second = (row_of[text] for text in texts)
        sides = (first, second) if winner == "a" else (second, first)
        by_worker.setdefault(worker, []).append((prompt, *sides))
    workers = rng.permutation(sorted(name for name, pairs in by_worker.items() if len(pairs) >= 40))[:200]
    new = set(rng.permutation(len(topics))[: round(NEW * len(topics))].tolist())

    def answers(person: int, parts: dict[str, float]) -> Answers:
        given = by_worker[workers[person]]
        given = [given[row] for row in rng.permutation(len(given))]
        known = [pair for pair in given if pair[0] not in new]
        return _dealt(known, parts) | {"new": [pair for pair in given if pair[0] in new]}

    return _collected(topics, responses, len(workers), 150, n_train, answers)


DRAW = {"jester": draw_jester, "ukpconvarg": draw_ukpconvarg}


def _dealt(items, parts: dict[str, float]) -> dict:
    """Shuffled items in parts of given shares, one after another."""
    edges = [round(share * len(items)) for share in np.cumsum([0.0, *parts.values()])]
    return {part: items[edges[n] : edges[n + 1]] for n, part in enumerate(parts)}


def _collected(
    prompts: list[str], responses: list[str], n: int, n_seen: int, n_train: int, answers: Callable
) -> Data:
    most = {"train": n_train, **MOST}
    pairs: dict[str, list[tuple[int, ...]]] = {part: [] for part in most}
    for person in range(n):
        seen = person < n_seen
        for part, given in answers(person, KNOWN_PARTS if seen else UNSEEN_PARTS).items():
            if part != "new" or seen:
                number = person if seen else person - n_seen
                pairs[part] += [(number, *pair) for pair in islice(given, most[part])]
    user, prompt, chosen, rejected = torch.tensor(list(chain(*pairs.values()))).T
    asked = prompt if prompts else None
    every = Comparisons.from_pairs(user=user, prompt=asked, chosen=chosen, rejected=rejected)
    rows_of = torch.arange(len(user)).split([len(part) for part in pairs.values()])
    parts = {part: every[rows] for part, rows in zip(pairs, rows_of, strict=True)}
    return Data(prompts, responses, parts, {"seen": n_seen, "unseen": n - n_seen})


@cache
def encoded(texts: tuple[str, ...]) -> Tensor:
    """Vectors of texts, encoded once for all seeds, in batches of like length."""
    if not texts:
        return torch.zeros(0, 0)
    encoder = encoders.load(encoders.describe("all-MiniLM-L6-v2+measures"))
    order = np.argsort(encoder.lengths(list(texts)), kind="stable")
    batches = np.array_split(order, -(-len(texts) // 16))
    vectors = [encoder.encode([texts[row] for row in rows]) for rows in batches]
    return torch.from_numpy(np.concatenate(vectors)[np.argsort(order)])


def judge(data: Data, seed: int, methods: Iterable[str]) -> dict[str, dict[str, Judgement]]:
    """How methods did, by method and place."""
    tables = [encoded(tuple(data.prompts)), encoded(tuple(data.responses))]
    embeddings = Embeddings(*tables)
    task = Task(embeddings, data.parts["train"], data.n_users["seen"], data.parts["val"], seed=seed)
    found = {}
    for name in methods:
        found[name] = _judged(registered(METHODS, name).learn(task), embeddings, data)
    prompts, responses = (table[:, : -len(MEASURES)].contiguous() for table in tables)
    plain = Embeddings(prompts if data.prompts else torch.ones(1, 8), responses)
    if not data.prompts:  # model B with one prompt for all
        questions = data.parts["train"].questions
        asked = replace(questions, prompt=torch.zeros_like(questions.prompt))
        parts = {name: replace(part, questions=asked) for name, part in data.parts.items()}
        data = data._replace(parts=parts)
    alone = replace(task, embeddings=plain, train=data.parts["train"], val=data.parts["val"])
    one = alone.fit(*preset("ours", "B", head={"K": 1}))
    return {**found, "plain": _judged(one, plain, data)}


def _judged(learned: Learned, embeddings: Embeddings, data: Data) -> dict[str, Judgement]:
    """How a method did at each place; people with fewer answers are located by all that they gave."""
    parts, n_users, places = data.parts, data.n_users, {}
    adapt = parts["adapt"]
    number = places_in_user(adapt.user, n_users["unseen"])
    for items in ("known", "new"):
        places[items] = Place("seen", items, None), Held(parts["train"], parts[items], n_users["seen"])
    for n in SHOTS:
        some = adapt[(number < n).nonzero()[:, 0]]
        places[str(n)] = Place("unseen", "known", n), Held(some, parts["unseen"], n_users["unseen"])
    return {name: judge_at(learned, embeddings, *at) for name, at in places.items()}


def _beside_auto(found: dict[str, dict[str, Judgement]], place: str) -> list[str]:
    """The methods that are significantly above auto at a place, by Holm's correction for their number."""
    auto = found["auto"][place].judged
    tests = {name: paired_test(each[place].judged, auto) for name, each in found.items()}
    del tests["auto"], tests["plain"]
    p_values = corrected(tests)
    above = (name for name, test in tests.items() if p_values[name] < LEVEL and test.difference > 0)
    return [f"{name} by {100 * tests[name].difference:.1f}" for name in above]


def _rows(what: str, results: list[dict[str, dict[str, Judgement]]], reach: tuple[float, ...]) -> list[Row]:
    rows = []
    labels = {"known": "known items", "new": "new items"}
    labels |= {str(n): f"unseen people, {n} answers" for n in SHOTS}
    for place, least in zip(PLACES, reach, strict=True):
        label = labels[place]
        for name in METHODS_SHOWN:
            each = [result[name][place].judged for result in results]
            plain = [result["plain"][place].judged for result in results]
            tests = [paired_test(*pair) for pair in zip(each, plain, strict=True)]
            significant = sum(test.low > 0 or test.high < 0 for test in tests)
            note = f"intervals without zero in {significant} of {len(tests)} seeds"
            gains, limit = [100 * test.difference for test in tests], least if name == "auto" else None
            first = f"{what}: {label}, {name} less plain"
            rows.append(mean_row(first, gains, "points", note=note, at_least=limit))
        rows.append(mean_row(f"  plain, {label}", [100 * judged.macro for judged in plain]))
        better, n = _beside_auto(results[0], place), len(results[0]) - 2
        what_of = f"  methods of {n} above auto, {label}"
        rows.append(Row(what_of, float(len(better)), "methods", at_most=0.0, note=", ".join(better)))
    for place, most in CALIBRATED.items():
        errors = [100 * result["auto"][place].calibration_error for result in results]
        rows.append(mean_row(f"{what}: calibration error of auto, {labels[place]}", errors, at_most=most))
    losses = [sum(result["auto"][str(n)].log_loss for result in results) / len(results) for n in SHOTS]
    rises = max(after - before for before, after in pairwise(losses))
    note = "log-loss at 0, 5, 10, 20, 50 answers: " + ", ".join(f"{loss:.4f}" for loss in losses)
    what = f"{what}: most that auto's log-loss rises from further answers"
    return [*rows, Row(what, rises, "nats", at_most=0.0, note=note)]


USERS, ITEMS, DIM, ANSWERS = 200, 200, 4, 100
DECISION = 8.0  # length of a taste, which makes most answers sure
WORKERS, JUDGED, TESTED = 300, 140, 0.3  # of UKPConvArg: people, their judgements, share held out


def care() -> Section:
    """Lapses and ties: planted, and those of UKPConvArg."""
    table = judgements(needed_data("ukpconvarg"))
    lapses, losses = map(list, zip(*(_planted(seed) for seed in SEEDS), strict=True))
    what = f"planted lapse 0 to 0.4, {ANSWERS} answers a person: mean absolute error"
    loss = "20 % of people at random: points that the others lose beside a fit without them"
    rows = [mean_row(what, lapses, "", at_most=0.05), mean_row(loss, losses, "points", at_most=0.5)]
    ties = [_ties(table, seed) for seed in SEEDS]
    for name in ties[0]:
        what = f"ties modelled less dropped, held-out log-loss of {name}"
        rows.append(mean_row(what, [of_seed[name] for of_seed in ties], "nats", at_most=0.0))
    about = {"seeds": list(SEEDS), "people": USERS, "method": "mixed_effects"}
    return Section("People as they are", about, rows)


def _planted(seed: int) -> tuple[float, float]:
    """Error of lapses, and points that careful people lose by those who answer at random."""
    draw = torch.Generator().manual_seed(seed)
    x, shared = torch.randn(ITEMS, DIM, generator=draw), torch.eye(DIM)[0]
    taste = DECISION * (shared + torch.randn(USERS, DIM, generator=draw))
    user = torch.arange(USERS).repeat_interleave(ANSWERS)

    def given(lapse: Tensor) -> Comparisons:
        rows = torch.rand(len(user), ITEMS, generator=draw).argsort(1)[:, :2]
        margin = ((x[rows[:, 0]] - x[rows[:, 1]]) * taste[user]).sum(1)
        chance = (1 - lapse[user]) * torch.sigmoid(margin) + lapse[user] / 2
        first = torch.rand(len(user), generator=draw) < chance
        sides = (torch.where(first, rows[:, side], rows[:, 1 - side]) for side in (0, 1))
        return Comparisons.from_pairs(user=user, prompt=None, chosen=next(sides), rejected=next(sides))

    embeddings = Embeddings(torch.zeros(0, 0), x)
    lapse = 0.4 * torch.rand(USERS, generator=draw)
    answers = given(lapse)
    learned = registered(METHODS, "mixed_effects").learn(Task(embeddings, answers, USERS))
    found = care_of(learned.fitted.head, learned.population, embeddings, answers, n_users=USERS)
    random = torch.rand(USERS, generator=draw) < 0.2
    answers = given(random.float())
    (rest, _), (test, _) = (divide(each, random[user]) for each in (answers, given(torch.zeros(USERS))))

    def right(some: Comparisons) -> float:
        _, chance = _chances("mixed_effects", Task(embeddings, some, USERS), test)
        return float((chance > 0.5).double().mean())

    return float((found.lapse - lapse).abs().mean()), 100 * (right(rest) - right(answers))


def _chances(method: str, task: Task, test: Comparisons) -> tuple[Learned, Tensor]:
    """What a method learns, and its chances of the answers of a test."""
    learned = registered(METHODS, method).learn(task)
    belief = learned.posterior(task.embeddings, task.train, task.n_users)
    return learned, learned.probability(task.embeddings, test, belief).double().clamp(1e-6, 1 - 1e-6)


def _ties(table: pl.DataFrame, seed: int) -> dict[str, float]:
    """Log-loss with ties modelled, less that without: where their chance is their share in training."""
    rng = np.random.default_rng(seed)
    counts = table["user_id"].value_counts().filter(pl.col("count") >= 40)
    workers = rng.permutation(np.sort(counts["user_id"].to_numpy()))[:WORKERS].tolist()
    prompts, responses = texts_of(table)
    embeddings = Embeddings(encoded(tuple(prompts)), encoded(tuple(responses)))
    table = table.filter(pl.col("user_id").is_in(workers))
    order = pl.Series("order", rng.random(len(table)))
    table = table.with_columns(order).filter(pl.col("order").rank().over("user_id") <= JUDGED)

    def rows(column: str, names: list[str]) -> Tensor:
        return torch.from_numpy(table[column].cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64))

    first, second = (rows(f"response_{side}", responses) for side in "ab")
    ahead = torch.from_numpy((table["winner"] != "b").to_numpy())
    tie = torch.from_numpy((table["winner"] == "tie").to_numpy())
    every = Comparisons.from_pairs(
        user=rows("user_id", workers), prompt=rows("prompt", prompts),
        chosen=torch.where(ahead, first, second), rejected=torch.where(ahead, second, first),
        label=torch.where(tie, 0.5, 1.0),
    )  # fmt: skip
    held = torch.from_numpy(rng.random(len(every)) < TESTED)
    train, test = divide(every, held)
    tied, share = tie[held], float(tie[~held].double().mean())
    found = {}
    for method in ("bt", "mixed_effects"):
        losses = []
        for answers in (train, divide(train, train.label == 0.5)[0]):
            learned, chance = _chances(method, Task(embeddings, answers, len(workers)), test)
            of_tie = torch.full_like(chance, share)
            if ties := float(learned.population.ties):
                of_tie = expected_answer(torch.logit(chance), ties).tie
            three = torch.where(tied, of_tie.log(), ((1 - of_tie) * chance).log())
            losses.append((-float(chance[~tied].log().mean()), -float(three.mean())))
        for name, at in (("decided answers", 0), ("all three outcomes", 1)):
            found[f"{name}, {method}"] = losses[0][at] - losses[1][at]
    return found
