"""People as they are: planted lapses, people who answer at random beside others, ties of real judgements."""

import numpy as np
import polars as pl
import torch
from torch import Tensor

from benchmarks.real_people import encoded, judgements
from benchmarks.studies import SEEDS, shared_data
from benchmarks.table import Row, Section, mean_row
from pal.comparisons import Comparisons, Embeddings
from pal.config import registered
from pal.methods import METHODS
from pal.methods.base import Learned, Task
from pal.models.base import expected_answer
from pal.users.care import care_of

USERS, ITEMS, DIM, ANSWERS = 200, 200, 4, 100
DECISION = 8.0  # length of a taste, which makes most answers sure
WORKERS, MOST, TESTED = 300, 140, 0.3  # of UKPConvArg: people, their judgements, share held out


def care() -> Section:
    """All figures; those of ties where UKPConvArg is there."""
    lapses, losses = zip(*(_planted(seed) for seed in SEEDS), strict=True)
    rows = [
        mean_row(
            f"planted lapse 0 to 0.4, {ANSWERS} answers a person: mean absolute error", list(lapses), "",
            at_most=0.05,
        ),
        mean_row(
            "20 % of people at random: points that the others lose beside a fit without them", list(losses),
            "points", at_most=0.5,
        ),
    ]  # fmt: skip
    folder = shared_data("PAL_UKPCONVARG", "ukpconvarg", "README.md")
    if folder is None:
        rows.append(Row("ties of ukpconvarg", float("nan"), unjudged="its files are not there"))
    else:
        by_seed = [_ties(judgements(folder), seed) for seed in SEEDS]
        for name in by_seed[0]:
            each = [found[name] for found in by_seed]
            rows.append(
                mean_row(
                    f"ties modelled less dropped, held-out log-loss of {name}", each, "nats", at_most=0.0
                )
            )
    return Section(
        "People as they are", {"seeds": list(SEEDS), "people": USERS, "method": "mixed_effects"}, rows
    )


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
    learned = _learn("mixed_effects", embeddings, answers, USERS)
    found = care_of(learned.fitted.head, learned.population, embeddings, answers, n_users=USERS)
    random = torch.rand(USERS, generator=draw) < 0.2
    answers, test = given(random.float()), given(torch.zeros(USERS))
    rest = answers[(~random[user]).nonzero()[:, 0]]
    test = test[(~random[user]).nonzero()[:, 0]]
    right = [
        float(
            (_chances(_learn("mixed_effects", embeddings, some, USERS), embeddings, some, test, USERS) > 0.5)
            .double()
            .mean()
        )
        for some in (rest, answers)
    ]
    return float((found.lapse - lapse).abs().mean()), 100 * (right[0] - right[1])


def _learn(method: str, embeddings: Embeddings, train: Comparisons, n_users: int) -> Learned:
    return registered(METHODS, method).learn(Task(embeddings, train, n_users))


def _chances(
    learned: Learned, embeddings: Embeddings, train: Comparisons, test: Comparisons, n_users: int
) -> Tensor:
    belief = learned.posterior(embeddings, train, n_users)
    return learned.probability(embeddings, test, belief).double().clamp(1e-6, 1 - 1e-6)


def _ties(table: pl.DataFrame, seed: int) -> dict[str, float]:
    """Log-loss with ties modelled, less that without: where their chance is their share in training."""
    rng = np.random.default_rng(seed)
    table = table.filter(pl.col("response_a") != pl.col("response_b"))
    counts = table["user_id"].value_counts().filter(pl.col("count") >= 40)
    workers = rng.permutation(np.sort(counts["user_id"].to_numpy()))[:WORKERS].tolist()
    prompts = table["prompt"].unique().sort().to_list()
    responses = pl.concat([table["response_a"], table["response_b"]]).unique().sort().to_list()
    embeddings = Embeddings(encoded(tuple(prompts)), encoded(tuple(responses)))
    table = table.filter(pl.col("user_id").is_in(workers)).with_columns(
        order=rng.random(int(table["user_id"].is_in(workers).sum()))
    )
    table = table.filter(pl.col("order").rank().over("user_id") <= MOST)

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
    train, test = (every[some.nonzero()[:, 0]] for some in (~held, held))
    tied, share = tie[held], float(tie[~held].double().mean())
    found = {}
    for method in ("bt", "mixed_effects"):
        losses = []
        for answers in (train, train[(train.label != 0.5).nonzero()[:, 0]]):
            learned = _learn(method, embeddings, answers, len(workers))
            chance = _chances(learned, embeddings, answers, test, len(workers))
            ties = float(learned.population.ties)
            of_tie = (
                expected_answer(torch.logit(chance), ties).tie if ties else torch.full_like(chance, share)
            )
            three = torch.where(tied, of_tie.log(), ((1 - of_tie) * chance).log())
            losses.append((-float(chance[~tied].log().mean()), -float(three.mean())))
        for name, at in (("decided answers", 0), ("all three outcomes", 1)):
            found[f"{name}, {method}"] = losses[0][at] - losses[1][at]
    return found
