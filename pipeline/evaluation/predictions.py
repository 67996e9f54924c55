"""Predictions: one table with a row per test pair and model, of which every metric is a function.

Beside the model stand baselines that are not fitted to users, the controls k1 (one reward for everyone) and
oracle (which is given the true groups), the bound, `shared`, the model with one state for everyone, which
training answers fit best, and `asked`, the model with as many questions as `shots` says, chosen by user.
Margins of unseen users are computed for every draw of their shots; a row holds their sums and means.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import polars as pl
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pal.comparisons import Comparisons
from pal.evaluation.accuracy import rightness
from pal.evaluation.prototypes import one_state_for_all
from pal.models.base import PrototypeModel, feature_blocks
from pal.serving.reward_model import RewardModel
from pal.users.points import free_weights
from pal.users.population import log_likelihoods
from pal.users.question_choice import answer_probabilities, interview
from pipeline import PipelineError
from pipeline.evaluation.bounds import Bound
from pipeline.params import Evaluate
from pipeline.paths import PARAMS
from pipeline.storage.tables import USERS as HALVES
from pipeline.study import Study, attributes_of, places_in_user

USERS = (*HALVES, "unlocated")
SCHEMA = {
    "pair": pl.Int32,  # row of the study's comparisons
    # unlocated: unseen users without a comparison to locate them by, where others have some
    "users": pl.Enum(USERS),
    "user": pl.Int32,  # number of the user among all users
    "answer": pl.Int32,  # row of the chosen response
    "sign": pl.Float32,  # +1 where the question's first response was chosen, else -1
    "model": pl.Categorical,  # model, shared, k1, oracle, asked, bound or a baseline's name
    "shots": pl.Int32,  # from which unseen users with so many were located; null where that does not apply
    "draws": pl.Int32,  # random draws of the shots
    "margin": pl.Float32,  # in favour of the chosen response, mean over draws
    "probability": pl.Float32,  # P(chosen) by a fitted model, mean over draws; null for others
    "right": pl.Float32,  # draws in which the margin is above zero; a margin of zero adds one half
}
FEW_ANSWERS = 10
SIMILARITIES_AT_ONCE = 8192
NUMBERS_AT_ONCE = 1 << 24

# By a model's name and the shots that it was given, a tensor for each draw of these.
Draws = dict[tuple[str, int | None], list[Tensor]]
Margins = Callable[[Comparisons], Tensor]


def available_baselines(data: Study, texts: dict[str, str]) -> dict[str, Margins]:
    """The baselines that a dataset allows, each a function to margins; `texts` are its items', by id."""
    train = data.select("seen", "train")
    baselines = {"majority": majority(train)}
    lengths = torch.tensor([len(texts.get(item, "")) for item in data.response_ids])
    if len(lengths) and set(data.response_ids) <= texts.keys() and not few_answers(train):
        baselines["longer"] = lambda pairs: longer(lengths, pairs)
    if in_one_space(data):
        baselines["similarity"] = lambda pairs: similarity(data, pairs)
    return baselines


def few_answers(pairs: Comparisons) -> bool:
    """Whether all questions that are answered share a few answers, as yes and no."""
    asked = pairs.questions[torch.unique(pairs.question)]
    return len(torch.unique(torch.cat([asked.first, asked.second]))) <= FEW_ANSWERS


def majority(train: Comparisons) -> Margins:
    """Votes of the training comparisons in favour of the chosen response of others over the same questions.

    Where all questions share a few answers the answer chosen more often wins everywhere. Else the side that
    more users took on the same question wins, and on a question never asked, or tied, the response chosen in
    a larger share of its comparisons.
    """
    q = train.questions
    vote = train.sign * (2 * train.labels - 1)
    first, second = q.first[train.question], q.second[train.question]
    n = int(torch.cat([q.first, q.second]).max()) + 1
    net = torch.zeros(n).index_add(0, first, vote).index_add(0, second, -vote)
    met = torch.bincount(torch.cat([first, second]), minlength=n).clamp_min(1)
    by_response = net / met / 2  # the share of its comparisons in which it was chosen, less one half
    votes = by_response[q.first] - by_response[q.second]
    if not few_answers(train):
        by_question = torch.zeros(len(q)).index_add(0, train.question, vote)
        votes = torch.where(by_question != 0, by_question, votes)
    return lambda pairs: votes[pairs.question] * pairs.sign


