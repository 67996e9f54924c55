"""What the report shows of a model: its people, what they want, and the truth where it is known.

Items are shown as texts, or as small pictures that are part of the page; the gallery shows pairs of which one
picture has a colour filter.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.linalg import orthogonal_procrustes

import pal.report.portrait
from pal.evaluation.accuracy import rightness
from pal.models.ideal_point import IdealPointModel
from pal.report.page import data_uri
from pal.report.people import seconds_between
from pal.report.portrait import Item, judged_answers
from pal.serving.reward_model import RewardModel
from pipeline import paths
from pipeline.encoding import images
from pipeline.evaluation.predictions import HALVES, margins_by, one_state_for_all, without_ties
from pipeline.storage import tables
from pipeline.storage.manifests import read_json
from pipeline.study import Study, attributes_of

MAX_ITEMS_OF_TRUTH = 5000
MAX_FILTERED = 2000
THUMBNAIL_WIDTH = 96
NOTHING = {"text": None, "image": None}  # an item that could not be opened
PAIR_ITEMS = ("prompt", "chosen", "rejected")


def portrait(
    data: Study, models: dict[str, RewardModel], items: pl.DataFrame, n_items: int, outside: list[str]
) -> dict[str, Any]:
    """The report's `portrait`, which `pal.report.portrait` describes, and `truth`.

    Unseen users stand where all their comparisons put them; without any, at the population's mean.

    Args:
        data: The dataset.
        models: The model, and k1 where there is one.
        items: What the dataset's items are.
        n_items: Responses to show of what a prototype likes, and of what it dislikes.
        outside: Users whom no mix of the prototypes describes.
    """
    model, k1 = models["model"], models.get("k1")
    # One reward for everyone is the better of two, as in the headline.
    shared = [(model, one_state_for_all(data, model)), *([(k1, k1.population.mean)] if k1 else [])]
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
    text = dict(items.drop_nulls("text").select("item_id", "text").iter_rows())

    def show(wanted: set[Item]) -> dict[Item, dict[str, Any]]:
        shown = show_items(items, data.dataset, {ids[side][row] for side, row in wanted})
        return {(side, row): shown.get(ids[side][row], NOTHING) for side, row in wanted}

    asked = torch.unique(data.select("seen", "train").question)
    unseen_ones = torch.from_numpy((data.places["users"] == "unseen").to_numpy().astype("int64"))
    given = replace(data.comparisons, user=data.comparisons.user + data.n_users("seen") * unseen_ones)
    drawn = pal.report.portrait.portrait(
        model.head,
        model.population,
        data.embeddings,
        data.comparisons.questions[asked],
        people,
        torch.cat([*states.values()]),
        pl.concat(answers),
        {side: [] if vectors else [text.get(item) for item in names] for side, names in ids.items()},
        show,
        shown=n_items,
        attributes={"group": {each["user_id"]: each["group"] for each in people}} if data.groups else None,
        outside=outside,
        given=given,
        loss=model.fit_config.loss,
        repeats=_repeats(data),
        times=_times(data.dataset),
    )
    return {"portrait": drawn, "truth": true_points(data, model, states)}


def _repeats(data: Study) -> pl.DataFrame | None:
    """Questions that a user answered more than once, and how: user_id, share, n."""
    pairs = data.comparisons
    if pairs.weight is None:
        return None
    several = (pairs.weight > 1).nonzero()[:, 0]
    halves, user = data.places["users"], pairs.user[several].tolist()
    users = [data.user_ids[halves[row]][u] for row, u in zip(several.tolist(), user, strict=True)]
    share = torch.ones(len(several)) if pairs.label is None else pairs.label[several]
    n = pairs.weight[several]
    return pl.DataFrame(
        {"user_id": users, "share": share.double().numpy(), "n": n.double().numpy()},
        schema_overrides={"user_id": pl.String},
    )


def _times(dataset: str) -> pl.DataFrame | None:
    """Seconds between a user's answers, where the data say when they were given."""
    path = paths.prepared(dataset) / tables.PAIRS
    pairs = pl.scan_parquet(path).select("user_id", "time").drop_nulls().collect()
    return seconds_between(pairs["user_id"].cast(pl.String), pairs["time"]) if len(pairs) else None


