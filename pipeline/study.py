"""A dataset as tensors: embeddings, and the comparisons of seen and unseen users in their splits.

What train and evaluate share. Questions are numbered once for all splits, so that a question asked in
training and one asked in a test are the same row.
"""

import csv
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
from pipeline.storage.manifests import read_json
from pipeline.storage.tables import Coded

if TYPE_CHECKING:
    import polars as pl

    from pipeline.params import Params

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
        selected = (self.places["users"] == users) & (self.places["split"] == split)
        for column, value in {**({"items": items} if items else {}), **others}.items():
            cells = self.places[column]
            selected &= cells.is_null() if value is None else (cells == value).fill_null(value=False)
        return self.comparisons[torch.from_numpy(selected.arg_true().to_numpy().astype("int64"))]

    def n_users(self, users: str) -> int:
        """Users of one half."""
        return len(self.user_ids[users])

    def group_weights(self, users: str) -> torch.Tensor | None:
        """The oracle's weights: a prototype for each true group of seen users, and each user at the own one.

        Returns:
            (users, groups); None where groups are not known, or a user's group has no seen users.
        """
        if self.groups is None:
            return None
        names = sorted(set(self.groups["seen"]))
        if not set(self.groups[users]) <= set(names):
            return None
        rows = [names.index(group) for group in self.groups[users]]
        return torch.eye(len(names))[torch.tensor(rows, dtype=torch.long)]


