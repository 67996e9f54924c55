"""A dataset as tensors: embeddings, and the comparisons of seen and unseen users in their splits.

What train and evaluate share. Questions are numbered once for all splits, so that a question asked in
training and one asked in a test are the same row.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pal.comparisons import Comparisons, Embeddings
from pipeline import layout, shards, sums, tables
from pipeline.errors import PipelineError
from pipeline.shards import Embedder

if TYPE_CHECKING:
    import polars as pl

SIDES = ("prompt", "chosen", "rejected")


@dataclass(frozen=True)
class Study:
    """One dataset, ready to fit and to evaluate.

    Args:
        dataset: Its name.
        embeddings: One row per item of the modality of the prompts, and of that of the responses.
        embedders: What made those of `prompts` (None where there are no prompts) and of `responses`.
        prompt_ids: The items, by row of the prompts' embeddings.
        response_ids: The items, by row of the responses' embeddings.
        user_ids: For `seen` and `unseen`, the users' ids; a comparison's user counts within its half.
        groups: For `seen` and `unseen`, each user's true group; None where groups are not known.
        comparisons: Every comparison that has a place.
        places: One row per comparison: users, split, items, test, filtered.
        dropped: Comparisons left out since an item of theirs could not be encoded.
    """

    dataset: str
    embeddings: Embeddings
    embedders: dict[str, Embedder | None]
    prompt_ids: list[str]
    response_ids: list[str]
    user_ids: dict[str, list[str]]
    groups: dict[str, list[str]] | None
    comparisons: Comparisons
    places: "pl.DataFrame"
    dropped: int = 0

    def select(self, users: str, split: str, items: str | None = None, **others: str | None) -> Comparisons:
        """The comparisons of one half of the users in one split, all or only on `known` or `new` items.

        Args:
            users: seen or unseen.
            split: train, adapt, val or test.
            items: known, new, or None for both.
            **others: What other columns of `places` must hold; None stands for null.
        """
        here = (self.places["users"] == users) & (self.places["split"] == split)
        for column, value in {**({"items": items} if items else {}), **others}.items():
            cells = self.places[column]
            here &= cells.is_null() if value is None else (cells == value).fill_null(value=False)
        return self.comparisons[torch.from_numpy(here.arg_true().to_numpy().astype("int64"))]

    def n_users(self, users: str) -> int:
        """Users of one half."""
        return len(self.user_ids[users])


def load(dataset: str) -> Study:
    """Read what recolour, split and encode wrote.

    Raises:
        PipelineError: If something is missing or damaged, or a pair names an item without embedding.
    """
    embedded = _Embedded(dataset)  # first: with nothing there yet, its stage brings about all others
    pairs = tables.read_arrow(layout.recoloured(dataset) / tables.PAIRS, f"recolour@{dataset}")
    splits = tables.read_arrow(layout.splits(dataset) / tables.SPLITS, f"split@{dataset}")
    at = _rows_of(pairs["pair_id"].to_numpy(), splits["pair_id"].to_numpy(), dataset)
    sides = {side: embedded.rows(side, pairs[side]) for side in SIDES}
    rows = {side: side_rows[at] for side, (_, side_rows) in sides.items()}
    prompts, responses = sides["prompt"][0], _common(sides["chosen"][0], sides["rejected"][0], dataset)
    bad = embedded.check_dropped(rows, has_prompts=prompts is not None)
    at, keep = at[~bad], ~bad
    rows = {side: side_rows[keep] for side, side_rows in rows.items()}
    users = _Users(pairs, splits, at, keep)
    return Study(
        dataset=dataset,
        embeddings=embedded.matrices(prompts, responses),
        embedders={"prompts": embedded.embedder(prompts), "responses": embedded.embedder(responses)},
        prompt_ids=embedded.names(prompts),
        response_ids=embedded.names(responses),
        user_ids=users.ids,
        groups=users.groups,
        comparisons=Comparisons.of(
            user=torch.from_numpy(users.row),
            prompt=None if prompts is None else torch.from_numpy(rows["prompt"]),
            chosen=torch.from_numpy(rows["chosen"]),
            rejected=torch.from_numpy(rows["rejected"]),
            label=_numbers(pairs["label"], at),
            weight=_numbers(pairs["weight"], at),
        ),
        places=_places(pairs, splits, at, keep),
        dropped=int(bad.sum()),
    )


def items(dataset: str) -> "pl.DataFrame":
    """The items table, by item_id: texts, and where images lie."""
    columns = ["item_id", "modality", "text", "file", "row_group", "row", "column", "filter"]
    path = layout.recoloured(dataset) / tables.ITEMS
    return tables.read_table(path, f"recolour@{dataset}", columns)


def texts(dataset: str) -> dict[str, str]:
    """Item ids to texts, for the items that have one."""
    found = items(dataset).select("item_id", "text").drop_nulls("text")
    return dict(zip(found["item_id"].to_list(), found["text"].to_list(), strict=True))


class _Embedded:
    """The embeddings of a dataset, a folder per modality, each read when it is first asked for."""

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self.folder = layout.embeddings(dataset)
        self.stage = f"encode@{dataset}"
        self._read: dict[str, tuple[np.ndarray, np.ndarray, Embedder]] = {}
        self._order: dict[str, np.ndarray] = {}
        self._tensors: dict[str, torch.Tensor] = {}
        if not any((self.folder / name).is_dir() for name in tables.MODALITIES):
            raise PipelineError(f"{self.folder} holds no embeddings; run `dvc repro {self.stage}`")
        self.dropped = _dropped(self.folder / "dropped.csv")

    def rows(self, side: str, column: Any) -> tuple[str | None, np.ndarray]:
        """The modality of one side's items, and each pair's row in its embeddings: -1 where it was dropped.

        Raises:
            PipelineError: If an item has no embedding and was not dropped, all were dropped, or modalities
                are mixed.
        """
        codes, values = tables.codes(column)
        if (codes < 0).all():
            return None, codes.astype(np.int64)
        if (codes < 0).any():
            raise PipelineError(
                f"every pair of {self.dataset} must have a {side} or none, got both; "
                f"run `dvc repro -f prepare@{self.dataset}`"
            )
        names = shards.packed(values)
        used = np.bincount(codes, minlength=len(names)) > 0  # a dictionary may hold more than its column
        found = np.full(len(names), -1, dtype=np.int64)
        modality = None
        for one in tables.MODALITIES:
            if not (self.folder / one).is_dir():
                continue
            here = self._find(one, names)
            if (here[used] >= 0).any():
                if modality is not None:
                    raise PipelineError(
                        f"the {side} items of {self.dataset} must all be of one modality, "
                        f"got both {modality} and {one}"
                    )
                modality, found = one, here
        lost = used & (found < 0) & ~np.isin(names, self.dropped)
        if lost.any():
            count = int(np.isin(codes, np.flatnonzero(lost)).sum())
            raise PipelineError(
                f"{count:,} pairs of {self.dataset} name a {side} without embedding, the first "
                f"{values[int(np.flatnonzero(lost)[0])]!r}; run `dvc repro -f {self.stage}`"
            )
        if modality is None:
            raise self._none_left()
        return modality, found[codes]

    def check_dropped(self, rows: dict[str, np.ndarray], *, has_prompts: bool) -> np.ndarray:
        """Which pairs name an item that could not be encoded.

        Raises:
            PipelineError: If no pair is left.
        """
        bad = (rows["chosen"] < 0) | (rows["rejected"] < 0)
        if has_prompts:
            bad |= rows["prompt"] < 0
        if len(bad) and bad.all():
            raise self._none_left()
        return bad

    def _none_left(self) -> PipelineError:
        return PipelineError(
            f"no pair of {self.dataset} has items that could all be encoded; "
            f"see {self.folder / 'dropped.csv'}"
        )

    def matrices(self, prompts: str | None, responses: str) -> Embeddings:
        """The embeddings of both sides; the same tensor where they are of one modality."""
        empty = torch.zeros(0, 0)
        return Embeddings(empty if prompts is None else self._tensor(prompts), self._tensor(responses))

    def embedder(self, modality: str | None) -> Embedder | None:
        """What made a modality's embeddings."""
        return None if modality is None else self._of(modality)[2]

    def names(self, modality: str | None) -> list[str]:
        """A modality's items, by row."""
        return [] if modality is None else shards.unpacked(self._of(modality)[0])

    def _of(self, modality: str) -> tuple[np.ndarray, np.ndarray, Embedder]:
        if modality not in self._read:
            self._read[modality] = shards.read_folder(self.folder / modality, self.stage)
        return self._read[modality]

    def _tensor(self, modality: str) -> torch.Tensor:
        if modality not in self._tensors:
            self._tensors[modality] = torch.from_numpy(self._of(modality)[1].astype("float32"))
        return self._tensors[modality]

    def _find(self, modality: str, names: np.ndarray) -> np.ndarray:
        there = self._of(modality)[0]
        if not len(there):
            return np.full(len(names), -1, dtype=np.int64)
        if modality not in self._order:
            self._order[modality] = np.argsort(there, kind="stable")
        order = self._order[modality]
        place = np.minimum(np.searchsorted(there, names, sorter=order), len(there) - 1)
        return np.where(there[order[place]] == names, order[place], -1)


