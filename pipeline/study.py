"""A dataset as tensors: embeddings, and the comparisons of seen and unseen users in their splits.

What train and evaluate share. Questions are numbered once for all splits, so that a question asked in
training and one asked in a test are the same row.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.encoders.vector_store import Embedder, first_places, packed, unpacked
from pal.fitting.attributes import Attributes
from pipeline import PipelineError, paths
from pipeline.storage import tables
from pipeline.storage.tables import Coded, read_json

SIDES = ("prompt", "chosen", "rejected")
PAIR_COLUMNS = ["pair_id", "user_id", *SIDES, "group", "test", "filtered", "label", "weight"]
SPLIT_COLUMNS = ["pair_id", "users", "split", "items"]
QUESTIONS_AT_ONCE = 1 << 16  # whose responses are compared at a time, to bound memory
NONE_LEFT = "no pair of {} has items that could all be encoded; see {}/dropped.csv"


@dataclass(frozen=True)
class Study:
    """One dataset, ready to fit and to evaluate."""

    dataset: str
    embeddings: Embeddings  # one row per item of the modality of the prompts, and of that of the responses
    embedders: dict[str, Embedder | None]  # of `prompts` (None where there are none) and of `responses`
    prompt_ids: list[str]  # the items, by row of the prompts' embeddings
    response_ids: list[str]
    user_ids: dict[str, list[str]]  # of `seen` and `unseen`; a comparison's user counts within its half
    groups: dict[str, list[str]] | None  # each user's true group; None where groups are not known
    comparisons: Comparisons  # every one that has a place
    places: pl.DataFrame  # one row per comparison: users, split, items, test, filtered
    dropped: int = 0  # comparisons left out since an item of theirs could not be encoded

    def select(self, users: str, split: str, items: str | None = None, **others: str | None) -> Comparisons:
        """The comparisons of one half in one split, all or only on `known` or `new` items.

        `others` say what other columns of `places` must hold; None stands for null.
        """
        selected = (self.places["users"] == users) & (self.places["split"] == split)
        for column, value in {**({"items": items} if items else {}), **others}.items():
            cells = self.places[column]
            selected &= cells.is_null() if value is None else (cells == value).fill_null(value=False)
        return self.comparisons[torch.from_numpy(selected.arg_true().to_numpy().astype("int64"))]

    def n_users(self, users: str) -> int:
        """Users of one half."""
        return len(self.user_ids[users])

    def group_weights(self, users: str) -> Tensor | None:
        """The oracle's weights, a prototype for each group of seen users; None if a user is in none."""
        if self.groups is None:
            return None
        names = sorted(set(self.groups["seen"]))
        if not set(self.groups[users]) <= set(names):
            return None
        rows = [names.index(group) for group in self.groups[users]]
        return torch.eye(len(names))[torch.tensor(rows, dtype=torch.long)]


def alike_responses(data: Study) -> str:
    """A sentence on comparisons whose two responses have one vector, as of unknown emoji; else empty."""
    questions, table = data.comparisons.questions, data.embeddings.responses
    blocks = torch.arange(len(questions)).split(QUESTIONS_AT_ONCE)
    alike = [(table[questions.first[block]] == table[questions.second[block]]).all(1) for block in blocks]
    count, encoder = int(torch.cat(alike)[data.comparisons.question].sum()), data.embedders["responses"]
    said = (
        f"{count:,} of {len(data.comparisons):,} comparisons are of two responses with the same vector: the "
        f"encoder ({encoder.encoder if encoder else 'none'}) cannot tell them apart, so no model can either."
    )
    return said if count else ""


