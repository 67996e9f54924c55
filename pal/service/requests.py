"""Typed requests and answers of the service; limits hold before anything is decoded.

An item is a text, messages with role and content, `{"image": base64 of a JPEG, PNG or WebP}`, or an embedding
as a list of numbers. An address is never fetched: a text that holds one is a text.
"""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag
from torch import Tensor
from typing_extensions import TypedDict

from pal.conversations import completion_text, prompt_text
from pal.encoders import complaint
from pal.errors import PalError
from pal.service import RefusedError
from pal.serving.aggregates import Kind
from pal.serving.inputs import Side
from pal.serving.reward_model import RewardModel
from pal.users.taste import Taste

LARGEST_BODY = 16 << 20  # bytes of a request
MOST_ITEMS = 512  # responses, questions or answers of a request
LONGEST_TEXT = 50_000  # characters
LARGEST_IMAGE = 12 << 20  # characters of base64
WIDEST_VECTOR = 16_384
MOST_MESSAGES = 200
# Role headers and special tokens of the common chat templates (ChatML, Llama 3, Gemma, Llama 2).
ROLES = re.compile(r"<\|im_start\|>\w+\n|<\|start_header_id\|>\w+<\|end_header_id\|>\n*|<start_of_turn>\w+\n")
SPECIAL = re.compile(r"<\|[^|<>]*\|>|</?s>|<pad>|<eos>|<bos>|<end_of_turn>|\[/?INST\]")
Raw: TypeAlias = str | bytes | Tensor  # an item as it is encoded
Text = Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]


class Request(BaseModel):
    """What all requests share: names that are not known are refused."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Message(TypedDict):
    """A message of a conversation."""

    __pydantic_config__ = Request.model_config
    role: Annotated[str, StringConstraints(max_length=50)]
    content: Text


class Picture(TypedDict):
    """A picture: base64 of the bytes of a JPEG, PNG or WebP."""

    __pydantic_config__ = Request.model_config
    image: Annotated[str, StringConstraints(max_length=LARGEST_IMAGE)]


def _kind_of(item: Any) -> str:
    if isinstance(item, str):
        return "text"
    if isinstance(item, dict):
        return "image"
    if isinstance(item, list):
        return "messages" if item and isinstance(item[0], dict) else "vector"
    return ""


Item = Annotated[
    Annotated[Text, Tag("text")]
    | Annotated[list[Message], Field(max_length=MOST_MESSAGES), Tag("messages")]
    | Annotated[Picture, Tag("image")]
    | Annotated[
        list[Annotated[float, Field(strict=True, allow_inf_nan=False)]],
        Field(min_length=1, max_length=WIDEST_VECTOR),
        Tag("vector"),
    ],
    Discriminator(
        _kind_of,
        custom_error_type="item",
        custom_error_message='must be a text, messages, {"image": base64} or a list of numbers',
    ),
]
Items = Annotated[list[Item], Field(min_length=1, max_length=MOST_ITEMS)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class OfModel(Request):
    """Which model is meant."""

    model: Id | None = Field(None, description="Its name; may be left out where one is served.")
    model_version: Id | None = Field(None, description="Its fingerprint: another one is refused with 409.")


class AggregateOf(Request):
    """One reward for many people; see `pal.serving.aggregates`."""

    kind: Kind
    share: float = Field(0.5, ge=0, le=1, description="Of the population; quantile alone.")
    user_ids: list[Id] | None = Field(
        None, max_length=MOST_ITEMS, min_length=1, description="By default, the population."
    )
    centred: bool = False


class Whose(OfModel):
    """Whose reward is meant: at most one of these; without one the average user's."""

    user_id: Id | None = Field(None, description="Who answered here, or was seen in fitting.")
    taste: dict[str, Any] | None = Field(None, description="A taste that was exported.")
    aggregate: AggregateOf | None = None


class Rank(Whose):
    """Responses to one prompt."""

    prompt: Item | None = None
    responses: Items


class Score(Rank):
    """Responses to one prompt, or with a prompt each."""

    prompts: Items | None = Field(None, description="In place of prompt: one per response.")
    user_ids: list[Id] | None = Field(
        None, max_length=MOST_ITEMS, description="In place of user_id: one per response."
    )


class Pair(Request):
    """A question: which of two responses is preferred."""

    prompt: Item | None = None
    first: Item
    second: Item


class Compare(Whose, Pair):
    """Two responses to a prompt."""