def longer(lengths: Tensor, comparisons: Comparisons) -> Tensor:
    """By how many characters the chosen response is longer; texts of equal length get no margin."""
    q = comparisons.questions
    return (lengths[q.first] - lengths[q.second])[comparisons.question].float() * comparisons.sign


def similarity(data: Study, comparisons: Comparisons) -> Tensor:
    """The zero-shot scorer: cosine of prompt and chosen response, less that of prompt and rejected one."""
    q, prompts, responses = comparisons.questions, data.embeddings.prompts, data.embeddings.responses
    margins = [comparisons.sign[:0]]
    for block in comparisons.question.split(SIMILARITIES_AT_ONCE):
        vectors = (prompts[q.prompt[block]], responses[q.first[block]], responses[q.second[block]])
        prompt, first, second = (normalize(each.float(), dim=1) for each in vectors)
        # Two products, not one with the difference: equal responses must give zero exactly.
        margins.append((prompt * first).sum(1) - (prompt * second).sum(1))
    return torch.cat(margins) * comparisons.sign


def in_one_space(data: Study) -> bool:
    """Whether one encoder, the same to the last file, embedded prompts and responses; vectors do not say."""
    made = [by and (by.encoder, by.files_sha256, by.dim) for by in data.embedders.values()]
    return None not in made and made[0] == made[1] and made[0][0] not in ("none", "")


