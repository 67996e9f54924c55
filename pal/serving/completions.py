"""What a policy is asked and what it answers, as TRL hands it over, read as plain texts.

TRL gives a list of prompts and one of completions, both either texts or conversations: lists of messages,
mappings with `role` and `content`, the content a text or a list of parts. A reward model was fitted on a
plain prompt and a plain response.
"""

from collections.abc import Mapping
from typing import Any

from pal.errors import PalError


def prompt_text(prompt: Any, where: str = "a prompt") -> str:
    """A prompt as one text.

    Of a conversation, everything that was said in it, in order, with an empty line between messages; system
    messages, which tell the policy how to behave and not what is asked, are left out.

    Args:
        prompt: A text, or a list of messages.
        where: What it is called in messages.

    Raises:
        PalError: If it is neither, or a message holds something else than text.
    """
    if isinstance(prompt, str):
        return prompt
    said = [_content(one, where) for one in _messages(prompt, where) if one["role"] != "system"]
    return "\n\n".join(text for text in said if text)


def completion_text(completion: Any, where: str = "a completion") -> str:
    """A completion as one text: of a conversation, what the assistant said, without calls of tools.

    Raises:
        PalError: If it is neither a text nor a list of messages, or a message holds something else than text.
    """
    if isinstance(completion, str):
        return completion
    said = [_content(one, where) for one in _messages(completion, where) if one["role"] == "assistant"]
    return "\n\n".join(text for text in said if text)


def _messages(given: Any, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(given, list | tuple):
        raise PalError(f"{where} must be a text or a list of messages, got {type(given).__name__}")
    for message in given:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise PalError(
                f"{where} must hold messages with a role and a content, got {type(message).__name__}; give "
                "TRL's conversational format"
            )
    return list(given)


def _content(message: Mapping[str, Any], where: str) -> str:
    content = message.get("content")
    if content is None:  # a call of a tool
        return ""
    parts = [content] if isinstance(content, str) else content
    if not isinstance(parts, list | tuple):
        raise PalError(f"{where} must have contents of text, got {type(content).__name__}")
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, Mapping) else part
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise PalError(f"{where} must have contents of text alone, got a part of the kind {kind!r}")
        texts.append(text)
    return "".join(texts)