def load(dataset: str) -> Study:
    """Read what prepare, split and encode wrote."""
    folder, made_by = paths.embeddings(dataset), f"encode@{dataset}"
    modalities = [name for name in tables.MODALITIES if (folder / name).is_dir()]
    if not modalities:  # asked first: with nothing there yet, this stage brings about all others
        raise PipelineError(f"{folder} holds no embeddings; run `dvc repro {made_by}`")
    pairs = tables.read_coded(paths.prepared(dataset) / tables.PAIRS, f"prepare@{dataset}", PAIR_COLUMNS)
    splits = tables.read_coded(paths.splits(dataset) / tables.SPLITS, f"split@{dataset}", SPLIT_COLUMNS)
    placed = tables.rows_of(pairs["pair_id"], splits["pair_id"])
    if placed is None:
        raise PipelineError(
            f"the split of {dataset} names pairs that are not there; run `dvc repro -f split@{dataset}`"
        )
    del pairs.columns["pair_id"], splits.columns["pair_id"]
    pairs = pairs.rows(placed)
    shards = {name: tables.read_shards(folder / name, made_by) for name in modalities}
    dropped: list[str] = []
    if (path := folder / "dropped.csv").exists():
        tables.check(path, made_by)
        ids = pl.read_csv(path, columns=["item_id"], schema_overrides={"item_id": pl.String})["item_id"]
        dropped = ids.to_list()
    sides = {side: _rows_of(dataset, side, pairs, shards, dropped) for side in SIDES}
    rows = {side: side_rows for side, (_, side_rows) in sides.items()}
    prompts, responses = sides["prompt"][0], sides["chosen"][0]
    # Pairs that name an item that could not be encoded; without prompts those rows are all -1.
    bad = (rows["chosen"] < 0) | (rows["rejected"] < 0) | ((rows["prompt"] < 0) & (prompts is not None))
    if len(bad) and bad.all():
        raise PipelineError(NONE_LEFT.format(dataset, folder))
    if bad.any():
        pairs, splits = pairs.rows(~bad), splits.rows(~bad)
        rows = {side: side_rows[~bad] for side, side_rows in rows.items()}
    user, user_ids, groups = _users(pairs, splits)
    asked = {side: torch.from_numpy(rows[side]) for side in ("chosen", "rejected")}
    asked["prompt"] = torch.from_numpy(rows["prompt"]) if prompts else None
    # Prompts and responses of one modality share one tensor.
    named = {prompts, responses} - {None}
    tensors = {name: torch.from_numpy(shards[name][1].astype("float32")) for name in named}
    # Columns of ones may be arrays without memory of their own, which torch does not take.
    several = {name: pairs[name] for name in ("label", "weight") if (pairs[name] != 1).any()}
    numbers = {name: torch.from_numpy(values) for name, values in several.items()}
    # The words that may be asked for though no pair has them.
    known = {"users": tables.USERS, "split": tables.SPLIT_NAMES, "items": ("known", "new")}
    places = {name: tables.words(splits[name], splits.names[name], words) for name, words in known.items()}
    places |= {name: tables.words(pairs[name], pairs.names[name]) for name in ("test", "filtered")}
    return Study(
        dataset=dataset, user_ids=user_ids, groups=groups, places=pl.DataFrame(places),
        dropped=int(bad.sum()), response_ids=unpacked(shards[responses][0]),
        prompt_ids=unpacked(shards[prompts][0]) if prompts else [],
        embeddings=Embeddings(tensors[prompts] if prompts else torch.zeros(0, 0), tensors[responses]),
        embedders={"prompts": shards[prompts][2] if prompts else None, "responses": shards[responses][2]},
        comparisons=Comparisons.from_pairs(user=torch.from_numpy(user), **asked, **numbers),
    )  # fmt: skip


def items(dataset: str) -> pl.DataFrame:
    """The items table, by item_id: texts, and where images lie."""
    columns = ["item_id", "modality", "text", "file", "row_group", "row", "column", "filter"]
    path = paths.prepared(dataset) / tables.ITEMS
    return tables.read_table(path, f"prepare@{dataset}", columns)


def texts(items: pl.DataFrame) -> dict[str, str]:
    """Item ids to texts, for the items that have one."""
    return dict(items.drop_nulls("text").select("item_id", "text").iter_rows())


def attributes_of(data: Study, users: str) -> list[Attributes]:
    """What the data tell of each user of one half, by attribute (`own.prepare.attributes`)."""
    path = paths.prepared(data.dataset) / paths.ATTRIBUTES
    told = read_json(path, f"prepare@{data.dataset}", absent={})
    return [told.get(user, {}) for user in data.user_ids[users]]


def places_in_user(user: Tensor, n_users: int, generator: torch.Generator | None = None) -> Tensor:
    """Each comparison's place, from 0, among its user's, in random order; without a generator as is."""
    n = len(user)
    shuffled = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
    order = shuffled[torch.argsort(user[shuffled], stable=True)]
    counts = torch.bincount(user, minlength=n_users)
    place = torch.empty_like(user)
    place[order] = torch.arange(n) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return place


def _rows_of(
    dataset: str, side: str, pairs: Coded, shards: dict[str, tables.Shard], dropped: list[str]
) -> tuple[str | None, np.ndarray]:
    """The modality of one side's items, and each pair's row in its embeddings: -1 where it was dropped."""
    codes, values = pairs[side], pairs.names[side]
    if (codes < 0).all():
        return None, codes
    names = packed(values)
    used = np.bincount(codes, minlength=len(names)) > 0  # a dictionary may hold more than its column
    by_modality = {
        modality: first_places(known, names) for modality, (known, _, _) in shards.items() if len(known)
    }
    matching = [name for name, rows in by_modality.items() if (rows[used] >= 0).any()]
    rows = by_modality[matching[0]] if matching else np.full(len(names), -1)
    lost = used & (rows < 0) & ~np.isin(names, packed(dropped))
    if lost.any():
        count = int(np.isin(codes, np.flatnonzero(lost)).sum())
        raise PipelineError(
            f"{count:,} pairs of {dataset} name a {side} without embedding, the first "
            f"{values[int(np.flatnonzero(lost)[0])]!r}; run `dvc repro -f encode@{dataset}`"
        )
    if not matching:
        raise PipelineError(NONE_LEFT.format(dataset, paths.embeddings(dataset)))
    return matching[0], rows.astype(np.int32)[codes]


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
