"""The paper's simulation (appendices E.1 and E.3): users with known ideal points compare random items.

Items and prototypes are N(0, (1/d) I), the map f* is a d x d matrix of N(0, 1) entries, prototypes keep a
minimum distance, and a user's answer is the item whose image lies nearer to that of the user's ideal point.
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field

from pal.config import Number, Positive
from pal.files import write_json
from pipeline import PipelineError, paths
from pipeline.datasets import base
from pipeline.storage import tables
from pipeline.storage.tables import read_json

TITLE = "Simulated users"
ABOUT = (
    "Users, items and answers drawn at random, as in the paper's simulation: each user prefers what lies "
    "nearer to a true ideal point, which is known here."
)
ITEMS_APART = True
MAX_DRAWS = 10_000


class Prepare(base.Draws):
    """How the simulation is drawn."""

    setting: Literal["mixture", "partition"]
    groups: base.AtLeastOne
    dim: base.AtLeastOne
    seen_users: base.AtLeastOne
    unseen_users: base.AtLeastOne
    min_distance: Annotated[Number, Field(ge=0)]
    concentration: Positive


class Params(base.DatasetParams):
    """The section simulated of params.yaml."""

    source: Literal["generated"]
    prepare: Prepare
    encoder: Literal["none"]


def find(params: "base.AllParams") -> base.Source:
    """Nothing to fetch."""
    return base.Source("generated: the paper's simulation, drawn from its seed")


def prepare(params: "base.AllParams", files: dict[str, Path], out: Path) -> dict[str, int]:
    """Draw the study, and keep the truth behind it in truth.json."""
    options = params.simulated.prepare
    rng = np.random.default_rng(params.prepare.seed)
    prototypes = draw_prototypes(rng, options)
    matrix = rng.normal(size=(options.dim, options.dim))
    weights = draw_weights(rng, options)
    splits, n_users = options.splits(), {"seen": options.seen_users, "unseen": options.unseen_users}
    user_ids = [f"{users}-{i:05d}" for users, count in n_users.items() for i in range(count)]
    user = np.repeat(np.arange(len(user_ids)), [len(splits[name.partition("-")[0]]) for name in user_ids])
    items = rng.normal(scale=options.dim**-0.5, size=(2 * len(user), options.dim)).astype(np.float32)
    chosen, rejected = answer(items, weights @ prototypes, user, matrix)
    ids = np.array([tables.item_id("vector", row.tobytes()) for row in items])
    frame = pl.DataFrame({"item_id": ids, "modality": "vector", "vector": items.tolist()})
    frame = frame.unique("item_id").sort("item_id")
    tables.write_table(out / tables.ITEMS, frame)
    names = [f"prototype {k + 1}" if options.setting == "partition" else None for k in weights.argmax(1)]
    pairs = {
        "pair_id": np.arange(len(user)), "user_id": np.array(user_ids)[user],
        "chosen": ids[chosen], "rejected": ids[rejected], "label": np.ones(len(user)),
        "group": pl.Series(names, dtype=pl.String).gather(user),
        "users": [half for half, count in n_users.items() for _ in range(count * len(splits[half]))],
        "split": [split for half, count in n_users.items() for split in count * splits[half]],
    }  # fmt: skip
    tables.write_table(out / tables.PAIRS, pl.DataFrame(pairs))
    arrays = {"matrix": matrix, "prototypes": prototypes, "user_ids": np.array(user_ids), "weights": weights}
    truth = {name: array.tolist() for name, array in arrays.items()}
    write_json(out / paths.TRUTH, {**truth, "setting": options.setting})
    return {"read": len(user), "kept": len(user), "dropped": 0}


def draw_prototypes(rng: np.random.Generator, options: Prepare) -> np.ndarray:
    """True prototypes, (groups, dim), redrawn until no two are too near, which may never happen (D29)."""
    from scipy.spatial.distance import pdist  # takes as long to import as all else that `check` needs

    for _ in range(MAX_DRAWS):
        drawn = rng.normal(scale=options.dim**-0.5, size=(options.groups, options.dim))
        if options.groups == 1 or np.min(pdist(drawn)) >= options.min_distance:
            return drawn
    raise PipelineError(
        f"simulated.prepare.min_distance must leave room for {options.groups} prototypes in {options.dim} "
        f"dimensions, got {options.min_distance}, which {MAX_DRAWS:,} draws did not meet; lower it"
    )


def draw_weights(rng: np.random.Generator, options: Prepare) -> np.ndarray:
    """Users' true weights, (users, groups): Dirichlet in the mixture setting, else one prototype in turn."""
    n_users = options.seen_users + options.unseen_users
    if options.setting == "mixture":
        return rng.dirichlet([options.concentration] * options.groups, size=n_users)
    return np.eye(options.groups)[np.arange(n_users) % options.groups]


def answer(
    items: np.ndarray, ideal_points: np.ndarray, user: np.ndarray, matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the chosen and the rejected item of each comparison; row 2j meets row 2j + 1 (E.1, D5)."""
    mapped, ideal = items @ matrix.T, (ideal_points @ matrix.T)[user]
    first, second = np.arange(0, len(items), 2), np.arange(1, len(items), 2)
    to_first, to_second = (np.linalg.norm(mapped[side] - ideal, axis=1) for side in (first, second))
    nearer = to_first < to_second
    return np.where(nearer, first, second), np.where(nearer, second, first)


def bound(data: "base.Study", params: "base.AllParams") -> base.Truth | None:
    """The map and the true prototypes; None where they are not stored."""
    import torch

    truth = read_json(paths.prepared(data.dataset) / paths.TRUTH, f"prepare@{data.dataset}", absent={})
    if not truth:
        return None
    matrix = np.array(truth["matrix"])
    mapped = torch.from_numpy(data.embeddings.responses.double().numpy() @ matrix.T)
    prototypes = torch.from_numpy(np.array(truth["prototypes"]) @ matrix.T)

    def margins(pairs: "base.Comparisons") -> torch.Tensor:
        """|rejected - a|^2 - |chosen - a|^2 at each true prototype a."""
        q = pairs.questions
        first, second = (mapped[rows[pairs.question]] for rows in (q.first, q.second))
        difference = second - first
        margin = (difference * (second + first)).sum(1, keepdim=True) - 2 * difference @ prototypes.T
        return margin * pairs.sign[:, None]

    if truth["setting"] == "partition" or len(prototypes) == 1:
        return base.Truth(margins)
    weights = dict(zip(truth["user_ids"], truth["weights"], strict=True))
    return base.Truth(margins, weights, params.simulated.prepare.concentration)
