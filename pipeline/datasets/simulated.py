"""The paper's simulation (appendices E.1 and E.3): users with known ideal points compare random items.

Items and prototypes are N(0, (1/d) I), the map f* is a d x d matrix of N(0, 1) entries, prototypes keep a
minimum distance, and a user's answer is the item whose image lies nearer to that of the user's ideal point.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pal.config import Config, Number, Positive
from pal.files import write_json
from pipeline.datasets.base import AtLeastOne, Count, DatasetParams, Source
from pipeline.errors import PipelineError
from pipeline.storage import tables

if TYPE_CHECKING:
    import numpy as np

    from pipeline.params import Params as AllParams

TITLE = "Simulated users"
ABOUT = (
    "Users, items and answers drawn at random, as in the paper's simulation: each user prefers what lies "
    "nearer to a true ideal point, which is known here."
)
ITEMS_APART = True
MAX_DRAWS = 10_000


class Prepare(Config):
    """How the simulation is drawn."""

    setting: Literal["mixture", "partition"]
    groups: AtLeastOne
    dim: AtLeastOne
    seen_users: AtLeastOne
    unseen_users: AtLeastOne
    train_pairs: AtLeastOne
    adapt_pairs: AtLeastOne
    val_pairs: Count
    test_pairs: AtLeastOne
    min_distance: Annotated[Number, Field(ge=0)]
    concentration: Positive


class Params(DatasetParams):
    """The section simulated of params.yaml."""

    source: Literal["generated"]
    prepare: Prepare
    encoder: Literal["none"]

    @property
    def seen_users(self) -> int:
        """Seen users of all groups."""
        return self.prepare.seen_users

    @property
    def adapt_pairs(self) -> int:
        """Comparisons that shots are drawn from."""
        return self.prepare.adapt_pairs


def find(params: "AllParams") -> Source:
    """Nothing to fetch."""
    return Source("generated: the paper's simulation, drawn from its seed")


def prepare(params: "AllParams", files: dict[str, Path], out: Path) -> dict[str, int]:
    """Draw the study, and keep the truth behind it in truth.json."""
    import numpy as np

    knobs = params.simulated.prepare
    rng = np.random.default_rng(params.prepare.seed)
    prototypes = draw_prototypes(rng, knobs)
    matrix = rng.normal(size=(knobs.dim, knobs.dim))
    weights = draw_weights(rng, knobs)
    layout = _study_layout(knobs)
    items = rng.normal(scale=knobs.dim**-0.5, size=(2 * len(layout), knobs.dim)).astype(np.float32)
    chosen, rejected = answer(items, weights @ prototypes, layout["user"].to_numpy(), matrix)
    ids = np.array([tables.item_id("vector", row.tobytes()) for row in items])
    _write_items(ids, items, out)
    _write_pairs(layout, ids[chosen], ids[rejected], knobs, weights, out)
    write_json(
        out / "truth.json",
        {
            "matrix": matrix.tolist(),
            "prototypes": prototypes.tolist(),
            "user_ids": _user_ids(knobs),
            "weights": weights.tolist(),
            "setting": knobs.setting,
        },
    )
    return {"read": len(layout), "kept": len(layout), "dropped": 0}


def draw_prototypes(rng: "np.random.Generator", knobs: Prepare) -> "np.ndarray":
    """True prototypes, (groups, dim), redrawn until no two are nearer than the minimum distance.

    Raises:
        PipelineError: If that does not happen in 10,000 draws (it cannot where dim is small, D29).
    """
    import numpy as np
    from scipy.spatial.distance import pdist

    for _ in range(MAX_DRAWS):
        drawn = rng.normal(scale=knobs.dim**-0.5, size=(knobs.groups, knobs.dim))
        if knobs.groups == 1 or np.min(pdist(drawn)) >= knobs.min_distance:
            return drawn
    raise PipelineError(
        f"simulated.prepare.min_distance must leave room for {knobs.groups} prototypes in {knobs.dim} "
        f"dimensions, got {knobs.min_distance}, which {MAX_DRAWS:,} draws did not meet; lower it"
    )


def draw_weights(rng: "np.random.Generator", knobs: Prepare) -> "np.ndarray":
    """Users' true weights, (users, groups): Dirichlet in the mixture setting, else one prototype in turn."""
    import numpy as np

    n_users = knobs.seen_users + knobs.unseen_users
    if knobs.setting == "mixture":
        return rng.dirichlet([knobs.concentration] * knobs.groups, size=n_users)
    return np.eye(knobs.groups)[np.arange(n_users) % knobs.groups]


def answer(
    items: "np.ndarray", ideal_points: "np.ndarray", user: "np.ndarray", matrix: "np.ndarray"
) -> tuple["np.ndarray", "np.ndarray"]:
    """Rows of the chosen and the rejected item of each comparison; row 2j meets row 2j + 1 (E.1, D5)."""
    import numpy as np

    mapped, ideal = items @ matrix.T, (ideal_points @ matrix.T)[user]
    first, second = np.arange(0, len(items), 2), np.arange(1, len(items), 2)
    to_first = np.linalg.norm(mapped[first] - ideal, axis=1)
    to_second = np.linalg.norm(mapped[second] - ideal, axis=1)
    nearer = to_first < to_second
    return np.where(nearer, first, second), np.where(nearer, second, first)


def _study_layout(knobs: Prepare) -> "pl.DataFrame":  # noqa: F821
    """One row per comparison: user, users, split."""
    import polars as pl

    seen = {"train": knobs.train_pairs, "val": knobs.val_pairs, "test": knobs.test_pairs}
    unseen = {"adapt": knobs.adapt_pairs, "val": knobs.val_pairs, "test": knobs.test_pairs}
    frames = []
    for users, first, n_users, plan in (
        ("seen", 0, knobs.seen_users, seen),
        ("unseen", knobs.seen_users, knobs.unseen_users, unseen),
    ):
        split = [name for name, count in plan.items() for _ in range(count)]
        who = pl.DataFrame({"user": range(first, first + n_users)}, schema={"user": pl.Int64})
        frames.append(who.join(pl.DataFrame({"split": split}), how="cross").with_columns(users=pl.lit(users)))
    return pl.concat(frames)


def _user_ids(knobs: Prepare) -> list[str]:
    seen = [f"seen-{i:05d}" for i in range(knobs.seen_users)]
    return seen + [f"unseen-{i:05d}" for i in range(knobs.unseen_users)]


def _write_items(ids: "np.ndarray", items: "np.ndarray", out: Path) -> None:
    import polars as pl

    frame = pl.DataFrame({"item_id": ids, "modality": "vector", "vector": items.tolist()})
    frame = frame.unique("item_id").sort("item_id")
    tables.write_table(out / tables.ITEMS, frame, tables.items_schema())


def _write_pairs(
    layout: "pl.DataFrame",  # noqa: F821
    chosen: "np.ndarray",
    rejected: "np.ndarray",
    knobs: Prepare,
    weights: "np.ndarray",
    out: Path,
) -> None:
    import numpy as np
    import polars as pl

    user = layout["user"].to_numpy()
    group = None
    if knobs.setting == "partition":
        group = np.array([f"prototype {k + 1}" for k in weights.argmax(1)])[user]
    frame = layout.with_columns(
        pair_id=pl.int_range(pl.len()),
        user_id=pl.Series(np.array(_user_ids(knobs))[user]),
        chosen=pl.Series(chosen),
        rejected=pl.Series(rejected),
        label=pl.lit(1.0),
        group=pl.lit(None, pl.String) if group is None else pl.Series(group),
    )
    tables.write_table(out / tables.PAIRS, frame, tables.pairs_schema())