class Ask(OfModel):
    """Candidates for the next questions; someone unknown is asked as a new user."""

    user_id: Id | None = None
    taste: dict[str, Any] | None = None
    questions: list[Pair] = Field(min_length=1, max_length=MOST_ITEMS)
    n: int = Field(1, ge=1, le=MOST_ITEMS)
    together: bool = False


class Answer(Request):
    """One comparison."""

    prompt: Item | None = None
    chosen: Item
    rejected: Item
    label: float = Field(1.0, ge=0, le=1, description="P(chosen is preferred); 0.5 is a tie.")


class NewAnswers(OfModel):
    """Answers of one person."""

    answers: list[Answer] = Field(min_length=1, max_length=MOST_ITEMS)


class ByModel(BaseModel):
    """What every answer says of the model."""

    model: str
    model_version: str


class Rewards(ByModel):
    """One reward per response; only differences for one user and one prompt mean anything."""

    rewards: list[float]


class RankedResponse(BaseModel):
    """A response by its number in the request."""

    index: int
    reward: float


class Ranking(ByModel):
    """Best first."""

    ranking: list[RankedResponse]


class Probability(ByModel):
    """P(first is preferred to second)."""

    probability: float


class AskedQuestion(BaseModel):
    """A candidate by its number, and the expected information of its answer."""

    index: int
    bits: float


class Asked(ByModel):
    """Most telling first."""

    questions: list[AskedQuestion]


class Person(ByModel):
    """What is known of a person.

    `source` is `answers` for a taste from answers that were given here, `seen` for a state from fitting.
    `version` counts the entries of the person's log; `state` and `sd` describe the belief.
    """

    user_id: str
    source: Literal["answers", "seen"]
    answers: int = 0
    version: int = 0
    state: list[float]
    sd: list[float] | None = None
    taste: dict[str, Any] | None = None


class Added(BaseModel):
    """The version after what was written; `repeated` where it had been written before, by its key."""

    user_id: str
    version: int
    repeated: bool = False


class Model(BaseModel):
    """A model that is served."""

    name: str
    loaded: bool
    version: str | None = None
    users: int | None = None
    population: str | None = None
    needs_prompts: bool | None = None
    encoders: dict[str, str | None] | None = None
    prompt_dim: int | None = None
    response_dim: int | None = None


class OpenRLHF(BaseModel):
    """The request of OpenRLHF's remote reward: texts of prompt and response together, and the prompts."""

    query: list[Text] = Field(max_length=MOST_ITEMS)
    prompts: list[Text] = Field(max_length=MOST_ITEMS)
    labels: list[Any] | None = Field(None, max_length=MOST_ITEMS)


def read_items(items: Sequence[Any], side: Side, name: str) -> list[Raw] | Tensor:
    """Items of a request or the log of answers as they are encoded: texts and bytes, or one table.

    Messages are read as the side needs it; `name` is that of the items in errors.
    """
    if items and all(_kind_of(item) == "vector" for item in items):
        if len({len(item) for item in items}) > 1:
            raise PalError(f"{name} must be embeddings of one width, got several widths")
        with np.errstate(over="ignore"):  # what overflows is refused as infinity, by its place
            return torch.from_numpy(np.asarray(items, dtype=np.float32))
    return [_read_item(item, side, f"{name}[{row}]") for row, item in enumerate(items)]


def split_query(query: str, prompt: str) -> tuple[str, str]:
    """Prompt and response of a text that holds both, without a chat template's special tokens."""
    _, found, response = query.partition(prompt)
    if not found:
        raise PalError("query must hold its prompt, got one that does not; send prompts as they were decoded")
    prompt, response = (SPECIAL.sub("", ROLES.sub("", text)).strip() for text in (prompt, response))
    return prompt, response


def _read_item(item: Any, side: Side, name: str) -> Raw:
    kind = _kind_of(item)
    if kind == "vector":
        raise PalError(f"{name} must be a text or a picture beside others, got an embedding")
    if kind == "image":
        try:
            return base64.b64decode(item["image"], validate=True)
        except (binascii.Error, ValueError):
            raise PalError(f"{name} must be base64 of a picture's bytes, got something else") from None
    if kind == "messages":
        item = (prompt_text if side == "prompts" else completion_text)(item, name)
    if fault := complaint(item):
        raise PalError(f"{name} {fault}; leave it out, or give a text")
    return item


def read_taste(given: dict[str, Any], model: RewardModel) -> Taste:
    """A taste of a request; 409 where it is another model's."""
    taste = Taste.from_json(json.dumps(given))
    try:
        return taste.with_model(model)
    except PalError as error:
        raise RefusedError(409, str(error)) from None
