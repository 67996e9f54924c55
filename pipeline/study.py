"""A dataset as tensors: embeddings, and the comparisons of seen and unseen users in their splits.

What train and evaluate share. Questions are numbered once for all splits, so that a question asked in
training and one asked in a test are the same row.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pal.comparisons import Comparisons, Embeddings
from pipeline import layout, shards, tables
from pipeline.errors import PipelineError
from pipeline.shards import Embedder

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Study:
    """One dataset, ready to fit and to evaluate.

    Args:
        dataset: Its name.
        embeddings: One row per item, as prompts and as responses.
        embedder: What made them.
        item_ids: The items, by row of the embeddings.
        prompt_ids: The items that are prompts, by row of the prompts' embeddings.
        response_ids: The items that are responses, by row of the responses' embeddings.
        embedders: What made the embeddings of `prompts` (None where there are none) and `responses`.
        dropped: Pairs left out because an item of theirs could not be encoded.
        user_ids: For `seen` and `unseen`, the users' ids; a comparison's user counts within its half.
        groups: For `seen` and `unseen`, each user's true group; None where groups are not known.
        comparisons: Every comparison that has a place.
        places: One row per comparison: users, split, items, test, filtered.
    """

    dataset: str
    embeddings: Embeddings
    embedder: Embedder
    item_ids: list[str]
    user_ids: dict[str, list[str]]
    groups: dict[str, list[str]] | None
    comparisons: Comparisons
    places: "pl.DataFrame"
    prompt_ids: list[str]
    response_ids: list[str]
    embedders: dict[str, Embedder | None]
    dropped: int = 0

    def select(self, users: str, split: str, items: str | None = None) -> Comparisons:
        """The comparisons of one half of the users in one split, all or only on `known` or `new` items."""
        here = (self.places["users"] == users) & (self.places["split"] == split)
        if items is not None:
            here &= self.places["items"] == items
        return self.comparisons[torch.from_numpy(here.arg_true().to_numpy().astype("int64"))]

    def n_users(self, users: str) -> int:
        """Users of one half."""
        return len(self.user_ids[users])


def load(dataset: str) -> Study:
    """Read what recolour, split and encode wrote.

    Raises:
        PipelineError: If something is missing or damaged, or a pair names an item without embedding.
    """
    import polars as pl

    ids, vectors, embedder = shards.read_folder(layout.embeddings(dataset), f"encode@{dataset}")
    columns = ["pair_id", "user_id", "prompt", "chosen", "rejected", "label", "group", "test", "filtered"]
    pairs = tables.read_table(layout.recoloured(dataset) / tables.PAIRS, f"recolour@{dataset}", columns)
    splits = tables.read_table(layout.splits(dataset) / tables.SPLITS, f"split@{dataset}")
    frame = splits.join(pairs, on="pair_id", how="inner", maintain_order="left").with_columns(
        pl.col(
            "user_id", "prompt", "chosen", "rejected", "group", "users", "split", "items", "test", "filtered"
        ).cast(pl.String)
    )
    frame = _with_rows(frame, ids, dataset)
    users, groups = _users(frame)
    frame = frame.join(users.select("user_id", "user"), on="user_id", maintain_order="left")
    matrix = torch.from_numpy(vectors.astype("float32"))
    has_prompts = frame["prompt"].null_count() < len(frame)
    label = _tensor(frame["label"]) if (frame["label"] != 1).any() else None
    return Study(
        dataset=dataset,
        embeddings=Embeddings(matrix if has_prompts else torch.zeros(0, 0), matrix),
        embedder=embedder,
        item_ids=ids,
        user_ids={half: users.filter(users["users"] == half)["user_id"].to_list() for half in tables.USERS},
        groups=groups,
        comparisons=Comparisons.of(
            user=_tensor(frame["user"]),
            prompt=_tensor(frame["prompt_row"]) if has_prompts else None,
            chosen=_tensor(frame["chosen_row"]),
            rejected=_tensor(frame["rejected_row"]),
            label=label,
        ),
        places=frame.select("users", "split", "items", "test", "filtered"),
        prompt_ids=ids if has_prompts else [],
        response_ids=ids,
        embedders={"prompts": embedder if has_prompts else None, "responses": embedder},
    )


def texts(dataset: str) -> dict[str, str]:
    """Item ids to texts, for the items that have one."""
    items = tables.read_table(
        layout.recoloured(dataset) / tables.ITEMS, f"recolour@{dataset}", ["item_id", "text"]
    ).drop_nulls("text")
    return dict(zip(items["item_id"].to_list(), items["text"].to_list(), strict=True))


def items(dataset: str) -> "pl.DataFrame":
    """The items as tables, for display."""
    return tables.read_table(layout.recoloured(dataset) / tables.ITEMS, f"recolour@{dataset}")


def _with_rows(frame: "pl.DataFrame", ids: list[str], dataset: str) -> "pl.DataFrame":
    """Rows of the embeddings in place of item ids."""
    import polars as pl

    rows = pl.DataFrame(
        {"item_id": ids, "row": range(len(ids))}, schema={"item_id": pl.String, "row": pl.Int64}
    )
    for column in ("prompt", "chosen", "rejected"):
        renamed = rows.rename({"item_id": column, "row": f"{column}_row"})
        frame = frame.join(renamed, on=column, how="left", maintain_order="left")
        dangling = frame.filter(frame[column].is_not_null() & frame[f"{column}_row"].is_null())
        if len(dangling):
            raise PipelineError(
                f"{len(dangling):,} pairs of {dataset} name a {column} without embedding, the first "
                f"{dangling[column][0]!r}; run `dvc repro -f encode@{dataset}`"
            )
    return frame


def _users(frame: "pl.DataFrame") -> tuple["pl.DataFrame", dict[str, list[str]] | None]:
    """Users of both halves, numbered within their half by the order of their ids, and their groups."""
    import polars as pl

    users = (
        frame.group_by("users", "user_id")
        .agg(pl.col("group").first())
        .sort("users", "user_id")
        .with_columns(user=pl.int_range(pl.len()).over("users"))
    )
    if users["group"].null_count():
        return users, None
    halves: dict[str, Any] = {
        half: users.filter(users["users"] == half)["group"].to_list() for half in tables.USERS
    }
    return users, halves


def _tensor(column: "pl.Series") -> torch.Tensor:
    return torch.from_numpy(column.to_numpy(writable=True))
