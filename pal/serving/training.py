"""Training a policy on personal rewards: reward functions for TRL, and the best of n responses.

    from pal import RewardModel
    from pal.serving.training import reward_for_users

    reward = reward_for_users(RewardModel.load("model"))
    trainer = GRPOTrainer(policy, reward_funcs=reward, train_dataset=dataset, args=args)

where the data set has the columns `prompt` and `user_id`. Nothing here imports TRL: what it calls is a plain
function of lists. Rewards are comparable for one user and one prompt, which is all that GRPO, comparing
completions of one row, needs. Better rewards are not yet a better policy: look at what it writes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pal.encoders.texts import complaint
from pal.errors import PalError
from pal.serving.aggregates import Aggregate, rewards_at, state_of
from pal.serving.completions import completion_text, prompt_text
from pal.serving.items import Item, Items, listed
from pal.serving.model import Ranked, RewardModel, User
from pal.serving.questions import joined

Whom = User | Aggregate


@dataclass(eq=False)
class PolicyReward:
    """A reward function in GRPO's signature; made by `reward_for_users`, `reward_for` or `reward_for_all`.

    A completion with nothing to read, which policies write now and then, cannot be scored; it gets the least
    reward of its batch, so that silence never pays, and is counted in `silent` and in TRL's own log.

    Args:
        model: What rewards.
        whom: A user or an aggregate for all rows; not read where there is a column.
        column: The column of user ids; None where all rows have one reward.
        tastes: Users who were not seen in fitting, by id; they come before those seen.
        read_prompt: A prompt of TRL's, a text or messages, to the text that the model was fitted on.
        silent: Completions so far with nothing to read.
    """

    model: RewardModel
    whom: Whom = None
    column: str | None = None
    tastes: Mapping[str, User] = field(default_factory=dict)
    read_prompt: Callable[[Any], str] = prompt_text
    silent: int = 0

    def __post_init__(self) -> None:
        for user_id, taste in self.tastes.items():
            if not isinstance(user_id, str):
                raise PalError(f"tastes must be by ids that are text, got {user_id!r}")
            _named(state_of, self.model, taste, where=f"user {user_id!r}")
        if self.column is None and isinstance(self.whom, Aggregate):
            self._points = self.whom.points(self.model)
        elif self.column is None:
            state_of(self.model, self.whom)

    @property
    def __name__(self) -> str:  # what TRL logs it under
        if self.column is not None:
            return "pal_personal"
        return f"pal_{self.whom.name}" if isinstance(self.whom, Aggregate) else "pal_one_user"

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        """Rewards of completions.

        Args:
            prompts: Texts or conversations, as many as completions.
            completions: Texts or conversations.
            columns: Whatever else TRL hands over; the column of user ids is read, one per completion.

        Raises:
            PalError: If a user is unknown or not given, or a prompt or completion is no text.
        """
        _check_lists(prompts, completions)
        users = self._users(columns, len(completions))
        texts = [completion_text(one, f"completions[{row}]") for row, one in enumerate(completions)]
        asked = [self._prompt(one, row) for row, one in enumerate(prompts)]
        spoken = [row for row, text in enumerate(texts) if complaint(text) is None]
        self._count(len(texts) - len(spoken), columns.get("log_metric"))
        if not spoken:
            return [0.0] * len(texts)
        found = self._rewards(
            [asked[row] for row in spoken],
            [texts[row] for row in spoken],
            None if users is None else [users[row] for row in spoken],
        )
        if not bool(torch.isfinite(found).all()):
            at = int((~torch.isfinite(found)).nonzero()[0])
            raise PalError(
                f"the reward of completions[{spoken[at]}] must be finite, got {float(found[at])}; the head's "
                "numbers overflow, so fit again"
            )
        rewards = torch.full((len(texts),), float(found.min()))
        rewards[torch.tensor(spoken)] = found.cpu()
        return rewards.tolist()

    def _rewards(self, prompts: list[str], texts: list[str], users: list[User] | None) -> Tensor:
        asked = prompts if self.model.head.needs_prompts else None
        if users is not None:
            return self.model.score(asked, texts, user=users)
        if not isinstance(self.whom, Aggregate):
            return self.model.score(asked, texts, user=self.whom)
        points, mass = self._points
        return self.whom.of(rewards_at(self.model, asked, texts, points), mass, prompts)

    def _users(self, columns: Mapping[str, Any], n: int) -> list[User] | None:
        """Each row's user; None where all rows have one reward."""
        if self.column is None:
            return None
        ids = columns.get(self.column)
        if ids is None:
            there = ", ".join(sorted(name for name, value in columns.items() if isinstance(value, list)))
            raise PalError(
                f"the data set must have a column {self.column!r} of users, got {there or 'no columns'}; add "
                "it, or use reward_for or reward_for_all"
            )
        if not isinstance(ids, list | tuple) or len(ids) != n:
            raise PalError(f"{self.column} must be a list of {n}, one per completion, got {ids!r:.80}")
        known: dict[Any, User] = {}
        for row, user_id in enumerate(ids):
            if not isinstance(user_id, str | int) or isinstance(user_id, bool):
                raise PalError(
                    f"{self.column}[{row}] must be a user's id, got {user_id!r}; leave out the row"
                )
            if user_id not in known:
                known[user_id] = self._user(str(user_id), row)
        return [known[user_id] for user_id in ids]

    def _user(self, user_id: str, row: int) -> User:
        if user_id in self.tastes:
            return self.tastes[user_id]
        if user_id in self.model.rows:
            return user_id
        raise PalError(
            f"{self.column}[{row}] must be one of the {len(self.model.rows)} users seen in fitting or the "
            f"{len(self.tastes)} given tastes, got {user_id!r}; adapt to the user's comparisons first, "
            "reward_for_users(model, tastes={id: model.adapt(comparisons)})"
        )

    def _prompt(self, prompt: Any, row: int) -> str:
        if not self.model.head.needs_prompts:
            # Equal prompts still tell which completions are compared.
            return prompt if isinstance(prompt, str) else repr(prompt)
        if self.read_prompt is prompt_text:
            text = prompt_text(prompt, f"prompts[{row}]")
        else:
            text = self.read_prompt(prompt)
        if not isinstance(text, str):
            raise PalError(f"read_prompt must give a text for prompts[{row}], got {type(text).__name__}")
        if fault := complaint(text):
            raise PalError(f"prompts[{row}] {fault}; leave out the row")
        return text

    def _count(self, silent: int, log_metric: Callable[[str, float], None] | None) -> None:
        self.silent += silent
        if log_metric is not None:
            log_metric("pal/silent", float(silent))


