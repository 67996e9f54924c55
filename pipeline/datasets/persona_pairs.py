"""Persona's pairs: who is asked what, and what each answers; drawn for all, written some users at a time.

The paper's sixty million pairs never lie in memory as rows: what is kept of them is a number per question.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.storage import tables

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from pipeline.datasets.persona import Prepare


def write(
    rng: "np.random.Generator",
    knobs: "Prepare",
    answers: "Answers",
    known: "np.ndarray",
    new: "np.ndarray",
    out: Path,
) -> int:
    """Draw for everyone, and write the pairs table.

    Args:
        rng: Draws.
        knobs: How many users, and how many pairs of each.
        answers: What users of each persona answer.
        known: Rows of the statements that training may use.
        new: Rows of those kept out of it.
        out: The folder to write into.

    Returns:
        How many pairs there are.
    """
    asked = {}
    for users, per_group, n_first, _ in _halves(knobs):
        n_users = len(knobs.personas) * per_group
        n_known = n_first + knobs.val_pairs + knobs.test_pairs
        asked[users] = [draw(rng, known, n_users, n_known), draw(rng, new, n_users, knobs.new_test_pairs)]
    tables.write_blocks(out / tables.PAIRS, _blocks(knobs, answers, asked), tables.pairs_schema())
    return sum(drawn.size for half in asked.values() for drawn in half)


def draw(rng: "np.random.Generator", pool: "np.ndarray", n_users: int, count: int) -> "np.ndarray":
    """(n_users, count) members of the pool, for each user without replacement."""
    import numpy as np

    drawn = np.empty((n_users, count), np.int32)
    for row in drawn:
        row[:] = rng.choice(pool, count, replace=False, shuffle=True)
    return drawn


def _halves(knobs: "Prepare") -> list[tuple[str, int, int, str]]:
    """For seen and unseen: users per group, and how many pairs come first, with their split's name."""
    return [
        ("seen", knobs.users_per_group, knobs.train_pairs, "train"),
        ("unseen", knobs.unseen_users_per_group, knobs.adapt_pairs, "adapt"),
    ]


def _blocks(
    knobs: "Prepare", answers: "Answers", asked: dict[str, list["np.ndarray"]]
) -> Iterator["pa.Table"]:
    """The pairs of whole users, about `tables.BLOCK_ROWS` at a time."""
    import numpy as np

    start = 0
    for users, per_group, n_first, first in _halves(knobs):
        splits = [first] * n_first + ["val"] * knobs.val_pairs
        splits += ["test"] * (knobs.test_pairs + knobs.new_test_pairs)
        n_users = len(knobs.personas) * per_group
        at_once = max(1, tables.BLOCK_ROWS // max(1, len(splits)))
        for low in range(0, n_users, at_once):
            rows = np.arange(low, min(low + at_once, n_users))
            drawn = np.concatenate([part[rows] for part in asked[users]], 1)
            yield answers.table(users, rows, per_group, drawn, splits, start)
            start += drawn.size


class Answers:
    """What people of each persona answer, as rows of the pairs table.

    Args:
        personas: The personas, one group of users each.
        about: Each statement's persona.
        agrees: Whether that persona agrees with the statement.
        prompts: Each statement's prompt.
    """

    def __init__(self, personas: list[str], about: list[str], agrees: list[bool], prompts: list[str]) -> None:
        import numpy as np

        self.personas = personas
        self.about = np.array([personas.index(name) for name in about])
        self.agrees = np.array(agrees)
        ids, self.prompt = np.unique([tables.text_id(prompt) for prompt in prompts], return_inverse=True)
        self.prompt_ids = ids.tolist()
        self.answers = [tables.text_id("Yes"), tables.text_id("No")]

    def table(
        self,
        users: str,
        rows: "np.ndarray",
        per_group: int,
        asked: "np.ndarray",
        splits: list[str],
        start: int,
    ) -> "pa.Table":
        """Pairs of some users.

        Args:
            users: seen or unseen.
            rows: The users' numbers within their half.
            per_group: Users of each persona.
            asked: (users, pairs) rows of the statements that each is asked.
            splits: The split of each of a user's pairs.
            start: The first pair's id.
        """
        import numpy as np
        import pyarrow as pa

        group, width = rows // per_group, asked.shape[1]
        says_no = ~(self.agrees[asked] & (self.about[asked] == group[:, None])).ravel()
        ids = [f"{users}-{self.personas[row // per_group]}-{row % per_group:05d}" for row in rows.tolist()]
        kinds = sorted(set(splits))
        return pa.table(
            {
                "pair_id": np.arange(start, start + asked.size),
                "user_id": _named(np.repeat(np.arange(len(rows)), width), ids),
                "prompt": _named(self.prompt[asked.ravel()], self.prompt_ids),
                "chosen": _named(says_no, self.answers),
                "rejected": _named(~says_no, self.answers),
                "label": np.ones(asked.size, np.float32),
                "group": _named(np.repeat(group, width), self.personas),
                "users": _named(np.zeros(asked.size), [users]),
                "split": _named(np.tile([kinds.index(one) for one in splits], len(rows)), kinds),
            }
        )


def _named(codes: "np.ndarray", names: list[str]) -> "pa.DictionaryArray":
    import numpy as np
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names, pa.string()))
