"""What the report shows of a model: people, what they want, how far to believe its prototypes, and the truth.

Items are shown as texts, or as small pictures that are part of the page; the gallery shows pairs of which one
picture has a colour filter. Stability is of the model that is evaluated: it is compared with the further fits
that train makes from other seeds, which serve nothing else.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from pal.evaluation import prototypes
from pal.evaluation.accuracy import rightness
from pal.logs.answers import habits
from pal.models.base import PrototypeModel, feature_blocks
from pal.models.ideal_point import IdealPointModel
from pal.report.page import data_uri
from pal.report.people import Item, Portrait, judged_answers
from pal.serving.reward_model import RewardModel
from pipeline import images, paths
from pipeline.evaluation.predictions import HALVES, locate, margins_by, rounded, without_ties
from pipeline.params import Evaluate
from pipeline.storage import tables
from pipeline.storage.tables import read_json
from pipeline.study import Study, attributes_of, texts

MAX_QUESTIONS = 20_000
MAX_ITEMS_OF_TRUTH = 5000
MAX_FILTERED = 2000
THUMBNAIL_WIDTH = 96
NOTHING = {"text": None, "image": None}  # an item that could not be opened


def portrait(
    data: Study, models: dict[str, RewardModel], items: pl.DataFrame, n_items: int, outside: list[str]
) -> dict[str, Any]:
    """The report's `portrait`, which `pal.report.people` describes, and `truth`.

    Unseen users stand where all their comparisons put them; without any, at the population's mean. `models`
    are the model and perhaps k1; `n_items` are shown of what a prototype likes, and of what it dislikes;
    `outside` are users whom no mix of them describes.
    """
    model, k1, train = models["model"], models.get("k1"), data.select("seen", "train")
    # One reward for everyone is the better of two, as in the headline.
    alike = prototypes.one_state_for_all(model.head, model.states, data.embeddings, train)
    shared = [(model, alike), *([(k1, k1.population.mean)] if k1 else [])]
    unseen = model.locate(
        data.embeddings, data.select("unseen", "adapt"), n_users=data.n_users("unseen"),
        attributes=attributes_of(data, "unseen"),
    )  # fmt: skip
    states = {"seen": model.states, "unseen": unseen}
    answers, people = [], []
    for half, located in states.items():
        test, _ = without_ties(data.select(half, "test"))
        (own,) = margins_by(model, [located], data, test)
        ones = ((each, place.expand(data.n_users(half), -1)) for each, place in shared if place is not None)
        one = max(
            (margins_by(each, [place], data, test)[0] for each, place in ones),
            key=lambda margins: float(rightness(margins).sum()), default=None,
        )  # fmt: skip
        answers.append(judged_answers(data.user_ids[half], half, test, own, one))
        groups = data.groups[half] if data.groups else [None] * data.n_users(half)
        users = zip(data.user_ids[half], groups, strict=True)
        people += [{"user_id": user, "users": half, "group": group} for user, group in users]
    ids = {"prompts": data.prompt_ids, "responses": data.response_ids}
    vectors = data.embedders["responses"] is None or data.embedders["responses"].encoder == "none"
    text = texts(items)

    def show(wanted: set[Item]) -> dict[Item, str | None]:
        shown = show_items(items, data.dataset, {ids[side][row] for side, row in wanted})
        return {(side, row): shown.get(ids[side][row], NOTHING)["image"] for side, row in wanted}

    asked = torch.unique(train.question)
    unseen_ones = torch.from_numpy((data.places["users"] == "unseen").to_numpy().astype("int64"))
    given = replace(data.comparisons, user=data.comparisons.user + data.n_users("seen") * unseen_ones)
    of_side = {side: [] if vectors else [text.get(item) for item in names] for side, names in ids.items()}
    attributes = {"group": {each["user_id"]: each["group"] for each in people}} if data.groups else None
    path = paths.prepared(data.dataset) / paths.HABITS
    if path.is_file():
        told = pl.read_parquet(path)
    else:  # as the pairs are: their times at most
        pairs = pl.scan_parquet(path.with_name(tables.PAIRS)).select("user_id", timestamp="time").drop_nulls()
        told = habits(
            pairs.with_columns(pl.col("user_id").cast(pl.String), first=pl.lit(None, pl.Boolean)).collect()
        )
    drawn = Portrait(
        model, data.embeddings, data.comparisons.questions[asked], people, torch.cat([*states.values()]),
        pl.concat(answers), of_side, show, n_items, attributes or {}, outside,
    ).drawn(given, told)  # fmt: skip
    return {"portrait": drawn, "truth": true_points(data, model, states)}


def true_points(data: Study, model: RewardModel, weights: dict[str, Tensor]) -> dict[str, Any] | None:
    """Predicted and true ideal points of a simulation, in the plane of the true ones' largest spread.

    Preferences fix the space up to rotation and scale: the items alone turn it onto the true one.
    """
    truth = read_json(paths.prepared(data.dataset) / paths.TRUTH, f"prepare@{data.dataset}", absent={})
    if not truth or not isinstance(model.head, IdealPointModel):
        return None
    matrix = np.array(truth["matrix"])
    with torch.inference_mode():
        items = data.embeddings.responses[:MAX_ITEMS_OF_TRUTH].float()
        ours = model.head.map_responses(items.new_zeros(len(items), 0), items).numpy()
        ideal = {half: model.head.ideal_points(w).numpy() for half, w in weights.items()}
        corners = model.head.ideal_points(torch.eye(model.config.K)).numpy()
    theirs = items.numpy() @ matrix.T
    width = max(ours.shape[1], theirs.shape[1])

    def wide(x: np.ndarray) -> np.ndarray:
        return np.pad(x, ((0, 0), (0, width - x.shape[1])))

    turn, strength = orthogonal_procrustes(wide(ours), wide(theirs))
    scale = strength / (ours**2).sum()
    true_corners = np.array(truth["prototypes"]) @ matrix.T
    true_users = wide(np.array(truth["weights"]) @ np.array(truth["prototypes"]) @ matrix.T)
    centre = true_users.mean(0)
    plane = np.linalg.svd(true_users - centre, full_matrices=False)[2][:2].T

    def flat(x: np.ndarray) -> list[list[float]]:
        return [[round(float(v), 4) for v in row] for row in (x - centre) @ plane]

    true_flat = dict(zip(truth["user_ids"], flat(true_users), strict=True))
    dominant = dict(zip(truth["user_ids"], np.array(truth["weights"]).argmax(1) + 1, strict=True))
    users = []
    for half, points in ideal.items():
        for user, at in zip(data.user_ids[half], flat(scale * wide(points) @ turn), strict=True):
            about = {"user_id": user, "users": half, "group": f"nearest prototype {dominant[user]}"}
            users.append({**about, "true": true_flat[user], "predicted": at})
    return {
        "axes": "the two directions in which the true ideal points spread most; predicted points were turned "
        "and scaled onto the true space by the items alone",
        "users": users,
        "prototypes": [{"true": at} for at in flat(wide(true_corners))],
        "predicted_prototypes": flat(scale * wide(corners) @ turn),
    }


def gallery(data: Study, items: pl.DataFrame, n_pairs: int) -> list[dict[str, Any]]:
    """At most `n_pairs` test pairs with a colour filter, of seen users or, without such, of unseen ones."""
    filtered = (data.places["split"] == "test") & data.places["filtered"].is_not_null()
    of_half = {half: (filtered & (data.places["users"] == half)).arg_true() for half in HALVES}
    half = next((half for half, rows in of_half.items() if len(rows)), None)
    if half is None:
        return []
    place = of_half[half][:MAX_FILTERED]
    pairs = data.comparisons[torch.from_numpy(place.to_numpy().astype("int64"))]
    q, ahead = pairs.questions[pairs.question], pairs.sign > 0
    prompts, responses = pl.Series([*data.prompt_ids, None], dtype=pl.String), pl.Series(data.response_ids)
    users = pl.DataFrame({"user": data.user_ids[half], "group": data.groups and data.groups[half]})
    rows = users[pairs.user.numpy()].with_columns(
        prompt=prompts.gather(q.prompt.numpy()),
        chosen=responses.gather(torch.where(ahead, q.first, q.second).numpy()),
        rejected=responses.gather(torch.where(ahead, q.second, q.first).numpy()),
        filtered=data.places["filtered"].cast(pl.String).gather(place),
    )
    # By turns from each group and filter; no prompt twice while others are left.
    rows = rows.with_columns(again=pl.int_range(pl.len()).over("prompt"))
    rows = rows.with_columns(turn=pl.int_range(pl.len()).over("again", "group", "filtered"))
    rows = rows.sort("again", "turn", "group", "filtered", maintain_order=True).drop("again", "turn")
    shown = rows.head(n_pairs).to_dicts()
    kinds = {"prompt": "text", "chosen": "image", "rejected": "image"}
    items_shown = show_items(items, data.dataset, {row[side] for row in shown for side in kinds} - {None})
    for row in shown:
        row |= {side: items_shown.get(row[side], NOTHING)[kind] for side, kind in kinds.items()}
    return shown


def show_items(items: pl.DataFrame, dataset: str, wanted: set[str]) -> dict[str, dict[str, str | None]]:
    """The text, or a thumbnail as a data URI, of the wanted items, by item id; vectors have neither."""
    some = items.filter(pl.col("item_id").is_in(list(wanted)))
    shown = {item: {**NOTHING, "text": text} for item, text in texts(some).items()}
    pictures = some.filter(pl.col("modality").cast(pl.String) == "image")
    if len(pictures):
        thumbnails = images.thumbnails(pictures, dataset, THUMBNAIL_WIDTH)
        shown |= {item: {**NOTHING, "image": data_uri(thumbnails.get(item))} for item in pictures["item_id"]}
    return shown


def plurality(
    data: Study, model: RewardModel, users: str, knobs: Evaluate, *, items: str = "all", test: str = ""
) -> dict[str, float | str | None]:
    """Permutation test of whether users' own states predict their test answers better than shuffled ones.

    Seen users have their states from training, unseen ones from the headline shots of the first draw. They
    are judged on `items`, and on the named `test` set where there is one.

    Returns differ_p, and where it is null why; nulls both where there is nothing to shuffle.
    """
    named = {"test": test} if test else {}
    held_out = data.select(users, "test", None if items == "all" else items, **named)
    known = data.select(users, "train" if users == "seen" else "adapt")
    if data.n_users(users) < 2 or not len(held_out) or not len(known):
        return {"differ_p": None, "why": None}
    states = model.states
    if users == "unseen":
        states = locate(data, model, knobs)[knobs.headline_shots][0]
    p_value = prototypes.plurality_test(model.head, states, data.embeddings, held_out, seed=knobs.seed)
    why = "users are asked of different things" if p_value is None else None
    return {"differ_p": rounded(p_value), "why": why}


def prototype_stability(data: Study, model: RewardModel) -> dict[str, Any] | None:
    """What the report says of a model's prototypes; None for one prototype, or a model without.

    agreement is of matched prototypes of fits from other `seeds`, same_groups the adjusted Rand index of the
    users' nearest prototypes there, true_groups that with the true groups, same_answers the share of test
    questions on which a user's rewards prefer the same response. None where something is not known.
    """
    if not isinstance(model.head, PrototypeModel) or model.config.K == 1:
        return None
    folders = (path for path in paths.models(data.dataset).glob("again-*") if path.is_dir())
    by_number = sorted(folders, key=lambda path: int(path.name.partition("-")[2]))
    others = [RewardModel.load(path) for path in by_number]
    groups, nearest = data.groups and data.groups["seen"], model.states.argmax(1).numpy()
    names = ("agreement", "by_prototype", "same_groups", "same_answers")
    return {
        "seeds": len(others),
        **(_agreement(data, model, others) if others else dict.fromkeys(names)),
        "true_groups": rounded(adjusted_rand_score(groups, nearest)) if groups else None,
        "n_groups": len(set(groups)) if groups else None,
        "dead": [k + 1 for k, dead in enumerate(prototypes.dead_prototypes(model.states).tolist()) if dead],
        "outside": _outside(data, model),
    }


def _agreement(data: Study, model: RewardModel, others: list[RewardModel]) -> dict[str, Any]:
    """Agreement of the model with fits from other seeds: of prototypes, users' groups and answers."""
    rows = torch.unique(data.select("seen", "train").question)[:MAX_QUESTIONS]
    questions, test = data.comparisons.questions[rows], data.select("seen", "test")
    shares, agreement, groups, answers = model.states.mean(0), [], [], []

    def at_prototypes(head: PrototypeModel) -> Tensor:
        with torch.inference_mode():
            return head.prototype_margins(head.question_features(data.embeddings, questions))

    (ours,) = margins_by(model, [model.states], data, test)
    for other in others:
        at = (at_prototypes(fit.head) for fit in (model, other))
        agreement.append(prototypes.match_prototypes(*at, shares, other.states.mean(0)).agreement)
        nearest = (fit.states.argmax(1).numpy() for fit in (model, other))
        groups.append(rounded(adjusted_rand_score(*nearest)))
        (theirs,) = margins_by(other, [other.states], data, test)
        answers.append(float(((ours > 0) == (theirs > 0)).double().mean()))
    by_prototype = torch.stack(agreement).mean(0)
    return {
        "agreement": rounded(float(by_prototype @ shares.double())),
        "by_prototype": [rounded(each) for each in by_prototype.tolist()],
        "same_groups": rounded(float(np.mean(groups))), "same_answers": rounded(float(np.mean(answers))),
    }  # fmt: skip


def _outside(data: Study, model: RewardModel) -> dict[str, dict[str, Any]] | None:
    """Users whose located answers are 20 times likelier outside the prototypes' hull; None if not linear."""
    if not model.head.linear or model.fit_config.loss != "logistic":
        return None
    counts = {}
    for half, split in (("seen", "train"), ("unseen", "adapt")):
        pairs, _ = without_ties(data.select(half, split))
        margins = [torch.zeros(0, model.config.K)]
        with torch.inference_mode():
            for block, features, place in feature_blocks(model.head, data.embeddings, pairs):
                at_prototypes = model.head.prototype_margins(features).index_select(0, place)
                margins.append(at_prototypes * block.sign[:, None])
        outside = prototypes.outside_hull(torch.cat(margins).clone(), pairs.user, n_users=data.n_users(half))
        who = [data.user_ids[half][row] for row in outside.nonzero()[:, 0].tolist()]
        counts[half] = {"users": len(who), "of": int((torch.bincount(pairs.user) > 0).sum()), "who": who}
    return counts