class _Users:
    """Users of both halves, numbered within their half by the order of their ids, and their groups."""

    def __init__(self, pairs: Any, splits: Any, at: np.ndarray, keep: np.ndarray) -> None:
        half_codes, half_names = tables.codes(splits["users"])
        user_codes, users = tables.codes(pairs["user_id"])
        group_codes, group_names = tables.codes(pairs["group"])
        half = np.array([tables.USERS.index(name) for name in half_names], dtype=np.int64)[half_codes[keep]]
        order = np.argsort(np.array(users))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))  # a user's place in the order of ids
        key = half * len(users) + place[user_codes[at]]
        distinct, first, row = np.unique(key, return_index=True, return_inverse=True)
        start = int(np.searchsorted(distinct, len(users)))
        self.row = np.where(row < start, row, row - start)
        ids = [users[order[k % len(users)]] for k in distinct]
        self.ids = {"seen": ids[:start], "unseen": ids[start:]}
        groups = group_codes[at][first]
        self.groups = None
        if len(groups) and (groups >= 0).all():
            named = [group_names[code] for code in groups]
            self.groups = {"seen": named[:start], "unseen": named[start:]}


def _common(chosen: str | None, rejected: str | None, dataset: str) -> str:
    if chosen is None or chosen != rejected:
        raise PipelineError(
            f"chosen and rejected items of {dataset} must be of one modality, got {chosen} and {rejected}"
        )
    return chosen


