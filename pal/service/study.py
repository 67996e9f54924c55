"""Collecting answers: which pair a participant sees next, and on which side its responses stand.

Everything follows from the answers so far and the participant's id, so that a page that is loaded again, or
an answer that is sent twice, finds the same question.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pal.errors import PalError
from pal.service.demo import Demo, Pair
from pal.users.taste import Taste

Reason = Literal["telling", "random", "repeat"]


class Shown(NamedTuple):
    """A question as it is shown: its number, why it was chosen, and whether its sides are exchanged."""

    number: int
    reason: Reason
    exchanged: bool


@dataclass(frozen=True)
class Study:
    """How questions are put.

    Args:
        demo: The questions, and the model that knows which tell most.
        consent: What participants agree to; empty asks for nothing.
        random_share: Of questions drawn at random, so that the answers stay usable for evaluation.
        repeat_every: After so many answers an earlier question comes again, exchanged; 0 repeats none.
        questions: Answers after which a participant is done; by default when none is left.
    """

    demo: Demo
    consent: str = ""
    random_share: float = 0.2
    repeat_every: int = 10
    questions: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.random_share <= 1:
            raise PalError(f"--random must be a share from 0 to 1, got {self.random_share:g}")

    def next(self, user_id: str, taste: Taste | None, answers: Sequence[dict[str, Any]]) -> Shown | None:
        """The next question of a participant; None at the end."""
        n, demo = len(answers), self.demo
        if self.questions is not None and n >= self.questions:
            return None
        draw = random.Random(f"{user_id}\n{n}")  # noqa: S311
        first_of_two = random.Random(f"{user_id}\n{n // 2}\nside").random() < 0.5  # noqa: S311
        exchanged = first_of_two ^ bool(n % 2)  # each side once in every two questions
        answered = {key_of(answer) for answer in answers}
        before = [answer for answer in answers if answer.get("reason") != "repeat"]
        if self.repeat_every and n % (self.repeat_every + 1) == self.repeat_every and before:
            again = draw.choice(before)
            if (number := demo.numbers.get(key_of(again))) is not None:
                return Shown(number, "repeat", exchanged=not again.get("exchanged", False))
        left = [number for number in range(len(demo.pairs)) if demo.is_open(number, answered)]
        if not left:
            return None
        if draw.random() < self.random_share:
            return Shown(draw.choice(left), "random", exchanged)
        belief = (taste or Taste.empty(demo.model)).posterior
        number = demo.next_question(demo.probabilities(belief.states), belief, answered)
        return None if number is None else Shown(number, "telling", exchanged)


def key_of(answer: dict[str, Any]) -> str:
    """The question of an answer."""
    return Pair(answer.get("prompt"), answer["chosen"], answer["rejected"]).key


def consistency(answers: Sequence[dict[str, Any]]) -> float | None:
    """Share of repeated questions that were answered as before; None without any."""
    first: dict[str, Any] = {}
    same = []
    for answer in answers:
        if answer.get("reason") == "repeat" and key_of(answer) in first:
            same.append(first[key_of(answer)] == (answer["chosen"], answer.get("label", 1.0)))
        first.setdefault(key_of(answer), (answer["chosen"], answer.get("label", 1.0)))
    return sum(same) / len(same) if same else None
