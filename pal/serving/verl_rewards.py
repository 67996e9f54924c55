"""A custom reward function for verl: personal or aggregated rewards, in process or from a service.

    custom_reward_function.path: pkg://pal.serving.verl_rewards
    custom_reward_function.name: compute_score
    custom_reward_function.reward_kwargs: {model: support-model}     # or {url: "http://host:8000"}

A row's `extra_info` must hold `prompt`, a text or messages, where the model reads prompts, and `user_id`
where the reward is to be personal. This module does not import verl: what verl calls is a plain function.
"""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from threading import Lock
from typing import Any

from pal.conversations import prompt_text
from pal.errors import PalError
from pal.serving.aggregates import Aggregate
from pal.serving.reward_model import RewardModel
from pal.serving.trl_rewards import PolicyReward

TRIES = 10  # of a service that is busy, a second apart or as it asks
MOST_AT_ONCE = 512  # responses of a request
_LOCK = Lock()  # verl calls from several threads


def compute_score(
    data_source: Any = None,
    solution_str: str | None = None,
    ground_truth: Any = None,
    extra_info: Mapping[str, Any] | None = None,
    *,
    data_sources: Sequence[Any] | None = None,
    solution_strs: Sequence[str] | None = None,
    ground_truths: Sequence[Any] | None = None,
    extra_infos: Iterable[Mapping[str, Any]] | None = None,
    model: str | None = None,
    url: str | None = None,
    user_id: str | None = None,
    aggregate: str | None = None,
    share: float = 0.5,
    **_: Any,
) -> float | list[float]:
    """The reward of a solution, or of a batch of them, as verl's reward managers call it.

    Args:
        data_source: Not read.
        solution_str: A response; its reward is returned.
        ground_truth: Not read.
        extra_info: The row's; `prompt` and `user_id` are read.
        data_sources: As verl's batch manager calls it; not read.
        solution_strs: Responses, in place of one; their rewards are returned.
        ground_truths: Not read.
        extra_infos: Of each response.
        model: A saved model to load in this process.
        url: Of a service in place of it; its key is PAL_API_KEY.
        user_id: Whose reward; by default that of each row's `user_id`, without one the average user's.
        aggregate: mean, worst, quantile, median or minimax, in place of a user; minimax compares responses
            of a batch to one prompt.
        share: Of the population; quantile alone.

    Raises:
        PalError: If neither or both of model and url are given, or a user is unknown.
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
        with _LOCK:
            rewards = _in_process(_loaded(model), prompts, texts, users, aggregate, share)
    return rewards[0] if one else rewards


_loaded = cache(RewardModel.load)


def _in_process(
    model: RewardModel,
    prompts: list[str],
    texts: list[str],
    users: list[Any],
    aggregate: str | None,
    share: float,
) -> list[float]:
    if aggregate is not None:
        return PolicyReward(model, Aggregate(aggregate, share=share))(prompts, texts)  # type: ignore[arg-type]
    if all(user is None for user in users):
        return PolicyReward(model)(prompts, texts)
    return PolicyReward(model, column="user_id")(prompts, texts, user_id=users)


def _from_service(
    url: str, prompts: list[str], texts: list[str], users: list[Any], aggregate: str | None, share: float
) -> list[float]:
    rewards: list[float] = []
    for start in range(0, len(texts), MOST_AT_ONCE):
        rows = slice(start, start + MOST_AT_ONCE)
        body: dict[str, Any] = {
            "responses": texts[rows],
            "prompts": [prompt or None for prompt in prompts[rows]],
        }
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
                raise PalError(
                    f"{url} answered {error.code}: {error.read(500).decode(errors='replace')}"
                ) from None
            time.sleep(float(error.headers.get("Retry-After", 1)))
        except urllib.error.URLError as error:
            if tries == TRIES:
                raise PalError(f"{url} cannot be reached ({error.reason}); start pal serve there") from None
            time.sleep(1)
    raise AssertionError("unreachable")
