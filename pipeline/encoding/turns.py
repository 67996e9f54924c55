"""Turns: which groups of items a process encodes, and when, while others may be at the same store.

A group is what one file of the store holds and what a kill can lose. Groups are a fixed function of the full
list of items; what lies in the store already is not encoded again, whoever put it there and when.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.encoding.claims import Claims
from pipeline.encoding.ranks import Share

if TYPE_CHECKING:
    import numpy as np
    from tqdm import tqdm

    from pipeline.storage.embedding_store import EmbeddingStore, Places

LEAST_ROWS = 512
MOST_ROWS = 16_384
GROUPS = 1_000  # in a large job: a kill then loses a thousandth of it, and the store has few files


@dataclass(frozen=True)
class Plan:
    """Every item of a list in its group.

    Args:
        order: Row numbers of items, in the order in which they are encoded.
        edges: Where in that order each group begins, and where the last ends.
    """

    order: "np.ndarray"
    edges: "np.ndarray"

    def __len__(self) -> int:
        return len(self.edges) - 1

    def rows(self, group: int) -> "np.ndarray":
        """The rows of a group's items."""
        return self.order[self.edges[group] : self.edges[group + 1]]

    def open(self, wanted: "np.ndarray") -> "np.ndarray":
        """Which groups hold a wanted row."""
        import numpy as np

        totals = np.concatenate([[0], np.cumsum(wanted[self.order], dtype=np.int64)])
        return np.diff(totals[self.edges]) > 0


def group_rows(count: int, least: int = LEAST_ROWS) -> int:
    """Items in a group, of a list of so many: a thousandth of it, within bounds."""
    return max(least, min(count // GROUPS, MOST_ROWS))


class Turns:
    """The groups that are this process's to encode.

    Args:
        store: Where vectors go.
        ids: All items' ids, in ascending order.
        missing: Which of them were not in the store when it was looked at last.
        plan: Their groups.
        mine: The groups of this process's share.
        bar: Told of every item that is done.
    """

    def __init__(
        self,
        store: "EmbeddingStore",
        ids: "np.ndarray",
        missing: "np.ndarray",
        plan: Plan,
        mine: range,
        bar: "tqdm",
    ) -> None:
        there = plan.open(missing)
        self.groups = [group for group in mine if there[group]]
        self.late: list[int] = []
        self._store, self._ids, self._plan, self._bar = store, ids, plan, bar
        self._missing = missing.copy()
        self._claims = Claims(store.folder / ".claims")

    def __iter__(self) -> Iterator[int]:
        """Groups to be encoded now, one after the other; whoever takes one calls `keep` or `leave` for it."""
        for group in self.groups:
            if self.take(group):
                yield group
        for group in self.late:
            if self.open(group):
                yield group

    def take(self, group: int) -> bool:
        """Whether to encode a group now: something of it is missing, and nobody else is at it.

        What somebody else is at comes again in `late`. Then it is in the store, or it is encoded without
        asking: whoever had it is dead or slow, and nobody waits.
        """
        if not self._claims.take(self._name(group)):
            self.late.append(group)
            return False
        if self.open(group):
            return True
        self.leave(group)
        return False

    def open(self, group: int) -> bool:
        """Whether something of a group is missing now."""
        import numpy as np

        for found in self._store.news():
            at = np.minimum(np.searchsorted(self._ids, found), len(self._ids) - 1)
            self._missing[at[self._ids[at] == found]] = False
        return bool(self._missing[self._plan.rows(group)].any())

    def keep(self, group: int, rows: "np.ndarray", vectors: "np.ndarray") -> None:
        """Put what was missing of a group into the store.

        Args:
            group: Which.
            rows: Those of its rows that could be encoded.
            vectors: Theirs.
        """
        wanted = self._missing[rows]
        if wanted.any():
            self._store.add(self._ids[rows[wanted]], vectors if wanted.all() else vectors[wanted])
            self._missing[rows] = False
            self._bar.update(int(wanted.sum()))
        self.leave(group)

    def leave(self, group: int) -> None:
        """Claim a group no longer."""
        self._claims.give_back(self._name(group))

    def close(self) -> None:
        """Claim nothing any longer."""
        self._claims.close()

    def _name(self, group: int) -> int:
        ids = self._ids[self._plan.rows(group)]
        return int.from_bytes(hashlib.sha256(ids.tobytes()).digest()[:8], "little")


@dataclass(frozen=True)
class Job:
    """What is to be encoded, and into what: of one modality of one dataset.

    Args:
        store: Where vectors go.
        ids: The items' ids, in ascending order.
        places: Where they lie in the store, those that do.
        share: This process's part.
        dataset: Its name.
    """

    store: "EmbeddingStore"
    ids: "np.ndarray"
    places: "Places"
    share: Share
    dataset: str

    @property
    def missing(self) -> "np.ndarray":
        """Which items were not in the store."""
        return self.places.missing
