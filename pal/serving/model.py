"""A personal reward model at work: score, rank, adapt and ask, from texts, pictures or embeddings.

Shapes used in this module:
    n       responses scored, or questions
    state   numbers of a user's state
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from pal.errors import PalError
from pal.models.losses import preference_probability
from pal.serving.answers import tastes
from pal.serving.items import Item, Items, Rows, listed
from pal.serving.preferences import Preference, Preferences
from pal.serving.questions import Question, joined, read_prompts, read_questions
from pal.serving.reader import Reader
from pal.serving.saved import SavedModel, read_parts
from pal.serving.scoring import rewards
from pal.serving.sharing import Shareable
from pal.users.question_choice import (
    MOST_TOGETHER,
    RankedQuestion,
    answer_probabilities,
    choose_together,
    rank_questions,
)
from pal.users.taste import Taste

User: TypeAlias = str | Taste | Tensor | None
Answers: TypeAlias = Preferences | Sequence[Preference | Mapping[str, Any] | Sequence[Any]]

AT_ONCE = 1 << 15  # raw responses encoded, or questions read, together: bounds memory


class Ranked(NamedTuple):
    """A response in a ranking.

    Args:
        index: Its number as given.
        response: As given; a row where embeddings were.
        reward: Its reward; only differences for one user and one prompt mean anything.
    """

    index: int
    response: Any
    reward: float


@dataclass(frozen=True, repr=False)
class RewardModel(SavedModel, Shareable):
    """Rewards that differ from user to user; see `SavedModel` for what it is made of.

    Items may be texts, pictures (bytes, a `Path`, a PIL image) or embeddings (n, dim), one or many; encoders
    are found from the model's own config. A user is the id of someone seen in fitting; a `Taste` that
    `adapt` gave; a state, (state,) or one row per response; None for the average user; or a list of these
    (but tensors of (state,) alone), one per response.

    Args:
        reader: The model's encoders; by default as `encoder` says, weights where they are by default.
    """

    reader: Reader = field(default=None, compare=False, repr=False)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reader is None:
            object.__setattr__(self, "reader", Reader(self.encoder))

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        weights: Mapping[str, str | Path] | None = None,
        device: str = "cpu",
    ) -> "RewardModel":
        """Read a saved model, with every number checked; encoders are looked for when they are needed.

        Args:
            folder: What `save` wrote.
            weights: Where an encoder's weights come from, by its name: `package`, `hub` or a folder.
            device: Where encoders compute.

        Raises:
            PalError: If a file is missing or damaged, not what `save` writes, or from a newer version.
        """
        parts = read_parts(folder)
        return cls(**parts, reader=Reader(parts["encoder"], weights or {}, device))

    def score(
        self, prompts: Items | None, responses: Items, *, user: User | Sequence[User] = None
    ) -> Float[Tensor, " n"]:
        """Reward each response; only differences for one user and one prompt mean anything.

        Args:
            prompts: One per response, or one for all; None, or anything, where the reward does not depend on
                it.
            responses: What to score, (n, response_dim) as embeddings.
            user: Whose reward; None is the average user.

        Raises:
            PalError: If an item cannot be read, shapes disagree, or the user is unknown.
        """
        found = listed(responses)
        n = len(found)
        asked = self._prompts(prompts, n)
        states = self._states(user, n)
        if isinstance(found, Tensor) or n <= AT_ONCE:
            return rewards(self.head, asked, self._responses(found), states)
        parts = []
        for start in range(0, n, AT_ONCE):
            stop = min(start + AT_ONCE, n)
            part = None if asked is None else Rows(asked.table, asked.rows[start:stop])
            these = states if states.dim() == 1 else states[start:stop]
            parts.append(rewards(self.head, part, self._responses(found[start:stop], start), these))
        return torch.cat(parts)

    def probability(
        self, prompts: Items | None, first: Items, second: Items, *, user: User | Sequence[User] = None
    ) -> Float[Tensor, " n"]:
        """P(first is preferred to second), by the loss that the model was fitted with.

        Args:
            prompts: One per question, or one for all; see `score`.
            first: One response per question.
            second: The other, aligned.
            user: Whose preference, with one row or entry per question where there are several.

        Returns:
            In (0, 1).

        Raises:
            PalError: If an item cannot be read, shapes disagree, or the user is unknown.
        """
        sides = [listed(first), listed(second)]
        n = len(sides[0])
        if len(sides[1]) != n:
            raise PalError(f"second must be as many as first, got {len(sides[1])} and {n}")
        read = read_questions(self, self.reader, prompts, joined(sides))
        states = self._states(user, n).expand(n, self.head.state_dim)
        parts = [torch.zeros(0)]
        with torch.no_grad():
            for start in range(0, n, AT_ONCE):
                rows = torch.arange(start, min(start + AT_ONCE, n))
                features = self.head.question_features(read.embeddings, read.questions[rows])
                parts.append(self.head.margin(features, states[rows]))
        return preference_probability(torch.cat(parts), self.fit_config.loss)

    def rank(self, prompt: Item | None, responses: Items, *, user: User = None) -> list[Ranked]:
        """Responses to one prompt, best first; equal ones as they came.

        Raises:
            PalError: As `score` does.
        """
        found = listed(responses)
        reward = self.score(prompt, found, user=user)
        order = reward.argsort(descending=True, stable=True).tolist()
        return [Ranked(at, found[at], float(reward[at])) for at in order]

    def adapt(self, comparisons: Answers) -> Taste:
        """Locate someone by their comparisons; the model stays as it is.

        One comparison more later is `taste + model.adapt([it])`; to forget it, `taste - model.adapt([it])`.

        Args:
            comparisons: A list of `Preference`, of mappings with prompt, chosen, rejected and perhaps label,
                or of tuples of these; or `Preferences`, columns. May be empty.

        Raises:
            PalError: If an item cannot be read, or a comparison's responses are the same.
        """
        return self.adapt_many({"": comparisons})[""]

    def adapt_many(self, comparisons: Mapping[str, Answers]) -> dict[str, Taste]:
        """Locate many people at once, in bounded memory; see `adapt`.

        Args:
            comparisons: Each person's, by any id.

        Raises:
            PalError: As `adapt` does, naming the person.
        """
        return tastes(self, self.reader, comparisons)

    def ask(
        self,
        questions: Sequence[Any],
        taste: Taste | None = None,
        *,
        n: int | None = None,
        together: bool = False,
    ) -> list[RankedQuestion]:
        """Which of these questions to put next to someone: those whose answers tell most, first.

        Args:
            questions: Candidates, each a `Question`, a mapping with prompt, first and second, or a tuple
                of these.
            taste: What is known of the person; None for someone new.
            n: How many are wanted; all where not given (together: 10).
            together: Whether they are to be asked together, so that none repeats what another tells; else
                each is weighed alone.

        Raises:
            PalError: If an item cannot be read, a question's responses are the same, or the taste is another
                model's.
        """
        rows = [Question.of(one, f"question {number}") for number, one in enumerate(questions)]
        bare = any(row.prompt is None for row in rows)
        read = read_questions(
            self,
            self.reader,
            None if bare else [row.prompt for row in rows],
            listed([row.first for row in rows] + [row.second for row in rows]),
        )
        taste = Taste.empty(self) if taste is None else taste.with_model(self)
        belief = taste.posterior
        probability = answer_probabilities(
            self.head, belief.states.float(), read.embeddings, read.questions, self.fit_config.loss
        )
        if together:
            return choose_together(probability, belief.masses, MOST_TOGETHER if n is None else n)
        return rank_questions(probability, belief.masses)[:n]

    def _prompts(self, prompts: Items | None, n: int) -> Rows | None:
        return read_prompts(self, self.reader, prompts, n, lambda row: f"prompts[{row}]")

    def _responses(self, responses: Tensor | list[Any], start: int = 0) -> Rows:
        where = lambda row: f"responses[{start + row}]"  # noqa: E731
        return self.reader.read(responses, "responses", self.response_dim, where)

    def _states(self, user: User | Sequence[User], n: int) -> Float[Tensor, "*n state"]:
        """The state of a user, or one row per response where users are a list."""
        if isinstance(user, Tensor):
            width = self.head.state_dim
            if tuple(user.shape) not in ((width,), (n, width)):
                raise PalError(
                    f"a state must have the shape ({width},) or ({n}, {width}), got {tuple(user.shape)}"
                )
            if not bool(torch.isfinite(user).all()):
                raise PalError("a state must be finite, got NaN or infinity")
            return user.float()
        if isinstance(user, Taste):
            return user.with_model(self).state
        if user is None or isinstance(user, str):
            return self.state_of(user)
        if not isinstance(user, list | tuple) or len(user) != n:
            got = f"{len(user)}" if isinstance(user, list | tuple) else type(user).__name__
            raise PalError(
                f"user must be an id, a Taste, a state or None, or a list of {n} of these, got {got}"
            )
        known: dict[int, Tensor] = {}
        for one in user:
            if id(one) not in known:
                known[id(one)] = self._states(one, -1)
        rows = [known[id(one)] for one in user]
        return torch.stack(rows) if rows else torch.zeros(0, self.head.state_dim)