def predict(
    data: Study, models: dict[str, RewardModel], baselines: dict[str, Margins], knobs: Evaluate,
    halves: tuple[str, ...] = HALVES, bound: Bound | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Predictions of models, baselines and the bound on the test pairs of either half; ties left out."""
    tables = [pl.DataFrame(schema=SCHEMA)]
    model, known = models["model"], data.select("seen", "train")
    state = one_state_for_all(model.head, model.states, data.embeddings, known)
    for half in halves:
        pairs, rows = without_ties(data.select(half, "test"))
        if not len(pairs):
            continue
        margins: Draws = {(n, None): [margin(pairs)] for n, margin in baselines.items()}
        if half == "seen":
            margins |= {(n, None): margins_by(m, [m.states], data, pairs) for n, m in models.items()}
            if bound is not None:
                margins["bound", None] = bound.margins(half, [data.select(half, "train")], pairs)
        else:
            margins |= unseen_margins(data, pairs, models, knobs, bound)
        if state is not None:
            states = state.expand(data.n_users(half), -1)
            margins["shared", None] = margins_by(models["model"], [states], data, pairs)
        shared = _columns(data, half, pairs, rows)
        for (model, shots), draws in margins.items():
            fitted = model in models or model in ("asked", "shared")
            probability = torch.stack([torch.sigmoid(margin) for margin in draws]).mean(0)
            by_model = shared.with_columns(
                model=pl.lit(model, pl.String), shots=pl.lit(shots, pl.Int32), draws=pl.lit(len(draws)),
                margin=torch.stack(draws).mean(0).numpy(), right=sum(rightness(m) for m in draws),
                probability=probability.numpy() if fitted else pl.lit(None),
            )  # fmt: skip
            # Who has fewer comparisons to be located by is no part of a number that claims so many.
            located = by_model.filter(pl.col("known") >= (shots or 0))
            tables.append(located.select(*SCHEMA).cast(SCHEMA))
    return pl.concat(tables)


def _columns(data: Study, half: str, pairs: Comparisons, rows: Tensor) -> pl.DataFrame:
    """Columns of a half's test pairs that do not depend on the model; `known` counts a user's adapt pairs."""
    users, user, q = pl.lit(half), pairs.user.numpy(), pairs.questions
    known = torch.bincount(data.select(half, "adapt").user, minlength=data.n_users(half))[pairs.user].numpy()
    if half == "unseen":
        located = known > 0
        user = user + data.n_users("seen")
        if located.any() and not located.all():
            users = pl.when(pl.Series(located)).then(pl.lit("unseen")).otherwise(pl.lit("unlocated"))
            user = user + data.n_users("unseen") * ~located  # those who cannot be located are numbered last
    tested = (data.places["users"] == half) & (data.places["split"] == "test")
    chosen = torch.where(pairs.sign > 0, q.first[pairs.question], q.second[pairs.question])
    columns = {"pair": tested.arg_true().to_numpy()[rows.numpy()], "user": user, "answer": chosen.numpy()}
    columns |= {"sign": pairs.sign.numpy(), "known": known}
    return pl.DataFrame(columns).with_columns(users=users)


def unseen_margins(
    data: Study, pairs: Comparisons, models: dict[str, RewardModel], knobs: Evaluate, bound: Bound | None
) -> Draws:
    """Margins on unseen users' pairs: of the controls, of the model at all shots, and of the bound."""
    model, n_users, margins = models["model"], data.n_users("unseen"), Draws()
    if "k1" in models:  # whose users all have the same state
        everyone = models["k1"].population.mean.expand(n_users, -1)
        margins["k1", None] = margins_by(models["k1"], [everyone], data, pairs)
    if "oracle" in models and (groups := data.group_weights("unseen")) is not None:
        margins["oracle", None] = margins_by(models["oracle"], [groups], data, pairs)
    located = locate(data, model, knobs)
    every = iter(margins_by(model, [states for draws in located.values() for states in draws], data, pairs))
    margins |= {("model", shots): [next(every) for _ in draws] for shots, draws in located.items()}
    if bound is not None:
        adapt = data.select("unseen", "adapt")
        drawn = list(drawn_shots(adapt.user, n_users, knobs))  # the very shots that the model gets
        known = [adapt.slice(0, 0), *(adapt[rows] for _, rows in drawn)]
        bounds = bound.margins("unseen", known, pairs)
        for shots, margin in zip((0, *(n for n, _ in drawn)), bounds, strict=True):
            margins.setdefault(("bound", shots), []).append(margin)
    asked = locate_by_questions(data, model, knobs.asked)
    every = iter(margins_by(model, list(asked.values()), data, pairs))
    return margins | {("asked", n): [next(every)] for n in asked}


def without_ties(comparisons: Comparisons) -> tuple[Comparisons, Tensor]:
    """Comparisons with a preferred response, turned so that it is the chosen one, and which these were."""
    if comparisons.label is None:
        return comparisons, torch.arange(len(comparisons))
    rows = (comparisons.label != 0.5).nonzero().squeeze(1)
    kept = comparisons[rows]
    turn = torch.where(comparisons.label[rows] > 0.5, 1.0, -1.0)
    return replace(kept, sign=kept.sign * turn, label=None), rows


def margins_by(model: RewardModel, tables: list[Tensor], data: Study, pairs: Comparisons) -> list[Tensor]:
    """Margins under several tables of users' states; what does not depend on the user is computed once."""
    blocks: list[list[Tensor]] = [[pairs.sign[:0]] for _ in tables]
    with torch.inference_mode():
        for block, features, place in feature_blocks(model.head, data.embeddings, pairs):
            rows = features.index_select(0, place)
            for margins, states in zip(blocks, tables, strict=True):
                margins.append(model.head.margin(rows, states.index_select(0, block.user)) * block.sign)
    return [torch.cat(margins) for margins in blocks]


def locate(data: Study, model: RewardModel, knobs: Evaluate) -> dict[int, list[Tensor]]:
    """Unseen users' states from each number of shots, one table per draw; nested within a draw (D18).

    A user with fewer comparisons is located from all of them. Where no user has any, there are zero shots.
    """
    pairs, n_users = data.select("unseen", "adapt"), data.n_users("unseen")
    head, population, loss = model.head, model.population, model.fit_config.loss
    if knobs.locate == "weights" and not isinstance(head, PrototypeModel):
        raise PipelineError(
            f"evaluate.locate in {PARAMS} must be posterior where states are no weights of prototypes, as of "
            f"the model {model.config.model} of {data.dataset}, got weights; set it to posterior"
        )
    with torch.inference_mode():
        if knobs.locate == "posterior":
            each = population.evidence(head, data.embeddings, pairs, loss)
        else:
            blocks = [x[row] for _, x, row in feature_blocks(head, data.embeddings, pairs)]
            each = torch.cat(blocks) if blocks else torch.zeros(0, 0)
        told = _told(data, model)
        at_none = population.mean.expand(n_users, -1) if told is None else population.posterior(told).mean
        located = {0: [at_none]}
        for shots, rows in drawn_shots(pairs.user, n_users, knobs):
            user = pairs.user[rows]
            if knobs.locate == "weights":
                states = free_weights(head, each[rows], pairs.sign[rows], user, n_users=n_users, loss=loss)
            elif told is None:
                states = population.locate(each[rows], user, n_users)
            else:
                states = population.posterior(population.total(each[rows], user, n_users) + told).mean
            located.setdefault(shots, []).append(states.float())
    return located


def _told(data: Study, model: RewardModel) -> Tensor | None:
    """What unseen users' attributes say of their states, as evidence; None where the prior reads none."""
    return model.attributes and model.attributes.evidence(attributes_of(data, "unseen"))


def drawn_shots(user: Tensor, n_users: int, knobs: Evaluate) -> Iterator[tuple[int, Tensor]]:
    """Numbers of shots with the rows of the comparisons that are drawn, draw after draw."""
    generator = torch.Generator().manual_seed(knobs.seed)
    for _ in range(knobs.draws if len(user) else 0):
        place = places_in_user(user, n_users, generator)
        for shots in knobs.shots:
            yield shots, (place < shots).nonzero().squeeze(1)


def locate_by_questions(data: Study, model: RewardModel, most: int) -> dict[int, Tensor]:
    """Unseen users' states after 1, 2 and more questions, chosen by expected information gain (BALD).

    A user can be asked what the adapt pairs answer, and at most `most` of that. Empty where there is nothing
    to ask, or all users have the same state.
    """
    pairs, n_users = data.select("unseen", "adapt"), data.n_users("unseen")
    prior, loss = model.population.prior, model.fit_config.loss
    if not most or not len(pairs) or not model.population.additive or len(prior.masses) == 1:
        return {}
    told = _told(data, model)
    counts = torch.bincount(pairs.user, minlength=n_users)
    rounds, width = min(most, int(counts.max())), int(counts.max()) * len(prior.masses)
    located: dict[int, list[Tensor]] = {}
    for users in torch.arange(n_users).split(max(1, NUMBERS_AT_ONCE // width)):
        some = pairs[((pairs.user >= users[0]) & (pairs.user <= users[-1])).nonzero().squeeze(1)]
        user, count = some.user - users[0], counts[users]
        cell = (user, places_in_user(user, len(users)))
        with torch.inference_mode():
            answers = log_likelihoods(model.head, prior.states, data.embeddings, some, loss)
            asked = some.questions[some.question]
            chance = answer_probabilities(model.head, prior.states, data.embeddings, asked, loss)
        # (users, questions, states), padded with zeros.
        empty = answers.new_zeros(len(users), max(1, int(count.max())), len(prior.masses))
        tables = (empty.index_put(cell, values.to(answers.dtype)) for values in (chance, answers))
        allowed = torch.arange(empty.shape[1]) < count[:, None]
        some_prior = prior if told is None else prior.reweighted(told[users])
        for n, total in enumerate(interview(*tables, allowed, some_prior.masses, rounds).likelihood, 1):
            located.setdefault(n, []).append(some_prior.reweighted(total).mean)
    return {n: torch.cat(states) for n, states in located.items()}


def rounded(value: float | None) -> float | None:
    """Four digits: more are noise, and would differ between machines."""
    return None if value is None else round(float(value), 4)
