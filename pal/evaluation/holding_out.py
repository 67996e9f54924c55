"""Which comparisons are learned from and which are held out, of which people."""

import numpy as np
from jaxtyping import Int

PARTS = ("train", "val", "test", "adapt", "unseen test")
VAL, TEST = 0.1, 0.2  # shares of a seen person's prompts
LEAST = 2  # comparisons of a person who can be held out


def hold_out(
    user: Int[np.ndarray, " n"],
    unit: Int[np.ndarray, " n"],
    *,
    unseen: float,
    seed: int,
    time: Int[np.ndarray, " n"] | None = None,
) -> Int[np.ndarray, " n"]:
    """A place in PARTS for each comparison: whole people are unseen, and of each person whole units held out.

    Args:
        user: Each comparison's person.
        unit: What is held out as a whole, such as the prompt.
        unseen: Share of the people who are unseen; 0 leaves nobody out.
        seed: The same seed gives the same places.
        time: When each was answered, where the latest are held out.
    """
    rng = np.random.default_rng(seed)
    part = np.zeros(len(user), np.int64)
    people, counts = np.unique(user, return_counts=True)
    many = rng.permutation(people[counts >= LEAST])
    n_unseen = min(round(unseen * len(many)), max(0, len(many) - 1))
    hidden = set(many[: max(n_unseen, min(1, len(many) - 2)) if unseen else 0].tolist())
    for person in many.tolist():
        rows = np.flatnonzero(user == person)
        _, first, own = np.unique(unit[rows], return_index=True, return_inverse=True)
        order = rng.permutation(len(first)) if time is None else np.argsort(-time[rows][first], kind="stable")
        place = np.empty(len(first), np.int64)
        place[order] = np.arange(len(first))
        at = place[own] / len(first)
        if person in hidden:
            part[rows] = np.where((at < 0.5) & (len(first) > 1), 4, 3)
        else:
            n_test = max(1, round(TEST * len(first))) if len(first) > 1 else 0
            n_val = min(round(VAL * len(first)), len(first) - n_test - 1)
            part[rows] = np.where(place[own] < n_test, 2, np.where(place[own] < n_test + n_val, 1, 0))
    return part