def reward_for_users(
    model: RewardModel,
    tastes: Mapping[str, User] | None = None,
    *,
    column: str = "user_id",
    read_prompt: Callable[[Any], str] = prompt_text,
) -> PolicyReward:
    """A reward function that serves each row's own user.

    Args:
        model: What rewards.
        tastes: Users who were not seen in fitting, by id: what `model.adapt_many` gives. May also hold
            weights, or others for users who were seen.
        column: The data set's column of ids.
        read_prompt: A prompt of TRL's, a text or messages, to the text that the model was fitted on.

    Raises:
        PalError: If a taste is another model's.
    """
    return PolicyReward(model, None, column, dict(tastes or {}), read_prompt)


def reward_for(
    model: RewardModel, user: User, *, read_prompt: Callable[[Any], str] = prompt_text
) -> PolicyReward:
    """A reward function that serves one user alone; None is the average user, as in `RewardModel.score`.

    Raises:
        PalError: If the user is unknown.
    """
    return PolicyReward(model, user, read_prompt=read_prompt)


def reward_for_all(
    model: RewardModel, aggregate: Aggregate, *, read_prompt: Callable[[Any], str] = prompt_text
) -> PolicyReward:
    """A reward function that serves everybody at once: see `Aggregate`.

    Where several processes train together, completions of one prompt may come in several batches; leave
    aggregates uncentred then.

    Raises:
        PalError: If a group is unknown.
    """
    if not isinstance(aggregate, Aggregate):
        raise PalError(f"aggregate must be an Aggregate, got {type(aggregate).__name__}; for one, reward_for")
    return PolicyReward(model, aggregate, read_prompt=read_prompt)


def best_of_n(model: RewardModel, prompt: Item | None, responses: Items, user: Whom = None) -> Ranked:
    """The response to pick for a user, or for an aggregate of many; the first of equals.

    Args:
        model: What rewards.
        prompt: What all answer; None where the reward does not depend on it.
        responses: At least one.
        user: Whom to pick for; None is the average user.

    Raises:
        PalError: If there are no responses, an item cannot be read, or the user is unknown.
    """
    return best_of_each(model, None if prompt is None else [prompt], [responses], user)[0]


def best_of_each(
    model: RewardModel,
    prompts: Sequence[Item] | None,
    responses: Sequence[Items],
    users: Whom | Sequence[User] = None,
) -> list[Ranked]:
    """`best_of_n` for many prompts, everything encoded together.

    Args:
        model: What rewards.
        prompts: One per group of responses.
        responses: Groups of at least one response.
        users: One for all, or a list of one per group.

    Raises:
        PalError: As `best_of_n` does, or if lengths disagree.
    """
    groups = [listed(group) for group in responses]
    counts = [len(group) for group in groups]
    if 0 in counts:
        raise PalError(f"responses[{counts.index(0)}] must hold at least one response, got none")
    if prompts is not None and len(prompts) != len(groups):
        raise PalError(f"prompts must be one per group of responses, {len(groups)}, got {len(prompts)}")
    if isinstance(users, list | tuple) and len(users) != len(groups):
        raise PalError(f"users must be one per group of responses, {len(groups)}, got {len(users)}")
    if not groups:
        return []
    flat = joined(groups)
    asked = None if prompts is None else listed(list(prompts))
    if asked is not None:
        at = [number for number, count in enumerate(counts) for _ in range(count)]
        asked = asked[torch.tensor(at)] if isinstance(asked, Tensor) else [asked[number] for number in at]
    reward = _scored(model, asked, flat, users, counts)
    best = []
    for group, own in zip(groups, reward.split(counts), strict=True):
        at = int(own.argmax())
        best.append(Ranked(at, group[at], float(own[at])))
    return best


def _scored(
    model: RewardModel, asked: Any, flat: Any, users: Whom | Sequence[User], counts: list[int]
) -> Tensor:
    if isinstance(users, Aggregate):
        points, mass = users.points(model)
        at = [number for number, count in enumerate(counts) for _ in range(count)]
        return users.of(rewards_at(model, asked, flat, points), mass, at)
    if isinstance(users, list | tuple):
        users = [user for user, count in zip(users, counts, strict=True) for _ in range(count)]
    return model.score(asked, flat, user=users)


def _check_lists(prompts: Any, completions: Any) -> None:
    for name, given in (("prompts", prompts), ("completions", completions)):
        if not isinstance(given, list | tuple):
            raise PalError(f"{name} must be a list of texts or conversations, got {type(given).__name__}")
    if len(prompts) != len(completions):
        raise PalError(f"prompts must be as many as the {len(completions)} completions, got {len(prompts)}")


def _named(check: Callable[..., Any], *given: Any, where: str) -> None:
    try:
        check(*given)
    except PalError as error:
        raise PalError(f"{where}: {error}") from None
