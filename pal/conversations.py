"""Conversations, lists of messages with `role` and `content`, as the one text that an encoder reads."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from pal.errors import PalError, shorten

TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
ROLES = {"human": "user", "gpt": "assistant", "prompter": "user"}  # others' names, as ShareGPT's
JOINT = "{response}\n\n{prompt}"
"""How prompt and response are one text: the response first, as encoders cut long texts at their end."""


def template_of(item: str, name: str = "item") -> str | None:
    """The template that `item` stands for: None for `separate`, JOINT for `joint`, or a template itself."""
    if item in ("separate", "joint"):
        return JOINT if item == "joint" else None
    if item.count("{prompt}") != 1 or item.count("{response}") != 1:
        rule = "must be separate, joint, or a text with {prompt} and {response} once each"
        raise PalError(f"{name} {rule}, got {shorten(item)}")
    return item


def joint_text(template: str, prompt: str, response: str) -> str:
    """A prompt and a response as one text."""
    return response.join(part.replace("{prompt}", prompt) for part in template.split("{response}"))


def prompt_text(prompt: Any, name: str = "a prompt") -> str:
    """A prompt, a text or a list of messages, as one text: all that was said, with empty lines between.

    System messages are left out: they tell the policy how to behave and not what is asked.
    """
    return _as_text(prompt, name, lambda role: role != "system")


def completion_text(completion: Any, name: str = "a completion") -> str:
    """A completion as one text: of a conversation, what the assistant said, without calls of tools."""
    return _as_text(completion, name, lambda role: role == "assistant")


def parsed_json(cell: str | None) -> Any:
    """What a text holds as JSON; None where it is none."""
    try:
        return None if cell is None else json.loads(cell)
    except (ValueError, RecursionError):
        return None


def messages_of(cell: Any) -> list[dict[str, Any]] | None:
    """A cell as messages with role and content; None where it holds none."""
    if isinstance(cell, str):
        if cell.lstrip().startswith("Human:") and "\n\nAssistant:" in cell:  # HH-RLHF
            _, *parts = TURN.split(cell.strip())
            turns = zip(parts[::2], parts[1::2], strict=True)
            cell = [{"role": role.lower(), "content": said.strip()} for role, said in turns]
        else:
            cell = parsed_json(cell)
    if isinstance(cell, dict):
        cell = cell.get("messages", [cell])
    if not isinstance(cell, list) or not cell or not all(isinstance(each, dict) for each in cell):
        return None
    both = [(each.get("role", each.get("from")), each.get("content", each.get("value"))) for each in cell]
    if not all(isinstance(role, str) for role, _ in both):
        return None
    return [{"role": ROLES.get(role, role), "content": content} for role, content in both]


def split_conversation(prompt: Any, responses: list[Any]) -> tuple[str | None, list[Any], str | None]:
    """A prompt and responses, as texts or conversations, as texts, and what is wrong with them."""
    before = messages_of(prompt)
    asked = prompt if before is None else prompt_text(before)
    talks = [messages_of(response) for response in responses]
    if not talks or None in talks:
        both = zip(responses, talks, strict=True)
        return asked, [each if talk is None else completion_text(talk) for each, talk in both], None
    if any(talk[-1]["role"] != "assistant" for talk in talks):
        return asked, responses, "with a conversation that does not end with the assistant"
    shared = len(talks[0]) - 1 if len(talks) == 1 else 0  # of a single conversation, all but the last turn
    if any(talk != talks[0] for talk in talks):
        while all(len(talk) > shared + 1 and talk[shared] == talks[0][shared] for talk in talks):
            shared += 1
    try:
        opening = prompt_text(talks[0][:shared])
        rest = [completion_text(talk[shared:]) for talk in talks]
    except PalError as error:
        return asked, responses, f"with a conversation that is not text ({error})"
    if asked and opening and not opening.startswith(asked):
        opening = f"{asked}\n\n{opening}"
    return opening or asked, rest, None


def _as_text(given: Any, name: str, is_said: Callable[[str], bool]) -> str:
    """A text as it is, and a conversation as what those of the right role said in it."""
    if isinstance(given, str):
        return given
    if not isinstance(given, list | tuple):
        raise PalError(f"{name} must be a text or a list of messages, got {type(given).__name__}")
    texts = []
    for message in given:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            got = f"got {type(message).__name__}; give TRL's conversational format"
            raise PalError(f"{name} must hold messages with a role and a content, {got}")
        content = message.get("content")
        if content is None or not is_said(message["role"]):  # a message that only calls a tool has none
            continue
        pieces = [content] if isinstance(content, str) else content
        if not isinstance(pieces, list | tuple):
            raise PalError(f"{name} must have contents of text, got {type(content).__name__}")
        pieces = [piece if isinstance(piece, Mapping) else {"text": piece} for piece in pieces]
        for piece in pieces:
            if not isinstance(piece.get("text"), str):
                kind = piece.get("type", type(piece.get("text")).__name__)
                raise PalError(f"{name} must have contents of text alone, got a part of the kind {kind!r}")
        texts.append("".join(piece["text"] for piece in pieces))
    return "\n\n".join(filter(None, texts))