def _rows_of(there: np.ndarray, wanted: np.ndarray, dataset: str) -> np.ndarray:
    """The row of each wanted pair id."""
    order = np.argsort(there, kind="stable")
    place = np.searchsorted(there, wanted, sorter=order)
    found = order[np.minimum(place, max(0, len(there) - 1))] if len(there) else place
    if len(wanted) and not (len(there) and np.array_equal(there[found], wanted)):
        raise PipelineError(
            f"the split of {dataset} names pairs that are not there; run `dvc repro -f split@{dataset}`"
        )
    return found


def _places(pairs: Any, splits: Any, at: np.ndarray, keep: np.ndarray) -> "pl.DataFrame":
    import polars as pl
    import pyarrow as pa

    kept, chosen = pa.array(np.flatnonzero(keep)), pa.array(at)
    columns = {name: splits[name].take(kept) for name in ("users", "split", "items")}
    columns |= {name: pairs[name].take(chosen) for name in ("test", "filtered")}
    return pl.DataFrame(pa.table(columns))


def _numbers(column: Any, at: np.ndarray) -> torch.Tensor | None:
    """A column of numbers; None where all are 1 or null."""
    values = column.fill_null(1.0).to_numpy()[at]
    return None if (values == 1).all() else torch.from_numpy(values)


def _dropped(path: Path) -> np.ndarray:
    """Ids of the items that encode dropped."""
    import csv

    if not path.exists():
        return shards.packed([])
    sums.check(path, f"encode@{path.parent.name}")
    with path.open(encoding="utf-8", newline="") as file:
        return shards.packed([row["item_id"] for row in csv.DictReader(file)])