def true_points(data: Study, model: RewardModel, weights: dict[str, torch.Tensor]) -> dict[str, Any] | None:
    """Orthogonal Procrustes of predicted onto true ideal points of a simulation, in one plane; else None.

    Preferences fix the space up to rotation and scale, so the predicted one is turned onto the true one by
    the items alone; the plane is that of the true points' largest spread.
    """
    truth = read_json(paths.prepared(data.dataset) / "truth.json", f"prepare@{data.dataset}", absent={})
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
    prototypes = np.array(truth["prototypes"])
    true_users = wide(np.array(truth["weights"]) @ prototypes @ matrix.T)
    centre = true_users.mean(0)
    plane = np.linalg.svd(true_users - centre, full_matrices=False)[2][:2].T

    def flat(x: np.ndarray) -> list[list[float]]:
        return [[round(float(v), 4) for v in row] for row in (x - centre) @ plane]

    true_flat = dict(zip(truth["user_ids"], flat(true_users), strict=True))
    dominant = dict(zip(truth["user_ids"], np.array(truth["weights"]).argmax(1) + 1, strict=True))
    users = [
        {
            "user_id": user,
            "users": half,
            "group": f"nearest prototype {dominant[user]}",
            "true": true_flat[user],
            "predicted": at,
        }
        for half, points in ideal.items()
        for user, at in zip(data.user_ids[half], flat(scale * wide(points) @ turn), strict=True)
    ]
    return {
        "axes": "the two directions in which the true ideal points spread most; predicted points were turned "
        "and scaled onto the true space by the items alone",
        "users": users,
        "prototypes": [{"true": at} for at in flat(wide(prototypes @ matrix.T))],
        "predicted_prototypes": flat(scale * wide(corners) @ turn),
    }


def gallery(data: Study, items: pl.DataFrame, n_pairs: int) -> list[dict[str, Any]]:
    """At most `n_pairs` test pairs with a colour filter, in turn from every group and either filtered.

    They are of seen users; of unseen ones where seen users have none.
    """
    filtered = (data.places["split"] == "test") & data.places["filtered"].is_not_null()
    halves = [half for half in HALVES if (filtered & (data.places["users"] == half)).any()]
    if not halves:
        return []
    half = halves[0]
    place = (filtered & (data.places["users"] == half)).arg_true()[:MAX_FILTERED]
    pairs = data.comparisons[torch.from_numpy(place.to_numpy().astype("int64"))]
    q, ahead = pairs.questions[pairs.question], pairs.sign > 0
    users = pl.Series(data.user_ids[half]).gather(pairs.user.numpy())
    names = pl.Series([*data.prompt_ids, None], dtype=pl.String), pl.Series(data.response_ids)
    rows = pl.DataFrame(
        {
            "prompt": names[0].gather(q.prompt.numpy()),
            "chosen": names[1].gather(torch.where(ahead, q.first, q.second).numpy()),
            "rejected": names[1].gather(torch.where(ahead, q.second, q.first).numpy()),
            "filtered": data.places["filtered"].cast(pl.String).gather(place),
            "group": None if data.groups is None else pl.Series(data.groups[half]).gather(pairs.user.numpy()),
            "user": users,
        }
    )
    # By turns from each group and filter; no prompt twice while others are left.
    rows = rows.with_columns(again=pl.int_range(pl.len()).over("prompt"))
    rows = rows.with_columns(turn=pl.int_range(pl.len()).over("again", "group", "filtered"))
    rows = rows.sort("again", "turn", "group", "filtered", maintain_order=True).drop("again", "turn")
    shown = rows.head(n_pairs).to_dicts()
    items_shown = show_items(items, data.dataset, {row[c] for row in shown for c in PAIR_ITEMS} - {None})
    for row in shown:
        prompt, chosen, rejected = (items_shown.get(row[column], NOTHING) for column in PAIR_ITEMS)
        row.update(prompt=prompt["text"], chosen=chosen["image"], rejected=rejected["image"])
    return shown


def show_items(items: pl.DataFrame, dataset: str, wanted: set[str]) -> dict[str, dict[str, str | None]]:
    """The text, or a thumbnail as a data URI, of the wanted items, by item id; vectors have neither."""
    some = items.filter(pl.col("item_id").is_in(list(wanted)))
    some = some.with_columns(pl.col("modality").cast(pl.String))
    texts = some.filter(pl.col("modality") == "text")
    shown = {item: {**NOTHING, "text": text} for item, text in texts.select("item_id", "text").iter_rows()}
    pictures = some.filter(pl.col("modality") == "image")
    if len(pictures):
        thumbnails = images.thumbnails(pictures, dataset, THUMBNAIL_WIDTH)
        shown |= {item: {**NOTHING, "image": data_uri(thumbnails.get(item))} for item in pictures["item_id"]}
    return shown