def load(dataset: str) -> Study:
    """Read what recolour, split and encode wrote.

    Raises:
        PipelineError: If something is missing or damaged, or a pair names an item without embedding.
    """
    embedded = _Embedded(dataset)  # first: with nothing there yet, its stage brings about all others
    pairs, splits = _read(dataset)
    sides = {side: embedded.rows(side, pairs[side], pairs.names[side]) for side in SIDES}
    rows = {side: side_rows for side, (_, side_rows) in sides.items()}
    prompts, responses = sides["prompt"][0], sides["chosen"][0]
    if responses is None or responses != sides["rejected"][0]:
        raise PipelineError(
            f"chosen and rejected items of {dataset} must be of one modality, "
            f"got {responses} and {sides['rejected'][0]}"
        )
    # Pairs that name an item that could not be encoded; without prompts those rows are all -1.
    bad = (rows["chosen"] < 0) | (rows["rejected"] < 0) | ((rows["prompt"] < 0) & (prompts is not None))
    if len(bad) and bad.all():
        raise embedded.none_left()
    if bad.any():
        pairs, splits = pairs.rows(~bad), splits.rows(~bad)
        rows = {side: side_rows[~bad] for side, side_rows in rows.items()}
    user, user_ids, groups = _users(pairs, splits)
    return Study(
        dataset=dataset,
        embeddings=Embeddings(embedded.tensor(prompts), embedded.tensor(responses)),
        embedders={"prompts": embedded.embedder(prompts), "responses": embedded.embedder(responses)},
        prompt_ids=embedded.names(prompts),
        response_ids=embedded.names(responses),
        user_ids=user_ids,
        groups=groups,
        comparisons=Comparisons.from_pairs(
            user=torch.from_numpy(user),
            prompt=None if prompts is None else torch.from_numpy(rows["prompt"]),
            chosen=torch.from_numpy(rows["chosen"]),
            rejected=torch.from_numpy(rows["rejected"]),
            label=_unless_all_one(pairs["label"]),
            weight=_unless_all_one(pairs["weight"]),
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
    frame = items(dataset).drop_nulls("text")
    return dict(zip(frame["item_id"].to_list(), frame["text"].to_list(), strict=True))


def n_prototypes(dataset: str, params: "Params") -> int:
    """The number of prototypes to fit: model.K, or what choose-k settled on where that is auto."""
    if params.model.K != "auto":
        return params.model.K
    return int(read_json(paths.chosen(dataset), f"choose-k@{dataset}")["K"])


def pick_device(wanted: str, key: str) -> str:
    """Where to compute, cpu or cuda: what is wanted, and for auto the GPU where there is one.

    Args:
        wanted: auto, cpu or cuda.
        key: The parameter that says so, for the message.

    Raises:
        PipelineError: If cuda is wanted and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise PipelineError(f"{key} is cuda, but torch sees no GPU here; set it to auto or cpu")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


class _Embedded:
    """The embeddings of a dataset, a folder per modality, each read when it is first needed."""

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self.folder = paths.embeddings(dataset)
        self.stage = f"encode@{dataset}"
        self.modalities = [name for name in tables.MODALITIES if (self.folder / name).is_dir()]
        self._folders: dict[str, tuple[np.ndarray, np.ndarray, Embedder]] = {}
        self._tensors: dict[str, torch.Tensor] = {}
        if not self.modalities:
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
        by_modality = {name: _positions(names, self._folder(name)[0]) for name in self.modalities}
        matching = [name for name, rows in by_modality.items() if (rows[used] >= 0).any()]
        if len(matching) > 1:
            raise PipelineError(
                f"the {side} items of {self.dataset} must all be of one modality, "
                f"got both {matching[0]} and {matching[1]}"
            )
        rows = by_modality[matching[0]] if matching else np.full(len(names), -1)
        lost = used & (rows < 0) & ~np.isin(names, self.dropped)
        if lost.any():
            count = int(np.isin(codes, np.flatnonzero(lost)).sum())
            raise PipelineError(
                f"{count:,} pairs of {self.dataset} name a {side} without embedding, the first "
                f"{values[int(np.flatnonzero(lost)[0])]!r}; run `dvc repro -f {self.stage}`"
            )
        if not matching:
            raise self.none_left()
        return matching[0], rows.astype(np.int32)[codes]

    def none_left(self) -> PipelineError:
        """The error where every pair names an item that could not be encoded."""
        return PipelineError(
            f"no pair of {self.dataset} has items that could all be encoded; "
            f"see {self.folder / 'dropped.csv'}"
        )

    def tensor(self, modality: str | None) -> torch.Tensor:
        """A modality's vectors, the same tensor at each call; none of width 0 where there is no modality."""
        if modality is None:
            return torch.zeros(0, 0)
        if modality not in self._tensors:
            self._tensors[modality] = torch.from_numpy(self._folder(modality)[1].astype("float32"))
        return self._tensors[modality]

    def embedder(self, modality: str | None) -> Embedder | None:
        """What made a modality's embeddings."""
        return None if modality is None else self._folder(modality)[2]

    def names(self, modality: str | None) -> list[str]:
        """A modality's items, by row."""
        return [] if modality is None else embeddings.unpacked(self._folder(modality)[0])

    def _folder(self, modality: str) -> tuple[np.ndarray, np.ndarray, Embedder]:
        if modality not in self._folders:
            self._folders[modality] = embeddings.read_shards(self.folder / modality, self.stage)
        return self._folders[modality]


def _positions(names: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where each name stands among those known; -1 where it does not."""
    if not len(known):
        return np.full(len(names), -1, dtype=np.int64)
    order = np.argsort(known, kind="stable")
    place = np.minimum(np.searchsorted(known, names, sorter=order), len(known) - 1)
    return np.where(known[order[place]] == names, order[place], -1)


def _users(
    pairs: Coded, splits: Coded
) -> tuple[np.ndarray, dict[str, list[str]], dict[str, list[str]] | None]:
    """Each pair's user, numbered within its half by the order of ids; by half the ids, and the groups."""
    ids, user = pairs.names["user_id"], pairs["user_id"]
    half = np.array([tables.USERS.index(name) for name in splits.names["users"]])[splits["users"]]
    numbered = np.empty(len(user), np.int32)
    user_ids, groups = {}, {}
    for index, name in enumerate(tables.USERS):
        rows = np.flatnonzero(half == index)
        a_row_of = np.full(len(ids), -1)  # not np.unique: there may be sixty million pairs
        a_row_of[user[rows]] = rows
        members = sorted(np.flatnonzero(a_row_of >= 0).tolist(), key=ids.__getitem__)
        number = np.empty(len(ids), np.int32)
        number[members] = np.arange(len(members))
        numbered[rows] = number[user[rows]]
        user_ids[name] = [ids[code] for code in members]
        groups[name] = pairs["group"][a_row_of[members]].tolist()
    codes = [code for each in groups.values() for code in each]
    if not codes or min(codes) < 0:
        return numbered, user_ids, None
    names = pairs.names["group"]
    return numbered, user_ids, {half: [names[code] for code in each] for half, each in groups.items()}


def _read(dataset: str) -> tuple[Coded, Coded]:
    """Pairs that have a place, and their places, row for row."""
    path, made_by = paths.recoloured(dataset) / tables.PAIRS, f"recolour@{dataset}"
    pairs = tables.read_coded(path, made_by, PAIR_COLUMNS)
    path, made_by = paths.splits(dataset) / tables.SPLITS, f"split@{dataset}"
    splits = tables.read_coded(path, made_by, SPLIT_COLUMNS)
    rows = tables.rows_of(pairs["pair_id"], splits["pair_id"])
    if rows is None:
        raise PipelineError(
            f"the split of {dataset} names pairs that are not there; run `dvc repro -f split@{dataset}`"
        )
    return pairs.without("pair_id").rows(rows), splits.without("pair_id")


def _places(pairs: Coded, splits: Coded) -> "pl.DataFrame":
    import polars as pl

    known = {"users": tables.USERS, "split": tables.SPLIT_NAMES, "items": ("known", "new")}
    columns = {name: tables.words(splits[name], splits.names[name], words) for name, words in known.items()}
    columns |= {name: tables.words(pairs[name], pairs.names[name]) for name in ("test", "filtered")}
    return pl.DataFrame(columns)


def _unless_all_one(values: np.ndarray | None) -> torch.Tensor | None:
    """A column of numbers; None where all are 1 or null."""
    return None if values is None or (values == 1).all() else torch.from_numpy(values)


def _dropped(path: Path) -> np.ndarray:
    """Ids of the items that encode dropped."""
    if not path.exists():
        return embeddings.packed([])
    manifests.check(path, f"encode@{path.parent.name}")
    with path.open(encoding="utf-8", newline="") as file:
        return embeddings.packed([row["item_id"] for row in csv.DictReader(file)])
