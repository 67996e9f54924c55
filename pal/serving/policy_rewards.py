"""Reward functions that train a policy on personal rewards, by TRL or verl, and the best of n responses.

TRL, where the data set has the columns `prompt` and `user_id`:

    from pal import RewardModel
    from pal.serving.policy_rewards import PolicyReward

    reward = PolicyReward(RewardModel.load("model"), column="user_id")
    trainer = GRPOTrainer(policy, reward_funcs=reward, train_dataset=dataset, args=args)

Prompts and completions may be texts or conversations, lists of messages with `role` and `content`. Rewards
are comparable for one user and one prompt, which is all that GRPO, comparing completions of one row, needs.
Better rewards are not yet a better policy: look at what it writes.

verl, whose rows hold in `extra_info` a `prompt`, a text or messages, where the model reads prompts, and a
`user_id` where the reward is to be personal:

    custom_reward_function.path: pkg://pal.serving.policy_rewards
    custom_reward_function.name: compute_score
    custom_reward_function.reward_kwargs: {model: support-model}     # or {url: "http://host:8000"}
"""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import Any, TypeAlias

import torch

from pal.conversations import completion_text, prompt_text
from pal.encoders import complaint
from pal.errors import PalError
from pal.serving.aggregates import Aggregate, rewards_for
from pal.serving.inputs import Item, Items, as_list
from pal.serving.reward_model import Ranked, RewardModel, User

UserOrAll: TypeAlias = User | Aggregate
TRIES = 10  # of a service that is busy, a second apart or as it asks
MOST_AT_ONCE = 512  # responses of a request
_LOCK = Lock()  # verl calls from several threads
_loaded = cache(RewardModel.load)


@dataclass(eq=False)
class PolicyReward:
    """A reward function in GRPO's signature: for each row's own user, for one user, or for everybody at once.

    A completion with nothing to read, which policies write now and then, cannot be scored. It gets the least
    reward of its batch, so that silence never pays, and is counted in `silent` and in TRL's own log.
    """

    model: RewardModel
    # A user or an aggregate for all rows, None for the average user; not read if there is a column. Where
    # several processes train together, completions of one prompt may come in several batches; leave
    # aggregates uncentred then.
    user: UserOrAll = None
    column: str | None = None  # of user ids; None where all rows have one reward
    # Users who were not seen in fitting, by id, as `adapt_many` gives them; they come before those seen.
    tastes: Mapping[str, User] = field(default_factory=dict)
    silent: int = 0  # completions so far with nothing to read

    def __post_init__(self) -> None:
        # Users are looked up now, so that an unknown one stops before training and not after hours of it.
        for user_id, taste in self.tastes.items():
            if not isinstance(user_id, str):
                raise PalError(f"tastes must be by ids that are text, got {user_id!r}")
            try:
                self.model.state_of(taste)
            except PalError as error:
                raise PalError(f"user {user_id!r}: {error}", user=user_id) from None
        if self.column is None:
            by_all = isinstance(self.user, Aggregate)
            self.user.states(self.model) if by_all else self.model.state_of(self.user)

    @property
    def __name__(self) -> str:  # what TRL logs it under
        if self.column is not None:
            return "pal_personal"
        return f"pal_{self.user.name}" if isinstance(self.user, Aggregate) else "pal_one_user"

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        """Rewards of completions, texts or conversations, to as many prompts.

        Of the columns that TRL passes beside, that of user ids is read, one per completion. A PalError says
        where a user is unknown or not given, or a prompt or completion is no text.
        """
        if len(prompts) != len(completions):
            raise PalError(f"prompts must be as many as completions, {len(completions)}, got {len(prompts)}")
        users = self.user if self.column is None else self._users(columns, len(completions))
        texts = [completion_text(given, f"completions[{row}]") for row, given in enumerate(completions)]
        questions = [self._prompt(given, row) for row, given in enumerate(prompts)]
        spoken = [row for row, text in enumerate(texts) if complaint(text) is None]
        self.silent += len(texts) - len(spoken)
        if log_metric := columns.get("log_metric"):
            log_metric("pal/silent", float(len(texts) - len(spoken)))
        if not spoken:
            return [0.0] * len(texts)
        try:
            given = [[column[row] for row in spoken] for column in (questions, texts)]
            of_rows = [users[row] for row in spoken] if isinstance(users, list) else users
            reward = rewards_for(self.model, *given, of_rows)
        except PalError as error:
            if error.column != "responses" or error.row is None:
                raise
            row = spoken[error.row]
            raise PalError(f"completions[{row}] {error.problem}", row=row) from None
        rewards = torch.full((len(texts),), float(reward.min()))
        rewards[torch.tensor(spoken)] = reward.cpu()
        return rewards.tolist()

    def _users(self, columns: Mapping[str, Any], n: int) -> list[User]:
        """The user of each row."""
        ids = columns.get(self.column)
        if ids is None:
            names = ", ".join(sorted(name for name, value in columns.items() if isinstance(value, list)))
            raise PalError(
                f"the data set must have a column {self.column!r} of users, got {names or 'no columns'}; add "
                "it, or leave `column` out"
            )
        if not isinstance(ids, list | tuple) or len(ids) != n:
            raise PalError(f"{self.column} must be a list of {n}, one per completion, got {ids!r:.80}")
        users = []
        for row, given in enumerate(ids):
            user_id = str(given)
            if not isinstance(given, str | int) or isinstance(given, bool):
                problem = f"must be a user's id, got {given!r}; leave out the row"
                raise PalError(f"{self.column}[{row}] {problem}", row=row)
            users.append(self.tastes.get(user_id, user_id))
        return users

    def _prompt(self, prompt: Any, row: int) -> str:
        if not self.model.reads_prompts:
            # Equal prompts still tell which completions are compared.
            return prompt if isinstance(prompt, str) else repr(prompt)
        text = prompt_text(prompt, f"prompts[{row}]")
        if fault := complaint(text):
            raise PalError(f"prompts[{row}] {fault}; leave out the row", row=row)
        return text


