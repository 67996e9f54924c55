"""What a test shares with training, counted on codes, and training's share a block at a time.

Training may have sixty million pairs; the test's questions and answers are numbered, and looked up there.
"""

from typing import TYPE_CHECKING

from pipeline.storage import tables
from pipeline.storage.tables import Coded

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


def leakage(pairs: Coded, splits: "pl.DataFrame") -> dict[str, int]:
    """What test shares with train: the same answer of one user, the same question, prompts, items, users."""
    at = rows_with_place(pairs, splits)
    user, prompt, chosen, rejected = (pairs[name][at] for name in ("user_id", "prompt", "chosen", "rejected"))
    train, test = ((splits["split"] == name).to_numpy() for name in ("train", "test"))

    def shared(names: list[str], *columns: "np.ndarray") -> int:
        # One place more, for null, which nobody shares.
        train_has, test_has = (
            met(len(names) + 1, *(x[half] for x in columns))[:-1] for half in (train, test)
        )
        return int((train_has & test_has).sum())

    answers, questions = asked_again(user, prompt, chosen, rejected, train, test)
    return {
        "answers_in_train_and_test": answers,
        "questions_in_train_and_test": questions,
        "prompts_in_train_and_test": shared(pairs.names["prompt"], prompt),
        "responses_in_train_and_test": shared(pairs.names["chosen"], chosen, rejected),
        "users_in_train_and_test": shared(pairs.names["user_id"], user),
    }


def asked_again(
    user: "np.ndarray",
    prompt: "np.ndarray",
    chosen: "np.ndarray",
    rejected: "np.ndarray",
    train: "np.ndarray",
    test: "np.ndarray",
) -> tuple[int, int]:
    """Distinct answers (a user's, to a question) and distinct questions of the test that train holds too.

    Args:
        user: Each pair's user, as a code.
        prompt: Its prompt; -1 where there is none.
        chosen: Its response that was chosen.
        rejected: The other, in the same codes.
        train: Which pairs are train's.
        test: Which are the test's.
    """
    import numpy as np

    width = int(max(chosen.max(initial=0), rejected.max(initial=0))) + 1

    def sides(rows: np.ndarray) -> np.ndarray:
        low, high = np.minimum(chosen[rows], rejected[rows]), np.maximum(chosen[rows], rejected[rows])
        return low.astype(np.int64) * width + high

    def question(rows: np.ndarray) -> np.ndarray:
        return _joined(prompt[rows] + np.int64(1), responses.places(sides(rows)), len(responses))

    rows = np.flatnonzero(test)
    responses = _Held(sides(rows))
    questions = _Held(question(rows))
    answers = _Held(_joined(user[rows], questions.places(question(rows)), len(questions)))
    rows = np.flatnonzero(train)
    for start in range(0, len(rows), tables.BLOCK_ROWS):
        some = rows[start : start + tables.BLOCK_ROWS]
        asked = questions.meet(question(some))
        answers.meet(_joined(user[some], asked, len(questions)))
    return int(answers.met.sum()), int(questions.met.sum())


class _Held:
    """The distinct keys of the test, in order, and which of them train turned out to hold too."""

    def __init__(self, keys: "np.ndarray") -> None:
        import numpy as np

        self.keys = np.unique(keys)
        self.met = np.zeros(len(self.keys), dtype=bool)

    def __len__(self) -> int:
        return len(self.keys)

    def places(self, keys: "np.ndarray") -> "np.ndarray":
        """Where keys stand here; -1 where they do not."""
        import numpy as np

        if not len(self.keys):
            return np.full(len(keys), -1)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[place] == keys, place, -1)

    def meet(self, keys: "np.ndarray") -> "np.ndarray":
        """Their places, and mark them as met."""
        place = self.places(keys)
        self.met[place[place >= 0]] = True
        return place


def _joined(code: "np.ndarray", place: "np.ndarray", n_places: int) -> "np.ndarray":
    """One number for a code and a place; -1 where there is no place."""
    import numpy as np

    return np.where(place < 0, -1, code.astype(np.int64) * n_places + place)


def rows_with_place(pairs: Coded, placed: "pl.DataFrame") -> "np.ndarray | slice":
    """The rows of the pairs that have a place, in the order of the places."""
    return tables.rows_of(pairs["pair_id"], placed["pair_id"].to_numpy())


def met(size: int, *columns: "np.ndarray") -> "np.ndarray":
    """Which of so many codes occur; -1 counts as the last."""
    import numpy as np

    found = np.zeros(size, dtype=bool)
    for column in columns:
        found[column] = True
    return found
