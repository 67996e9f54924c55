"""TRL's prompts and completions as texts."""

import pytest

from pal.errors import PalError
from pal.serving.completions import completion_text, prompt_text


def said(role, content):
    return {"role": role, "content": content}


def test_a_text_is_itself():
    assert prompt_text(" how? ") == completion_text(" how? ") == " how? "


def test_a_prompt_is_all_that_was_said_but_not_what_the_policy_was_told():
    assert prompt_text([said("system", "be kind"), said("user", "how?")]) == "how?"
    talk = [said("user", "how?"), said("assistant", "so"), said("user", "why?")]
    assert prompt_text(talk) == "how?\n\nso\n\nwhy?"


def test_a_completion_is_what_the_assistant_said():
    talk = [said("assistant", None) | {"tool_calls": []}, said("tool", "42"), said("assistant", "it is 42")]
    assert completion_text(talk) == "it is 42"
    assert completion_text([]) == ""


def test_contents_may_come_in_parts():
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
    assert completion_text([said("assistant", parts)]) == "a b"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (7, "completions.3. must be a text or a list of messages, got int"),
        (["hello"], "messages with a role and a content, got str"),
        ([{"content": "hello"}], "messages with a role"),
        ([said("assistant", 7)], "contents of text, got int"),
        ([said("assistant", [{"type": "image"}])], "text alone, got a part of the kind 'image'"),
        ([said("assistant", [7])], "text alone, got a part of the kind 'int'"),
    ],
)
def test_what_is_no_text_is_refused(given, message):
    with pytest.raises(PalError, match=message):
        completion_text(given, "completions[3]")
