"""A dataset as tensors: embeddings, and the comparisons of seen and unseen users in their splits.

What train and evaluate share. Questions are numbered once for all splits, so that a question asked in
training and one asked in a test are the same row.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pal.comparisons import Comparisons, Embeddings
from pipeline import paths
from pipeline.errors import PipelineError
from pipeline.storage import embeddings, manifests, tables
from pipeline.storage.embeddings import Embedder
from pipeline.storage.tables import Coded

if TYPE_CHECKING:
    import polars as pl

SIDES = ("prompt", "chosen", "rejected")
PAIR_COLUMNS = ["pair_id", "user_id", *SIDES, "group", "test", "filtered", "label", "weight"]
SPLIT_COLUMNS = ["pair_id", "users", "split", "items"]


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
    pairs, splits = _read(dataset)
    sides = {side: embedded.rows(side, pairs[side], pairs.names[side]) for side in SIDES}
    rows = {side: side_rows for side, (_, side_rows) in sides.items()}
    prompts, responses = sides["prompt"][0], _common(sides["chosen"][0], sides["rejected"][0], dataset)
    bad = embedded.check_dropped(rows, has_prompts=prompts is not None)
    if bad.any():
        pairs, splits = pairs.rows(~bad), splits.rows(~bad)
        rows = {side: side_rows[~bad] for side, side_rows in rows.items()}
    users = _Users(pairs, splits)
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
            label=_numbers(pairs["label"]),
            weight=_numbers(pairs["weight"]),
        ),
        places=_places(pairs, splits),
        dropped=int(bad.sum()),
    )


def items(dataset: str) -> "pl.DataFrame":
    """The items table, by item_id: texts, and where images lie."""
    columns = ["item_id", "modality", "text", "file", "row_group", "row", "column", "filter"]
    path = paths.recoloured(dataset) / tables.ITEMS
    return tables.read_table(path, f"recolour@{dataset}", columns)


def texts(dataset: str) -> dict[str, str]:
    """Item ids to texts, for the items that have one."""
    found = items(dataset).select("item_id", "text").drop_nulls("text")
    return dict(zip(found["item_id"].to_list(), found["text"].to_list(), strict=True))


class _Embedded:
    """The embeddings of a dataset, a folder per modality, each read when it is first asked for."""

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self.folder = paths.embeddings(dataset)
        self.stage = f"encode@{dataset}"
        self._read: dict[str, tuple[np.ndarray, np.ndarray, Embedder]] = {}
        self._order: dict[str, np.ndarray] = {}
        self._tensors: dict[str, torch.Tensor] = {}
        if not any((self.folder / name).is_dir() for name in tables.MODALITIES):
            raise PipelineError(f"{self.folder} holds no embeddings; run `dvc repro {self.stage}`")
        self.dropped = _dropped(self.folder / "dropped.csv")

    def rows(self, side: str, codes: np.ndarray, values: list[str]) -> tuple[str | None, np.ndarray]:
        """The modality of one side's items, and each pair's row in its embeddings: -1 where it was dropped.

        Raises:
            PipelineError: If an item has no embedding and was not dropped, all were dropped, or modalities
                are mixed.
        """
        if (codes < 0).all():
            return None, codes
        if (codes < 0).any():
            raise PipelineError(
                f"every pair of {self.dataset} must have a {side} or none, got both; "
                f"run `dvc repro -f prepare@{self.dataset}`"
            )
        names = embeddings.packed(values)
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
        return modality, found.astype(np.int32)[codes]

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
        return [] if modality is None else embeddings.unpacked(self._of(modality)[0])

    def _of(self, modality: str) -> tuple[np.ndarray, np.ndarray, Embedder]:
        if modality not in self._read:
            self._read[modality] = embeddings.read_shards(self.folder / modality, self.stage)
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

    def __init__(self, pairs: Coded, splits: Coded) -> None:
        ids = pairs.names["user_id"]
        order = sorted(range(len(ids)), key=ids.__getitem__)
        place = np.empty(len(ids), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)  # a user's place in the order of ids
        half = np.array([tables.USERS.index(name) for name in splits.names["users"]], np.int32)
        key = half[splits["users"]] * np.int32(len(ids)) + place[pairs["user_id"]]
        first = np.full(2 * len(ids), -1)
        first[key[::-1]] = np.arange(len(key) - 1, -1, -1)  # of several rows the last one stays
        here = np.flatnonzero(first >= 0)
        start = int(np.searchsorted(here, len(ids)))
        number = np.empty(2 * len(ids), np.int32)
        number[here] = np.arange(len(here))
        number[len(ids) :] -= start
        self.row = number[key]
        named = [ids[order[k % len(ids)]] for k in here]
        self.ids = {"seen": named[:start], "unseen": named[start:]}
        groups = pairs["group"][first[here]]
        self.groups = None
        if len(groups) and (groups >= 0).all():
            told = [pairs.names["group"][code] for code in groups]
            self.groups = {"seen": told[:start], "unseen": told[start:]}


def _common(chosen: str | None, rejected: str | None, dataset: str) -> str:
    if chosen is None or chosen != rejected:
        raise PipelineError(
            f"chosen and rejected items of {dataset} must be of one modality, got {chosen} and {rejected}"
        )
    return chosen


def _read(dataset: str) -> tuple[Coded, Coded]:
    """Pairs that have a place, and their places, row for row."""
    path, made_by = paths.recoloured(dataset) / tables.PAIRS, f"recolour@{dataset}"
    pairs = tables.read_coded(path, made_by, PAIR_COLUMNS)
    path, made_by = paths.splits(dataset) / tables.SPLITS, f"split@{dataset}"
    splits = tables.read_coded(path, made_by, SPLIT_COLUMNS)
    at = tables.rows_of(pairs["pair_id"], splits["pair_id"])
    if at is None:
        raise PipelineError(
            f"the split of {dataset} names pairs that are not there; run `dvc repro -f split@{dataset}`"
        )
    return pairs.without("pair_id").rows(at), splits.without("pair_id")


def _places(pairs: Coded, splits: Coded) -> "pl.DataFrame":
    import polars as pl

    known = {"users": tables.USERS, "split": tables.SPLIT_NAMES, "items": ("known", "new")}
    columns = {name: tables.words(splits[name], splits.names[name], words) for name, words in known.items()}
    columns |= {name: tables.words(pairs[name], pairs.names[name]) for name in ("test", "filtered")}
    return pl.DataFrame(columns)


def _numbers(values: np.ndarray | None) -> torch.Tensor | None:
    """A column of numbers; None where all are 1 or null."""
    return None if values is None or (values == 1).all() else torch.from_numpy(values)


def _dropped(path: Path) -> np.ndarray:
    """Ids of the items that encode dropped."""
    import csv

    if not path.exists():
        return embeddings.packed([])
    manifests.check(path, f"encode@{path.parent.name}")
    with path.open(encoding="utf-8", newline="") as file:
        return embeddings.packed([row["item_id"] for row in csv.DictReader(file)])