def best_of_n(model: RewardModel, prompt: Item | None, responses: Items, user: UserOrAll = None) -> Ranked:
    """The response to pick for a user, or for an aggregate of many; the first of equals."""
    items = as_list(responses)
    if not len(items):
        raise PalError("responses must hold at least one, got none")
    rewards = rewards_for(model, prompt, items, user, [0] * len(items))
    index = int(rewards.argmax())
    return Ranked(index, items[index], float(rewards[index]))


def compute_score(
    data_source: Any = None,
    solution_str: str | None = None,
    ground_truth: Any = None,
    extra_info: Mapping[str, Any] | None = None,
    *,
    solution_strs: Sequence[str] | None = None,
    extra_infos: Iterable[Mapping[str, Any]] | None = None,
    model: str | None = None,
    url: str | None = None,
    user_id: str | None = None,
    aggregate: str | None = None,
    share: float = 0.5,
    **_: Any,
) -> float | list[float]:
    """The reward of a solution, or of a batch of them, as verl's reward managers call it.

    Of what verl passes, `solution_str` or `solution_strs` are responses, and `prompt` and `user_id` are read
    of `extra_info` or `extra_infos`. The other arguments are `reward_kwargs`:

    - `model`, a saved model to load in this process, or `url`, of a service, whose key is PAL_API_KEY;
    - `user_id`, whose reward; by default that of each row's `user_id`, without one the average user's;
    - `aggregate`, in place of a user: mean, worst, quantile (at `share` of the population), median, or
      minimax, which compares responses of a batch to one prompt.
    """
    if (model is None) == (url is None):
        raise PalError("reward_kwargs must give one of model and url")
    one = solution_strs is None
    texts = [solution_str or ""] if one else list(solution_strs)
    given = [{}] * len(texts) if extra_infos is None else extra_infos
    infos = [extra_info or {}] if one else list(given)
    prompts = [prompt_text(info["prompt"]) if info.get("prompt") else "" for info in infos]
    users = [user_id if user_id is not None else info.get("user_id") for info in infos]
    if url is not None:
        rewards = _from_service(url, prompts, texts, users, aggregate, share)
    else:
        by: dict[str, Any] = {} if aggregate is None else {"user": Aggregate(aggregate, share=share)}  # type: ignore[arg-type]
        if aggregate is None and any(user is not None for user in users):
            by = {"column": "user_id"}
        with _LOCK:
            rewards = PolicyReward(_loaded(model), **by)(prompts, texts, user_id=users)
    return rewards[0] if one else rewards


def _from_service(
    url: str, prompts: list[str], texts: list[str], users: list[Any], aggregate: str | None, share: float
) -> list[float]:
    rewards: list[float] = []
    for start in range(0, len(texts), MOST_AT_ONCE):
        rows = slice(start, start + MOST_AT_ONCE)
        asked = [prompt or None for prompt in prompts[rows]]
        body: dict[str, Any] = {"responses": texts[rows], "prompts": asked}
        if aggregate is not None:
            body["aggregate"] = {"kind": aggregate, "share": share}
        elif any(user is not None for user in users[rows]):
            body["user_ids"] = users[rows]
        rewards += _post(f"{url.rstrip('/')}/v1/score", body)["rewards"]
    return rewards


def _post(url: str, body: dict[str, Any]) -> Any:
    if not url.startswith(("http://", "https://")):
        raise PalError(f"url must begin with http:// or https://, got {url!r}")
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("PAL_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310
    for tries in range(1, TRIES + 1):
        try:
            with urllib.request.urlopen(request, timeout=180) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code not in (429, 503) or tries == TRIES:
                said = error.read(500).decode(errors="replace")
                raise PalError(f"{url} answered {error.code}: {said}") from None
            time.sleep(float(error.headers.get("Retry-After", 1)))
        except urllib.error.URLError as error:
            if tries == TRIES:
                raise PalError(f"{url} cannot be reached ({error.reason}); start pal serve there") from None
            time.sleep(1)
    raise AssertionError("unreachable")
